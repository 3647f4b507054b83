"""What bets are made of: ties broken alike in every replay, likelihood ratios of errors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from undrift.records import IntArray

_ODDS = np.exp(np.array([0.4, 0.8, 1.2, 1.8, 2.5, 3.5]))


def row_uniform(rows: IntArray, salt: int) -> NDArray[np.float64]:
    """Return one number in [0, 1) per row number: a hash, so a replay breaks ties alike.

    Args:
        rows: (n,) row numbers.
        salt: Makes independent sequences out of the same rows.

    Returns:
        (n,) values.

    Reference:
        Steele, Lea, Flood. "Fast splittable pseudorandom number generators", 2014 (splitmix64).
    """
    z = rows.astype(np.uint64) + np.uint64((salt * 0x9E3779B97F4A7C15 + 1) % 2**64)
    z = z * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return (z >> np.uint64(11)).astype(np.float64) * 2.0**-53


def error_alternatives(rate: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (k,) error rates above ``rate``, at fixed multiples of its odds; (n, k) for (n, 1)."""
    odds = _ODDS * rate / (1.0 - rate)
    rates: NDArray[np.float64] = odds / (1.0 + odds)
    return rates


def likelihood_ratio(
    errors: NDArray[np.bool_],
    rate: float | NDArray[np.float64],
    alternatives: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the likelihood ratios of errors under higher rates to that under ``rate``.

    Their expectation is at most one for every true rate up to ``rate``.

    Args:
        errors: (n,) True where the prediction was wrong.
        rate: Error rate that is still fine, in (0, 1), one or (n, 1).
        alternatives: (k,) or (n, k) error rates above it.

    Returns:
        (n, k) e-values.
    """
    return np.where(errors[:, None], alternatives / rate, (1.0 - alternatives) / (1.0 - rate))
