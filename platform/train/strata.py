"""Strata of a pool: time segment by group of rows, the arms of the sample bandit."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from undrift.records import IntArray, TargetArray

_SEGMENT_ROWS = 256
_MAX_SEGMENTS = 3
_MIN_ROWS = 16
_MAX_ARMS = 64
_QUANTILES = 8


class Groups(NamedTuple):
    """Groups of rows that strata are made of.

    Attributes:
        of: (n,) group of each row, from 0 on.
        noun: What one group is called.
        nouns: What several are called.
    """

    of: IntArray
    noun: str
    nouns: str


def by_target(y: TargetArray) -> Groups:
    """Return the groups of rows with like targets: classes, or octiles of numbers.

    Args:
        y: (n,) class index, or (n,) or (n, c) numbers; of several, the octiles of their mean.

    Example:
        >>> by_target(np.linspace(0, 1, 17)[[0, 4, 16]]).of.tolist()
        [0, 3, 7]
    """
    if np.issubdtype(y.dtype, np.integer):
        return Groups(y, "class", "classes")
    level = y.reshape(len(y), -1).mean(axis=1)
    edges = np.quantile(level, np.arange(1, _QUANTILES) / _QUANTILES)
    return Groups(np.searchsorted(edges, level), "octile", "octiles")


def stratify(
    row: IntArray, groups: Groups, recent: NDArray[np.bool_]
) -> tuple[NDArray[np.intp], tuple[str, ...]]:
    """Split rows into at most 64 strata by time segment and group.

    Reference rows (row -1), rows before the regime and rows of the regime never share a
    segment. Groups with fewer than 16 rows in a segment are merged there; with many groups,
    each stratum holds several.

    Args:
        row: (n,) row numbers, -1 for reference rows.
        groups: The group of each row.
        recent: (n,) True for rows of the regime.

    Returns:
        The stratum (n,) of each row and the names of the strata.

    Example:
        >>> row, y = np.arange(40), np.repeat([0, 1], 20)
        >>> stratify(row, by_target(y), np.ones(40, dtype=bool))[1]
        ('rows 0-39 class 0', 'rows 0-39 class 1')
    """
    segments: list[tuple[str, NDArray[np.intp]]] = []
    reference = row < 0
    if reference.any():
        segments.append(("reference", np.flatnonzero(reference)))
    for part in (~reference & ~recent, ~reference & recent):
        segments += _in_time(row, np.flatnonzero(part))
    per_segment = max(1, _MAX_ARMS // max(1, len(segments)))
    stratum = np.zeros(len(row), dtype=np.intp)
    names: list[str] = []
    for title, members in segments:
        group = groups.of[members] % per_segment
        sizes = np.bincount(group)
        group[np.isin(group, np.flatnonzero(sizes < _MIN_ROWS))] = -1
        for value in np.unique(group):
            inside = members[group == value]
            stratum[inside] = len(names)
            held = np.unique(groups.of[inside])
            label = f"{groups.noun} {held[0]}" if len(held) == 1 else f"{len(held)} {groups.nouns}"
            names.append(f"{title} {label}")
    return stratum, tuple(names)


def _in_time(row: IntArray, members: NDArray[np.intp]) -> list[tuple[str, NDArray[np.intp]]]:
    if not len(members):
        return []
    count = int(np.clip(len(members) // _SEGMENT_ROWS, 1, _MAX_SEGMENTS))
    ordered = members[np.argsort(row[members], kind="stable")]
    return [
        (f"rows {row[part[0]]}-{row[part[-1]]}", part) for part in np.array_split(ordered, count)
    ]
