"""Conformal ranks of one score among its reference and all of the stream so far."""

from __future__ import annotations

from functools import lru_cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from undrift.monitor.base import Stateful
from undrift.records import IntArray

Floats = NDArray[np.float64]


class OnlineRanks(Stateful):
    """Ranks each value among the reference and the rows before it, in bounded memory.

    The reference values cut the line into cells. A value is ranked by how many earlier values lie
    in lower cells, plus a random part of its own cell. Each cell begins with one count for every
    gap between neighbouring reference values that it spans, which makes the chance of a cell,
    given all rows so far, exactly its share of the counts: while reference and stream are
    exchangeable, ranks are independent and uniform, however short the reference. Ties are broken
    at random, so constant and discrete scores are no exception.

    Of a long reference some thousand values are kept, all of the outermost ones among them.

    Reference:
        Vovk et al. "Retrain or not retrain: conformal test martingales for change-point
        detection", COPA 2021.
    """

    CELLS: ClassVar[int] = 1_000
    TAIL: ClassVar[int] = 50
    SAVED = ("_values", "_keys", "_counts", "_total")

    def __init__(self) -> None:
        self.fit(np.zeros(1), np.zeros(1))

    def fit(self, values: Floats, uniform: Floats) -> None:
        """Take (n,) values as the reference, and (n,) numbers in [0, 1) to break their ties."""
        n = len(values)
        order = np.lexsort((uniform, values))
        ends = np.minimum(np.arange(self.TAIL), n - 1)
        middle = np.linspace(0, n - 1, self.CELLS).astype(np.int64)
        kept = np.unique(np.concatenate([ends, middle, n - 1 - ends]))
        self._values = values[order][kept]
        self._keys = self._key(self._values, uniform[order][kept])
        self._counts = np.diff(kept, prepend=-1, append=n)
        self._total = n + 1

    def rank(self, values: Floats, uniform: Floats, tie: Floats, *, learn: bool) -> Floats:
        """Return the rank of each value, then count it among the earlier ones.

        Args:
            values: (n,) values in stream order.
            uniform: (n,) numbers in [0, 1) that place a value within its cell.
            tie: (n,) numbers in [0, 1), independent of those, that break ties.
            learn: Whether the values count for the ranks of later ones.

        Returns:
            (n,) ranks in [0, 1).
        """
        n, cell = len(values), np.searchsorted(self._keys, self._key(values, tie))
        same = self._counts[cell]
        below = np.cumsum(self._counts)[cell] - same
        total = np.full(n, self._total)
        if learn:
            short, earlier = cell.astype(np.int16), _earlier(n)
            below = below + _count((short < short[:, None]) & earlier)
            same = same + _count((short == short[:, None]) & earlier)
            total = total + np.arange(n)
            self._counts = self._counts + np.bincount(cell, minlength=len(self._counts))
            self._total += n
        ranks: Floats = (below + uniform * same) / total
        return ranks

    def place(self, values: Floats) -> Floats:
        """Return which share of the reference values kept is lower, for (n,) values."""
        places: Floats = np.searchsorted(self._values, values) / len(self._values)
        return places

    def _key(self, values: Floats, tie: Floats) -> Floats:
        """Return where values stand among those kept: place of the first equal one, plus tie."""
        place = np.searchsorted(self._values, values)
        tied = self._values[np.minimum(place, len(self._values) - 1)] == values
        return place.astype(np.float64) + np.where(tied, tie, 0.0)


@lru_cache(maxsize=8)
def _earlier(n: int) -> NDArray[np.bool_]:
    return np.tri(n, k=-1, dtype=np.bool_)


def _count(true: NDArray[np.bool_]) -> IntArray:
    """Return the number of true values in each row."""
    number: IntArray = np.bitwise_count(np.packbits(true, axis=1)).sum(axis=1, dtype=np.int64)
    return number
