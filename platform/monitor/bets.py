"""E-values: bets that are fair, or worse than fair, while the stream is like the reference.

A reference of n rows is itself uncertain, and a bet that is fair against its empirical
distribution slowly wins from that error alone, however good the model: the longer the stream, the
surer the false alarm. So every bet is divided by an upper confidence limit (``Z`` standard errors)
of its mean on the reference. Bets that adapt to the stream are measured on reference rows that had
no part in shaping them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from undrift.records import FloatArray, IntArray

Z = 1.5
"""Standard errors of reference uncertainty that every bet gives away (93 % one-sided).

Mean time to the first crossing of one signal, in multiples of its limit, on independent synthetic
streams with references of 200 to 2,000 rows: 0.7 to 2.6 for Z = 0 (limit 2,000 only), 3 to 11 for
Z = 1, 4 to 24 for Z = 1.5 (limits 2,000 and 50,000; the shorter the reference, the longer). Means
over references; a single one can be shorter. Autocorrelated streams are not covered by these."""

_TILTS = np.array([0.25, 0.5, 0.95])
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


def rank(
    ordered: FloatArray, values: FloatArray, uniform: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the randomised conformal rank of each value among the reference values.

    Uniform on (0, 1) if values and reference are exchangeable, ties and constants included.

    Args:
        ordered: (m,) reference values, ascending.
        values: (n,) values.
        uniform: (n,) numbers in [0, 1) that break ties.

    Returns:
        (n,) ranks in [0, 1).

    Reference:
        Vovk, Gammerman, Shafer. "Algorithmic learning in a random world", 2005, section 2.
    """
    low = np.searchsorted(ordered, values, side="left")
    high = np.searchsorted(ordered, values, side="right")
    ranks: NDArray[np.float64] = (low + uniform * (high - low + 1)) / (len(ordered) + 1)
    return ranks


def rising(ranks: NDArray[np.float64], n_reference: int) -> NDArray[np.float64]:
    """Bet that ranks have become larger: weak, middling and strong, and on the top tail alone.

    Args:
        ranks: (n,) ranks, uniform under the reference.
        n_reference: Reference rows that the ranks were taken against.

    Returns:
        (n, 6) e-values.
    """
    slope = 2.0 * ranks - 1.0  # mean 0, variance 1/3, at least -1
    tail = 5.0 * ranks**4 - 1.0  # mean 0, variance 16/9, at least -1
    margin = Z / np.sqrt(n_reference)
    columns = [
        (1.0 + tilt * score[:, None]) / (1.0 + tilt * deviation * margin)
        for score, deviation, tilt in ((slope, (1 / 3) ** 0.5, _TILTS), (tail, 4 / 3, _TILTS / 2))
    ]
    return np.hstack(columns)


def error_alternatives(rate: float) -> NDArray[np.float64]:
    """Return (k,) error rates above ``rate``, at fixed multiples of its odds."""
    odds = _ODDS * rate / (1.0 - rate)
    rates: NDArray[np.float64] = odds / (1.0 + odds)
    return rates


def likelihood_ratio(
    errors: NDArray[np.bool_], rate: float, alternatives: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the likelihood ratios of errors under higher rates to that under ``rate``.

    Their expectation is at most one for every true rate up to ``rate``.

    Args:
        errors: (n,) True where the prediction was wrong.
        rate: Error rate that is still fine, in (0, 1).
        alternatives: (k,) error rates above it.

    Returns:
        (n, k) e-values.
    """
    return np.where(errors[:, None], alternatives / rate, (1.0 - alternatives) / (1.0 - rate))
