"""Error rates of each class, with room for what few rows leave open."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from undrift.monitor.base import Stateful
from undrift.records import IntArray


class ClassRates(Stateful):
    """How often rows of each true class are wrong.

    Labels of one class often come later than those of another: a paid bill is known at once, an
    unpaid one after months. Then the labels of some weeks are mostly of one class, and if that one
    is the harder, errors look more frequent though no row has become harder. Held against the rate
    of its own class no label does. Classes from `CLASSES` on count as one.
    """

    CLASSES: ClassVar[int] = 256
    PRIOR: ClassVar[float] = 2.0  # rows at the common rate, which every class is believed to have
    SAVED = ("_rows", "_errors")

    def __init__(self) -> None:
        self._rows = np.zeros(self.CLASSES, dtype=np.int64)
        self._errors = np.zeros(self.CLASSES, dtype=np.int64)

    def add(self, wrong: NDArray[np.bool_], labels: IntArray) -> None:
        """Count rows.

        Args:
            wrong: (n,) True where the prediction was wrong.
            labels: (n,) true class indices.
        """
        place = self._places(labels)
        self._rows += np.bincount(place, minlength=self.CLASSES)
        self._errors += np.bincount(place[wrong], minlength=self.CLASSES)

    def upper(self, labels: IntArray, common: float) -> NDArray[np.float64]:
        """Return (n,) error rates of the rows' classes, plus a standard error.

        Args:
            labels: (n,) true class indices.
            common: Error rate over all classes, a fraction; none is held to be less.
        """
        place = self._places(labels)
        rows = self._rows[place] + self.PRIOR
        rate = (self._errors[place] + self.PRIOR * common) / rows
        upper: NDArray[np.float64] = np.maximum(rate + np.sqrt(rate * (1.0 - rate) / rows), common)
        return upper

    def _places(self, labels: IntArray) -> IntArray:
        places: IntArray = np.clip(labels, 0, self.CLASSES - 1)
        return places
