"""Retrain by every method at equal compute, and write docs/retraining.md.

    python -m benchmarks.retraining --data-dir DIR              # an hour or so on two cores
    python -m benchmarks.retraining --data-dir DIR --develop    # chooses learning rates first
    python -m benchmarks.retraining --data-dir DIR --quick      # a look, in two minutes

DIR holds `mnist/`, `fashion_mnist/`, `usps/`, `cifar10_jpg/`, `insects_gradual/` and `elec2/`.
A run that is made is kept under `--out`, and made again only when its code has changed.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.retraining import design, rivals, tables
from benchmarks.retraining.jobs import Job, execute, units
from benchmarks.retraining.results import Results
from benchmarks.retraining.tasks import TASKS
from benchmarks.retraining.worlds import OUT, unpack

QUICK_TASKS, QUICK_METHODS = ("mnist-usps", "electricity"), ("bandit", "finetune", "random")


def make(jobs: Sequence[Job], data_dir: Path, out: Path, processes: int) -> None:
    """Make what is not made yet."""
    due = units(job for job in jobs if not job.is_done(out))
    total, done, started = sum(map(len, due)), 0, time.perf_counter()
    print(f"{total} of {len(jobs)} runs to make", flush=True)
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        pending = {pool.submit(execute, unit, data_dir, out): unit for unit in due}
        for future in as_completed(pending):
            unit, done = pending[future], done + future.result()
            print(
                f"  {done}/{total} {unit[0].task}, seed {unit[0].seed}, "
                f"{time.perf_counter() - started:.0f} s",
                flush=True,
            )


def develop(
    tasks: Sequence[str], methods: Sequence[str], data_dir: Path, out: Path, processes: int
) -> None:
    """Choose learning rates, then the strengths of rivals' penalties, on development seeds."""
    cells = [(task, method) for task in tasks for method in (*methods, design.FULL)]
    rates = {cell: design.rate_jobs(*cell) for cell in cells}
    make(flat(rates), data_dir, out, processes)
    rate = {cell: design.best(runs, out) for cell, runs in rates.items()}
    strengths = {cell: design.strength_jobs(*cell, rate[cell]) for cell in cells}
    make(flat(strengths), data_dir, out, processes)
    chosen: dict[str, dict[str, dict[str, float]]] = {}
    for (task, method), runs in strengths.items():
        found = {"learning_rate": rate[task, method]}
        if runs:
            found["strength"] = design.best(runs, out)
        chosen.setdefault(task, {})[method] = found
    design.write_tuned(chosen)


def flat(cells: Mapping[Any, Mapping[Any, Sequence[Job]]]) -> list[Job]:
    """Return the jobs of all cells."""
    return [job for runs in cells.values() for jobs in runs.values() for job in jobs]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.retraining", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--only", default="", help="part of a task's name; writes no page")
    parser.add_argument("--methods", default="", help="as bandit,random; writes no page")
    parser.add_argument(
        "--develop", action="store_true", help="choose learning rates on development seeds"
    )
    parser.add_argument("--quick", action="store_true", help="one seed, two tasks, three methods")
    parser.add_argument("--without-avalanche", action="store_true")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    without = options.without_avalanche or options.quick
    methods = design.compared(without)
    tasks = [name for name in TASKS if options.only in name]
    seeds, docs = options.seeds, options.docs
    if options.methods:
        methods = tuple(options.methods.split(","))
    if options.quick:
        tasks, methods, seeds = list(QUICK_TASKS), QUICK_METHODS, 1
        docs = options.out / "quick"
    if any(name in rivals.METHODS for name in methods):
        rivals.prepare()
    unpack(options.data_dir, options.out, tasks)
    if options.develop:
        develop(tasks, methods, options.data_dir, options.out, options.jobs)
        return
    tuned = design.read_tuned()
    jobs = [j for task in tasks for j in design.frontier_jobs(task, methods, seeds, tuned)]
    if not (options.quick or options.methods):
        jobs += flat({task: design.ablation_jobs(task, seeds, tuned) for task in tasks})
    make(jobs, options.data_dir, options.out, options.jobs)
    if not (options.only or options.methods):
        results = Results(options.out, tuple(tasks), methods, seeds, tuned, not options.quick)
        tables.write(results, docs)
