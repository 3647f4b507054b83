"""Retrain by every method at equal compute, and write docs/retraining.md.

    python -m benchmarks.retraining --data-dir DIR                 # 25 minutes on two cores
    python -m benchmarks.retraining --data-dir DIR --quick         # a look, in five minutes
    python -m benchmarks.retraining --data-dir DIR --tasks FILE    # the same on tasks of your own
    python -m benchmarks.retraining --data-dir DIR --develop       # chooses the rivals' batch sizes

docs/retraining.md says where the data sets come from, and what a file of tasks holds. A run that
is made is kept under `--out` and not made again; asked again, the command goes on where it stopped.
The page is written of whatever is there, and its runs into a file beside it, which count as made.
Raise `VERSION` in `place.py` when results change.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.retraining import design, lifelong, record, rivals, tables
from benchmarks.retraining.jobs import Job, execute, units
from benchmarks.retraining.place import OUT, VERSION, Place
from benchmarks.retraining.results import Results
from benchmarks.retraining.tasks import TASKS
from benchmarks.retraining.worlds import unpack

QUICK_TASKS, QUICK_METHODS = ("mnist-usps", "insects"), ("bandit", "finetune", "random", "der++")
QUICK_MINUTES = 4.0


def make(stages: Sequence[Sequence[Job]], place: Place, processes: int, minutes: float) -> int:
    """Make what is not made yet, stage by stage; begin nothing when the minutes are over.

    Returns:
        Groups of runs that failed; each was told.
    """
    due = deque(unit for jobs in stages for unit in units(j for j in jobs if not j.is_done(place)))
    total, done, failed, started = sum(map(len, due)), 0, 0, time.monotonic()
    print(f"{total} of {sum(map(len, stages))} runs to make", flush=True)
    pending: dict[Future[int], list[Job]] = {}
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        while due or pending:
            over = time.monotonic() - started > 60 * minutes
            while due and len(pending) < processes and not over:
                unit = due.popleft()
                pending[pool.submit(execute, unit, place)] = unit
            if not pending:
                print(f"time is over; {sum(map(len, due))} runs are left", flush=True)
                break
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                unit = pending.pop(future)
                try:
                    done += future.result()
                except (RuntimeError, ValueError, OSError) as error:
                    failed += 1
                    print(f"  failed: {unit[0].name()}: {error}", flush=True)
                seconds = time.monotonic() - started
                print(f"  {done}/{total} {unit[0].name()}, {seconds:.0f} s", flush=True)
    return failed


def develop(methods: Sequence[str], place: Place, processes: int) -> None:
    """Choose the batch size of every rival on development tasks and seeds."""
    trials = {name: design.trials(name) for name in methods if name != design.OURS}
    runs = [job for sizes in trials.values() for jobs in sizes.values() for job in jobs]
    make([runs], place, processes, float("inf"))
    design.write_tuned({name: design.best(sizes, place) for name, sizes in trials.items()})


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.retraining", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=OUT, help="results, kept from call to call")
    parser.add_argument("--docs", type=Path, help="where the page goes")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--minutes", type=float, default=25.0, help="then nothing more is begun")
    parser.add_argument("--tasks", type=Path, help="Python file with tasks, instead of ours")
    parser.add_argument("--only", default="", help="part of a task's name; the page is of it alone")
    parser.add_argument("--quick", action="store_true", help="one seed, two tasks, four methods")
    parser.add_argument("--page", action="store_true", help="write the page and make no run")
    parser.add_argument("--large", action="store_true", help="wide networks, on a GPU if there is")
    parser.add_argument(
        "--develop", action="store_true", help="choose batch sizes on development tasks and seeds"
    )
    parser.add_argument("--without-avalanche", action="store_true")
    return parser.parse_args()


def page_folder(options: argparse.Namespace) -> Path:
    """Return where the page goes: into docs/ only if it is of everything."""
    if options.docs is not None:
        return Path(options.docs)
    parts = [options.tasks.stem] if options.tasks else []
    parts += [name for name in ("quick", "large") if getattr(options, name)]
    parts += [options.only] if options.only else []
    return options.out / "-".join(parts) if parts else Path("docs")


def main() -> None:
    options = arguments()
    folder = page_folder(options)
    kept = record.FILE if folder == Path("docs") else None
    place = Place(options.data_dir, options.out, options.tasks, options.large, record=kept)
    tasks = place.add_tasks() or list(TASKS)
    tasks = [name for name in tasks if options.only in name]
    tasks.sort(key=design.DEVELOPMENT_TASKS.__contains__)  # what is reported comes first
    methods = design.compared(options.without_avalanche or options.quick or options.large)
    seeds, sequences = options.seeds, () if options.only or options.tasks else lifelong.SEQUENCES
    if options.quick:
        tasks, methods, seeds, sequences = list(QUICK_TASKS), QUICK_METHODS, 1, ()
        options.minutes = min(options.minutes, QUICK_MINUTES)
    tuned, failed = design.read_tuned(), 0
    if not options.page:
        if any(name in rivals.METHODS for name in methods):
            rivals.prepare()
        unpack(place, tasks)
        if options.develop:
            develop(methods, place, options.jobs)
            return
        stages = design.stages(tasks, methods, seeds, sequences, tuned)
        failed = make(stages, place, options.jobs, options.minutes)
    results = Results(place, tuple(tasks), methods, seeds, tuple(sequences), tuned)
    tables.write(results, folder)
    if kept is not None:
        jobs = [job for some in results.planned for job in some]
        made = {job.name(): run for job in jobs if (run := job.read(place))}
        record.write(kept, VERSION, {**place.recorded, **made})
    if failed:
        sys.exit(f"{failed} groups of runs failed; the page has dashes in their place")
