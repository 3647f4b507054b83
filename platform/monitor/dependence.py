"""How long rows of a stream stay alike: the correlation time of a score."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from undrift.records import IntArray

MAX_LAG = 64
"""Longest distance in rows at which correlation is looked for."""

SIGNIFICANT = 2.5
"""Standard errors that a group of autocorrelations must be above zero to count; with six groups
some 95 % of independent references are found to be just that."""


def correlation_time(values: NDArray[Any], rows: IntArray) -> float:
    """Return how many rows of a score carry the information of one independent row.

    This is the integrated autocorrelation time 1 + 2 sum_h rho_h: the variance of a sum of n rows
    is that many times n times the variance of one. Autocorrelations are averaged over distances
    1, 2-3, 4-7, ... up to 63 rows, which finds weak correlation of long reach, and summed up to
    the last group that is significantly positive, and the one after it. A distance that the gaps
    between rows leave without a pair is taken to be like its neighbours. Dependence of longer
    reach is not seen.

    Args:
        values: (n,) score of each row, finite.
        rows: (n,) row numbers, ascending; gaps are allowed.

    Returns:
        At least 1, and 1 where no correlation is significant: for constant scores, negative
        correlation, and most independent scores.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> correlation_time(rng.normal(size=500), np.arange(500))
        1.0
        >>> pairs = np.repeat(rng.normal(size=500), 2)
        >>> 1.8 < correlation_time(pairs, np.arange(1000)) < 2.2
        True

    Reference:
        Geyer. "Practical Markov chain Monte Carlo", Statistical Science 1992, section 3.3.
    """
    scores = np.asarray(values, dtype=np.float64)
    if len(scores) < 2 or np.ptp(scores) == 0:
        return 1.0
    centred = scores - scores.mean()
    variance = float(np.mean(centred**2))
    products, pairs = _pair_sums(centred / np.sqrt(variance), rows)
    group = np.frexp(np.arange(MAX_LAG))[1]  # 1 for distance 1, 2 for 2 and 3, 3 for 4 to 7, ...
    pairs_of = np.bincount(group, weights=pairs)[1:]
    seen = pairs_of > 0
    mean = np.bincount(group, weights=products)[1:] / np.maximum(pairs_of, 1)
    mean += 1.0 / len(centred)  # centring makes independent rows look that much opposed
    if not seen.any():
        return 1.0
    places = np.arange(len(mean))
    mean = np.interp(places, places[seen], np.where(seen, mean, 0.0)[seen])
    time, found = 1.0, 1.0
    for i in places:
        within = time + 2.0**i * 2.0 * mean[i]
        # The longer the correlation found so far, the noisier the next group.
        if seen[i] and mean[i] * np.sqrt(pairs_of[i]) > SIGNIFICANT * found:
            beyond = 2.0 * 2.0 ** (i + 1) * mean[i + 1] if i + 1 < len(mean) else 0.0
            found = max(found, within + max(beyond, 0.0))
        time = within
    return float(found)


def _pair_sums(
    standard: NDArray[np.float64], rows: IntArray
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (MAX_LAG,) sums of products of rows at each distance, and the number of pairs."""
    products, pairs = np.zeros(MAX_LAG), np.zeros(MAX_LAG)
    for step in range(1, min(MAX_LAG, len(rows))):
        distance = rows[step:] - rows[:-step]
        near = (distance > 0) & (distance < MAX_LAG)
        if not near.any():
            break
        product = (standard[step:] * standard[:-step])[near]
        products += np.bincount(distance[near], weights=product, minlength=MAX_LAG)
        pairs += np.bincount(distance[near], minlength=MAX_LAG)
    return products, pairs
