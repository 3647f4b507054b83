"""How often the loop would retrain for nothing, where rows are harder at times but nothing changes.

    python -m benchmarks.false_retrainings [--seeds 3] [--rows 60000]

Three classes, well apart; the model answers as well as any could, and what it gets wrong is noise
of the labels, at the rate that the world says. So every retraining is for nothing. Labels come 200
rows late; the reference has 1,000 rows of the same world; the stated time is the budget of 20,000
rows between false drifts. `worse` retrains on every drift, `better` when a challenger is better as
well (lifecycle.retrain_when); after each the monitor is armed anew on the same reference. `season`
is `worse` where the monitor is told how long the cycle is (monitor.season); of it, the first cycle
after each arming is for learning.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from undrift.evidence import Level
from undrift.monitor.monitor import Monitor
from undrift.monitor.settings import MonitorSettings
from undrift.records import Labels, Predictions, Reference

BUDGET, LAG, TICK, REFERENCE, CLASSES = 20_000, 200, 200, 1_000, 3
Numbers = NDArray[np.float64]
RNG = np.random.Generator


def constant(n: int, _: RNG) -> Numbers:
    return np.full(n, 0.1)


def autoregressive(n: int, rng: RNG) -> Numbers:
    level, steps = np.empty(n), rng.normal(size=n)
    level[0] = steps[0]
    for i in range(1, n):
        level[i] = 0.99 * level[i - 1] + np.sqrt(1.0 - 0.99**2) * steps[i]
    return 0.2 / (1.0 + np.exp(-level))


def cycle(n: int, rng: RNG, *, period: int) -> Numbers:
    begun = rng.uniform(0.0, period)
    return 0.1 * (1.0 + 0.5 * np.sin(2.0 * np.pi * (begun + np.arange(n)) / period))


def bursts(n: int, rng: RNG, *, dwell: int) -> Numbers:
    turns = rng.random(n) < 1.0 / dwell
    return np.where(np.cumsum(turns) % 2 == 0, 0.05, 0.2)


PERIODS = {f"cycle of {p:,} rows": p for p in (200, 1000, 5000, 20_000)}
ERRORS: dict[str, Callable[[int, RNG], Numbers]] = {
    "independent": constant,
    "AR(1) of the error rate, 0.99": autoregressive,
    **{name: partial(cycle, period=period) for name, period in PERIODS.items()},
    **{f"bursts of {d:,} rows": partial(bursts, dwell=d) for d in (20, 100, 500, 2000)},
    "class mix in a cycle of 5,000 rows": constant,
}
POLICIES = ("worse", "season", "better")


def mix(world: str, n: int, rng: RNG) -> NDArray[np.int64]:
    """Return the true class (n,) of each row."""
    first = np.full(n, 1.0 / CLASSES)
    if world.startswith("class mix"):
        first += 0.25 * np.sin(2.0 * np.pi * (rng.uniform(0, 5000) + np.arange(n)) / 5000)
    return np.where(rng.random(n) < first, 0, rng.integers(1, CLASSES, n))


def draw(world: str, n: int, rng: RNG) -> tuple[Predictions, NDArray[np.int64]]:
    """Return answers and labels of n rows."""
    true, rate = mix(world, n, rng), ERRORS[world](n, rng)
    x = (6.0 * np.eye(CLASSES, 4)[true] + rng.normal(size=(n, 4))).astype(np.float32)
    y = np.where(rng.random(n) < rate, (true + rng.integers(1, CLASSES, n)) % CLASSES, true)
    output = np.full((n, CLASSES), 0.05, dtype=np.float32)
    output[np.arange(n), x[:, :CLASSES].argmax(axis=1)] = 0.9
    embedding = np.tanh(x @ np.random.default_rng(0).normal(size=(4, 8)) / 4.0).astype(np.float32)
    ids = tuple(map(str, range(n)))
    rows, versions = np.arange(n), np.ones(n, dtype=np.int64)
    return Predictions(ids, rows, rows / 100.0, versions, x, embedding, output), y


def play(world: str, policy: str, seed: int, rows: int) -> int:
    """Return how often a policy would have retrained."""
    rng = np.random.default_rng([seed, *world.encode()])
    known, y = draw(world, REFERENCE, rng)
    recent = np.ones(REFERENCE, dtype=np.bool_)
    reference = Reference(known.x, y, known.embedding, known.output, recent)
    season = f"{PERIODS[world]} rows" if policy == "season" else None
    settings = MonitorSettings(rows_per_false_drift=BUDGET, season=season)
    monitor = Monitor(settings, reference, 1)
    stream, y = draw(world, rows, rng)
    found = 0
    for start in range(0, rows, TICK):
        due = slice(max(0, start + TICK - LAG - TICK), max(0, start + TICK - LAG))
        labels = Labels(stream.ids[due], y[due], stream.at[due]) if due.stop else None
        monitor.fold(stream.take(np.arange(start, min(start + TICK, rows))), labels)
        evidence = monitor.evidence()
        if evidence.level is Level.DRIFT and (policy != "better" or evidence.better is not None):
            found += 1
            monitor.rearm(1, reference, regime_start=start)
    return found


def page(found: dict[tuple[str, str], list[int]], rows: int) -> str:
    """Return the table."""
    lines = ["| world | " + " | ".join(f"{p}: retrainings, realised / stated" for p in POLICIES)]
    lines[0] += " |\n"
    lines.append("|---|---|---|\n")
    for world in ERRORS:
        cells = []
        for policy in POLICIES:
            counts = found.get((world, policy), [])
            if not counts:
                cells.append("")
                continue
            total = sum(counts)
            ratio = rows * len(counts) / BUDGET / max(total, 1)
            cells.append(f"{total} {counts}, {'over ' if not total else ''}{ratio:.2f}")
        lines.append(f"| {world} | {' | '.join(cells)} |\n")
    return "".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--table", type=Path, default=Path("docs/false_retrainings.md"))
    options = parser.parse_args()
    jobs = [
        (w, p, s)
        for s in range(options.seeds)
        for w in ERRORS
        for p in POLICIES
        if p != "season" or w in PERIODS
    ]
    found: dict[tuple[str, str], list[int]] = {}
    with ProcessPoolExecutor(options.jobs) as pool:
        worlds, policies, seeds = zip(*jobs, strict=True)
        results = pool.map(play, worlds, policies, seeds, [options.rows] * len(jobs))
        for (world, policy, seed), count in zip(jobs, results, strict=True):
            found.setdefault((world, policy), []).append(count)
            print(f"{world}, {policy}, seed {seed}: {count}", flush=True)
    text = page(found, options.rows)
    print(text)
    head = (__doc__ or "").partition("\n\n")[2]
    said = f"{options.seeds} seeds of {options.rows:,} rows each, in brackets one by one.\n"
    options.table.write_text(
        f"# Retraining for nothing\n\n{head}\n{said}\n{text}", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
