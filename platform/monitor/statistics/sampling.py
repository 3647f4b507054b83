"""Whether the rows that have a label are like those that have none."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from undrift.monitor.statistics.dependence import correlation_time
from undrift.records import FloatArray, TargetArray

FEWEST = 100  # rows on either side
_EFFECT = 0.2  # Cohen's h or d that matters
_CHANCE = 1e-4  # of a finding where there is none, over all that is compared


def unlike(
    labelled: NDArray[np.bool_],
    answered: TargetArray,
    numbers: FloatArray,
    names: tuple[str, ...],
) -> str:
    """Return how labelled rows differ from the others, in words; empty if they do not.

    The share of each class that was answered, by Cohen's h, and the mean of each number, by
    Cohen's d, count where the difference is at least 0.2, and beyond chance: as independent rows
    count those that their correlation time leaves.

    Args:
        labelled: (n,) True for rows that have a label; others are old enough to have one.
        answered: (n,) class that was answered, or (n, c) numbers.
        numbers: (n, k) what else is known of a row, whatever its scale.
        names: Names of the classes; a number is its own.
    """
    with_label, without = int(labelled.sum()), int((~labelled).sum())
    if min(with_label, without) < FEWEST:
        return ""
    if answered.ndim > 1:  # numbers, compared as all else that is known
        numbers = np.hstack([answered, numbers])
        answered = np.zeros(len(answered), dtype=np.int64)
    classes = int(answered.max()) + 1
    time = correlation_time(labelled.astype(np.float64), np.arange(len(labelled)))
    error = float(np.sqrt(time * (1.0 / with_label + 1.0 / without)))
    compared = classes + numbers.shape[1]
    least = max(_EFFECT, error * NormalDist().inv_cdf(1.0 - _CHANCE / (2 * compared)))
    shares = [np.bincount(answered[rows], minlength=classes) for rows in (labelled, ~labelled)]
    here, there = shares[0] / with_label, shares[1] / without
    effect = 2.0 * np.abs(np.arcsin(np.sqrt(here)) - np.arcsin(np.sqrt(there)))
    most = int(effect.argmax())
    if effect[most] >= least:
        name = names[most] if most < len(names) else f"class {most}"
        return (
            f"{name} is answered in {here[most]:.0%} of them and in {there[most]:.0%} of the rest"
        )
    spread = np.sqrt((numbers[labelled].var(axis=0) + numbers[~labelled].var(axis=0)) / 2.0)
    moved = np.abs(numbers[labelled].mean(axis=0) - numbers[~labelled].mean(axis=0))
    if (moved >= least * np.maximum(spread, 1e-9)).any():
        return "their inputs are of another kind"
    return ""
