"""From runs to figures: medians, and ratios within a round, with their spread."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Run = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times something is something else.

    Attributes:
        median: Of the ratios of the rounds.
        least: The smallest of them.
        most: The largest of them.
        rounds: How many there are.
    """

    median: float
    least: float
    most: float
    rounds: int


def of(runs: Iterable[Run], case: str, rival: str) -> dict[int, Run]:
    """Return the measured runs of a rival in a case, by round; the newest where there are two."""
    found = {}
    for run in runs:
        if run["round"] >= 0 and (run["case"], run["rival"]) == (case, rival):
            found[run["round"]] = run
    return found


def median(runs: Iterable[Run], figure: Callable[[Run], float]) -> float:
    """Return the median of a figure; NaN of no run."""
    values = [figure(run) for run in runs]
    return statistics.median(values) if values else float("nan")


def ratio(
    runs: Sequence[Run],
    ours: tuple[str, str],
    theirs: tuple[str, str],
    figure: Callable[[Run], float],
) -> Ratio | None:
    """Compare two within each round that has both; None if none has.

    Args:
        runs: All runs.
        ours: Case and rival of the numerator.
        theirs: Those of the denominator.
        figure: What is compared.
    """
    a, b = of(runs, *ours), of(runs, *theirs)
    found = [figure(a[n]) / figure(b[n]) for n in a.keys() & b.keys() if figure(b[n])]
    if not found:
        return None
    return Ratio(statistics.median(found), min(found), max(found), len(found))


def rate(run: Run) -> float:
    """Requests a second that were answered as asked."""
    return float((run["requests"] - run["refused"]) / run["seconds"])


def per_cpu(run: Run) -> float:
    """Answered requests per second of processor time of all processes of the server."""
    return float((run["requests"] - run["refused"]) / run["cpu_s"]) if run["cpu_s"] else 0.0


def per_busiest(run: Run) -> float:
    """Answered requests per second of processor time of the process that takes most of it."""
    return float((run["requests"] - run["refused"]) / run["busiest_s"]) if run["busiest_s"] else 0.0
