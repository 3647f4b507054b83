"""What challengers know of a row: its embedding and its input, standardised and not too wide."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from undrift.model.mixture import Scaling
from undrift.monitor.base import Stateful
from undrift.monitor.statistics.products import row_products
from undrift.records import FloatArray, IntArray

Matrix = NDArray[np.float64]


class Standard(Stateful):
    """Standardised columns, or principal components where there are many; clipped.

    The same bits for a row in whatever batch it comes.
    """

    SAVED = ("_centre", "_scale", "_axes")

    def __init__(self) -> None:
        self._centre = np.zeros(1)
        self._scale = np.ones(1)
        self._axes = np.zeros((0, 0))

    @property
    def scaling(self) -> Scaling:
        """What it does to a row, without the promise about bits."""
        return Scaling(self._centre, self._scale, self._axes)

    @property
    def width(self) -> int:
        """Number of columns that come out."""
        return self.scaling.width

    def fit(self, data: FloatArray) -> None:
        """Take location, scale and axes from (n, ...) rows, at least two."""
        found = Scaling.of(data)
        self._centre, self._scale, self._axes = found.centre, found.scale, found.axes

    def __call__(self, data: FloatArray, rows: IntArray) -> Matrix:
        """Return (n, width) values of (n, ...) data whose row numbers are ``rows``."""
        standard = self.scaling.standardised(data)
        if not self._axes.size:
            return standard
        projected: Matrix = row_products(standard, self._axes, rows)
        return projected.clip(-Scaling.CLIP, Scaling.CLIP)
