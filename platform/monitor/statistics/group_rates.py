"""Error rates of each group of rows, with room for what few rows leave open."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from undrift.monitor.base import Stateful
from undrift.records import IntArray


class GroupRates(Stateful):
    """How often rows of each group are wrong; a group is a true class, or a phase of a season.

    Labels of one class often come later than those of another: a paid bill is known at once, an
    unpaid one after months. Then the labels of some weeks are mostly of one class, and if that one
    is the harder, errors look more frequent though no row has become harder. Held against the rate
    of its own class no label does. Groups from `GROUPS` on count as one.
    """

    GROUPS: ClassVar[int] = 256
    PRIOR: ClassVar[float] = 2.0  # rows at the common rate, which every group is believed to have
    SAVED = ("_rows", "_errors")

    def __init__(self) -> None:
        self._rows = np.zeros(self.GROUPS, dtype=np.int64)
        self._errors = np.zeros(self.GROUPS, dtype=np.int64)

    def add(self, wrong: NDArray[np.bool_], groups: IntArray) -> None:
        """Count rows.

        Args:
            wrong: (n,) True where the prediction was wrong.
            groups: (n,) number of each row's group.
        """
        place = self._places(groups)
        self._rows += np.bincount(place, minlength=self.GROUPS)
        self._errors += np.bincount(place[wrong], minlength=self.GROUPS)

    def upper(self, groups: IntArray, common: float) -> NDArray[np.float64]:
        """Return (n,) error rates of the rows' groups, plus a standard error.

        Args:
            groups: (n,) number of each row's group.
            common: Error rate over all groups, a fraction; none is held to be less.
        """
        place = self._places(groups)
        rows = self._rows[place] + self.PRIOR
        rate = (self._errors[place] + self.PRIOR * common) / rows
        upper: NDArray[np.float64] = np.maximum(rate + np.sqrt(rate * (1.0 - rate) / rows), common)
        return upper

    def _places(self, groups: IntArray) -> IntArray:
        places: IntArray = np.clip(groups, 0, self.GROUPS - 1)
        return places
