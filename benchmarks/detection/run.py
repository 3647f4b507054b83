"""Measure drift detection on streams with known drift, and write docs/detection.md.

    python -m benchmarks.detection --data-dir DIR

DIR holds `mnist/`, `usps/`, `lobo_synthetic/` and `elec2/`; `data.py` names the files. A piece of
work that is done is kept under `--out` and done again only when the code behind it has changed.
"""

from __future__ import annotations

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.detection import cost, tables
from benchmarks.detection.figures import Results
from benchmarks.detection.streams import DRIFTS, NO_DRIFT
from benchmarks.detection.tasks import (
    Task,
    all_tasks,
    execute,
    frozen_tasks,
    is_done,
    source_digest,
)
from benchmarks.detection.worlds import MODELS, Folders, images


def do(task: Task, folders: Folders, out: Path) -> float:
    """Do a task in a worker process; return its seconds."""
    import torch

    torch.set_num_threads(1)
    started = time.perf_counter()
    execute(task, folders, out)
    return time.perf_counter() - started


def run(stages: list[list[Task]], folders: Folders, out: Path, jobs: int) -> None:
    """Do what is not done yet, stage by stage."""
    context = get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        for number, stage in enumerate(stages, 1):
            due = [task for task in stage if not is_done(task, out)]
            print(f"stage {number}: {len(due)} of {len(stage)} to do", flush=True)
            started = time.perf_counter()
            pending = {pool.submit(do, task, folders, out): task for task in due}
            for count, future in enumerate(as_completed(pending), 1):
                task = pending[future]
                seconds = future.result()
                if seconds > 10 or count % 50 == 0:
                    print(
                        f"  {count}/{len(due)} {task.kind} {task.name} {task.part} {seconds:.0f} s",
                        flush=True,
                    )
            print(f"  {time.perf_counter() - started:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("build/detection"))
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--calibration-seeds", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="", help="part of a stream's name; writes no page")
    options = parser.parse_args()
    folders = Folders(options.data_dir, options.out / "models" / source_digest("models")[:16])
    streams = [name for name in (*DRIFTS, *NO_DRIFT) if options.only in name]
    for k in range(MODELS):
        images(folders, k)  # trained once, before processes share the work
    stages = all_tasks(streams, options.seeds, options.calibration_seeds)
    if not options.only:
        stages[-1] += frozen_tasks()
    run(stages, folders, options.out, options.jobs)
    if options.only:
        return
    results = Results(options.out, options.seeds, options.calibration_seeds)
    tables.write(results, folders, options.docs, cost.kept(options.out))
