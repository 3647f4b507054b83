"""How soon a false drift comes after a short reference, and what that promise costs.

    python -m benchmarks.early_drifts [--runs 300] [--rows 10000]

Errors are independent, at 1, 10 and 30 %; a reference of 50 to 1,000 rows is drawn anew for each
run, as each retraining holds out other rows. Drift is budgeted once in 100,000 rows, so at most 1 %
of the runs may see one within 1,000 rows, and 10 % within 10,000. *Drift* is what
`monitor/statistics/error_rate.py` decides by; *plugged in* is the same test with the rate of the
reference and of older rows plugged in, which it warns by. Below, rises that begin with the first
row after the reference, or 1,000 rows later: rows until they are found, and how many of them are
missed within 4,000.

In the last table nothing ever changes, but labels of one class come later than those of the other:
a tenth of the rows is of a class that is wrong three times as often, and its labels come 200 rows
after the prediction and the others' 2,000, or the other way round. *Classes alike* is the same test
that is not told of classes.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from undrift.evidence import Level
from undrift.monitor.statistics.detector import aligned
from undrift.monitor.statistics.error_rate import ErrorTest

LIMIT, WAITED = 100_000.0, 4_000
REFERENCES, RATES = (50, 100, 250, 1_000), (0.01, 0.1, 0.3)
RISES, BEGINS = ((0.05, 0.15), (0.1, 0.3), (0.05, 0.5)), (0, 1_000)
HARD, LAGS = 0.1, ((200, 2_000), (2_000, 200))  # share of the hard class; its lag and the other's
Rows = NDArray[np.int64]


def first_alarms(reference: NDArray[np.bool_], wrong: NDArray[np.bool_]) -> tuple[int, int]:
    """Return how many rows it takes to drift, and to the limit of it by plugging in."""
    found = []
    for warning_at, level in ((LIMIT, Level.DRIFT), (LIMIT, Level.WARNING)):
        test = ErrorTest(warning_at, LIMIT)
        test.fit(reference, np.zeros(len(reference), np.int64), np.arange(len(reference)))
        since = None
        for part in aligned(0, len(wrong)):
            rows = np.arange(part.start, part.stop)
            test.update(wrong[part], np.zeros(len(rows), np.int64), rows)
            if test.level >= level:
                since = test.report("").since_row
                break
        found.append(len(wrong) + 1 if since is None else since + 1)
    return found[0], found[1]


def play(job: tuple[int, float, float, int, int, int]) -> tuple[int, int]:
    """Return both first alarms of one run: reference, rates before and after, begin, rows, seed."""
    size, rate, risen, begin, rows, seed = job
    rng = np.random.default_rng([seed, size, int(1000 * rate), int(1000 * risen), begin])
    rates = np.where(np.arange(rows) < begin, rate, risen)
    return first_alarms(rng.random(size) < rate, rng.random(rows) < rates)


def play_lags(job: tuple[int, float, int, int, int, int]) -> tuple[int, int]:
    """Return the first drift with classes and without: reference, rate, two lags, rows, seed."""
    size, rate, hard_lag, lag, rows, seed = job
    rng = np.random.default_rng([seed, size, int(1000 * rate), hard_lag])
    label = (rng.random(size + rows) < HARD).astype(np.int64)
    wrong = rng.random(size + rows) < np.where(label == 1, 3.0 * rate, rate)
    arrival = np.arange(rows) + np.where(label[size:] == 1, hard_lag, lag)
    order = np.argsort(arrival, kind="stable")
    found = []
    for classes in (label, np.zeros_like(label)):
        test = ErrorTest(LIMIT, LIMIT)
        test.fit(wrong[:size], classes[:size], np.arange(size))
        found.append(rows + 1)
        for part in aligned(0, rows):
            here = order[part]
            test.update(wrong[size + here], classes[size + here], here)
            if test.level is Level.DRIFT:
                found[-1] = part.stop
                break
    return found[0], found[1]


def lag_table(found: Sequence[Rows], cells: Sequence[tuple[int, float, int, int]]) -> str:
    """Return the shares of runs with a false drift where one class is told of later."""
    lines = [
        "| reference | errors | lags | drift: within 1,000 | within 10,000 "
        "| classes alike: within 1,000 | within 10,000 |\n|---|---|---|---|---|---|---|\n"
    ]
    for (size, rate, hard_lag, lag), alarms in zip(cells, found, strict=True):
        shares = [f"{np.mean(alarms[:, k] <= t):.1%}" for k in (0, 1) for t in (1_000, 10_000)]
        lines.append(
            f"| {size:,} rows | {rate:.0%}, {3 * rate:.0%} | {lag:,}, {hard_lag:,} "
            f"| {' | '.join(shares)} |\n"
        )
    return "".join(lines)


def false_table(found: Sequence[Rows], cells: Sequence[tuple[int, float]]) -> str:
    """Return the shares of runs with a false drift."""
    lines = [
        "| reference | errors | drift: within 1,000 | within 10,000 | plugged in: within 1,000 "
        "| within 10,000 |\n|---|---|---|---|---|---|\n"
    ]
    for (size, rate), alarms in zip(cells, found, strict=True):
        shares = [f"{np.mean(alarms[:, k] <= t):.1%}" for k in (0, 1) for t in (1_000, 10_000)]
        lines.append(f"| {size:,} rows | {rate:.0%} | {' | '.join(shares)} |\n")
    return "".join(lines)


def delay_table(
    found: Sequence[Rows], cells: Sequence[tuple[int, tuple[float, float], int]]
) -> str:
    """Return medians of the delays, and the shares of what is missed."""
    lines = [
        "| reference | rise | begins at row | drift: median | missed | plugged in: median | missed "
        "|\n|---|---|---|---|---|---|---|\n"
    ]
    for (size, (low, high), begin), alarms in zip(cells, found, strict=True):
        parts = []
        for k in (0, 1):
            late = alarms[alarms[:, k] > begin, k] - begin
            missed = np.mean(late > WAITED)
            median = "none" if missed > 0.5 else f"{np.median(late):.0f}"
            parts.append(f"{median} | {missed:.0%}")
        rise = f"{low:.0%} to {high:.0%}"
        lines.append(f"| {size:,} rows | {rise} | {begin:,} | {' | '.join(parts)} |\n")
    return "".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--table", type=Path, default=Path("docs/early_drifts.md"))
    options = parser.parse_args()
    calm = [(size, rate) for size in REFERENCES for rate in RATES]
    rises = [(size, rise, begin) for size in REFERENCES for rise in RISES for begin in BEGINS]
    plans = [(size, rate, rate, 0, options.rows) for size, rate in calm]
    plans += [(size, *rise, begin, WAITED + begin) for size, rise, begin in rises]
    parted = [(size, rate, *lags) for size in REFERENCES for rate in RATES for lags in LAGS]
    work = [(play, plan) for plan in plans]
    work += [(play_lags, (*cell, options.rows)) for cell in parted]
    found: list[Rows] = []
    with ProcessPoolExecutor(options.jobs) as pool:
        for run, plan in work:
            jobs = [(*plan, seed) for seed in range(options.runs)]
            found.append(np.array(list(pool.map(run, jobs, chunksize=10))))
            print(plan, np.mean(found[-1] <= 1_000, axis=0), flush=True)
    head = (__doc__ or "").partition("\n\n")[2]
    lagged = found[len(plans) :]
    text = false_table(found[: len(calm)], calm) + "\n"
    text += delay_table(found[len(calm) : len(plans)], rises) + "\n" + lag_table(lagged, parted)
    print(text)
    options.table.write_text(
        f"# False drifts early, and late ones\n\n{head}\n{options.runs} runs a line.\n\n{text}",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
