"""Alarms against the truth: delays, misses, and thresholds at a given number of false alarms."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Score:
    """How one detector did on one stream.

    Attributes:
        false: Alarms before the drift.
        delay: Drifted rows up to and including the one at which it was noticed, counted in
            predictions, so a lag of labels is part of it; None if the drift was missed.
    """

    false: int
    delay: int | None


def score(alarms: Sequence[int], onset: int, lag: int) -> Score:
    """Judge a detector by the rows of its alarms.

    Args:
        alarms: Rows, ascending; for a detector that needs labels, the rows of those labels.
        onset: First drifted row.
        lag: Rows by which that detector's evidence is late; 0 without labels.

    Returns:
        Its score; an alarm from rows before the drift is false whenever it came.
    """
    true = [row for row in alarms if row >= onset]
    return Score(len(alarms) - len(true), true[0] - onset + 1 + lag if true else None)


def delays(scores: Sequence[Score], horizon: int) -> NDArray[np.float64]:
    """Return (n,) delays; a miss counts as the whole horizon."""
    found = [horizon if s.delay is None else min(s.delay, horizon) for s in scores]
    return np.array(found, dtype=np.float64)


def missed(scores: Sequence[Score]) -> float:
    """Return the share of streams on which the drift was never noticed."""
    return float(np.mean([s.delay is None for s in scores]))


def tune(
    false_alarms: Callable[[float], int],
    strictness: tuple[float, float],
    allowed: int,
    steps: int = 9,
) -> float:
    """Return about the laxest threshold that makes no more false alarms than allowed.

    Args:
        false_alarms: Number of false alarms at a threshold, falling as it becomes stricter; it
            may stop counting once the number exceeds ``allowed``.
        strictness: Laxest and strictest threshold.
        allowed: Most false alarms.
        steps: Halvings of the range.

    Returns:
        A threshold that was tried and kept the limit; the strictest one if none did.

    Example:
        >>> tune(lambda threshold: int(100 - 10 * threshold), (0.0, 10.0), allowed=50, steps=20)
        4.9...
    """
    lax, strict = strictness
    for _ in range(steps):
        middle = (lax + strict) / 2
        if false_alarms(middle) <= allowed:
            strict = middle
        else:
            lax = middle
    return strict


def mean_time_interval(alarms: int, rows: int, z: float = 1.96) -> tuple[float, float, float]:
    """Return rows per alarm with a 95 % interval, taking the number of alarms as Poisson.

    Example:
        >>> [round(v) for v in mean_time_interval(25, 1_000_000)]
        [40000, 28736, 66845]
    """
    low, high = (max(math.sqrt(alarms + 0.25) + s * z / 2, 0.0) ** 2 for s in (-1, 1))
    return (
        rows / alarms if alarms else math.inf,
        rows / high,
        rows / low if low > 0 else math.inf,
    )
