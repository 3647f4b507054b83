"""Strata of a pool: time segment by class, for each of which old labels are true or not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from undrift.records import IntArray, TargetArray

_SEGMENT_ROWS = 256
_MAX_SEGMENTS = 3
_MIN_ROWS = 16
_MAX_STRATA = 64
_QUANTILES = 8


def by_target(y: TargetArray) -> IntArray:
    """Return the group (n,) of each row, of like targets: its class, or the octile of its number.

    Args:
        y: (n,) class index, or (n,) or (n, c) numbers; of several, the octiles of their mean.

    Example:
        >>> by_target(np.linspace(0, 1, 17)[[0, 4, 16]]).tolist()
        [0, 3, 7]
    """
    if np.issubdtype(y.dtype, np.integer):
        return y
    level = y.reshape(len(y), -1).mean(axis=1)
    edges = np.quantile(level, np.arange(1, _QUANTILES) / _QUANTILES)
    octile: IntArray = np.searchsorted(edges, level)
    return octile


def stratify(row: IntArray, groups: IntArray, recent: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Split rows into at most 64 strata by time segment and group; return the stratum (n,) of each.

    Reference rows (row -1), rows before the regime and rows of the regime never share a
    segment. Groups with fewer than 16 rows in a segment are merged there; with many groups,
    each stratum holds several.

    Args:
        row: (n,) row numbers, -1 for reference rows.
        groups: (n,) group of each row.
        recent: (n,) True for rows of the regime.

    Example:
        >>> row, y = np.arange(40), np.repeat([0, 1], 20)
        >>> np.unique(stratify(row, y, np.ones(40, dtype=bool)), return_counts=True)[1].tolist()
        [20, 20]
    """
    reference = row < 0
    segments = [np.flatnonzero(reference)] if reference.any() else []
    for part in (~reference & ~recent, ~reference & recent):
        segments += _in_time(row, np.flatnonzero(part))
    per_segment = max(1, _MAX_STRATA // max(1, len(segments)))
    stratum, count = np.zeros(len(row), dtype=np.intp), 0
    for members in segments:
        group = groups[members] % per_segment
        sizes = np.bincount(group)
        group[np.isin(group, np.flatnonzero(sizes < _MIN_ROWS))] = -1
        found, of = np.unique(group, return_inverse=True)
        stratum[members] = count + of
        count += len(found)
    return stratum


def _in_time(row: IntArray, members: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    if not len(members):
        return []
    count = int(np.clip(len(members) // _SEGMENT_ROWS, 1, _MAX_SEGMENTS))
    return np.array_split(members[np.argsort(row[members], kind="stable")], count)
