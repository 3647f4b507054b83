"""From runs to ranks and verdicts; knows nothing of how runs are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

WITHIN = 0.01  # a point of accuracy
NEGLIGIBLE = 0.01  # forgetting below a point is within noise


def mean_ranks(cells: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return each method's rank, 1 for the largest value, averaged over cells; ties share.

    Args:
        cells: One value of every method, for each cell.

    Example:
        >>> mean_ranks([{"a": 0.9, "b": 0.5}, {"a": 0.7, "b": 0.7}])
        {'a': 1.25, 'b': 1.75}
    """
    names = list(cells[0])
    ranks = np.array([rankdata([-cell[name] for name in names]) for cell in cells])
    return dict(zip(names, ranks.mean(axis=0).tolist(), strict=True))


def allowed_forgetting(finetune: float) -> float:
    """Return how much may be forgotten beside fine-tuning: half of it, or a negligible amount."""
    return max(finetune / 2, NEGLIGIBLE)


def interval(values: NDArray[np.float64], draws: int = 10_000) -> tuple[float, float, float]:
    """Return the mean of values with its 95 % bootstrap interval.

    Example:
        >>> interval(np.array([1.0, 1.0, 1.0]))
        (1.0, 1.0, 1.0)
    """
    rng = np.random.default_rng(0)
    means = values[rng.integers(len(values), size=(draws, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(values.mean()), float(low), float(high)
