"""Online conformal ranks of many columns at once, by counts in cells between quantiles."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from undrift.monitor.base import Stateful

Matrix = NDArray[np.float64]


class ColumnRanks(Stateful):
    """Ranks each value among the reference and all earlier blocks of the stream.

    A column is cut into cells at quantiles of its reference and above its largest value; a value
    that fills several quantiles, as in categorical columns, gets a cell of its own. The rank is
    the share of earlier values in lower cells, plus a random part of the share in the same cell.
    While the stream is like the reference, ranks are uniform, however short the reference: what
    it leaves uncertain, the stream itself fills in.

    Args:
        cells: Quantiles to cut at.

    Example:
        >>> ranks = ColumnRanks(4)
        >>> ranks.fit(np.arange(8.0)[:, None])
        >>> cells = ranks.cells(np.array([[-1.0], [3.5], [9.0]]))
        >>> ranks.rank(cells, np.full((3, 1), 0.5)).round(2).tolist()
        [[0.06], [0.5], [0.94]]

    Reference:
        Vovk et al. "Retrain or not retrain: conformal test martingales for change-point
        detection", COPA 2021.
    """

    SAVED: ClassVar[tuple[str, ...]] = ("_edges", "_counts", "_below", "_same")

    def __init__(self, cells: int) -> None:
        self._cells = cells
        self.fit(np.zeros((1, 1)))

    def fit(self, reference: Matrix) -> None:
        """Cut the columns of ``reference``, (n, d), and count its values."""
        self._edges = column_edges(reference, self._cells)
        self._counts = np.zeros((reference.shape[1], self._edges.shape[1] + 1))
        self.add(self.cells(reference))

    def cells(self, values: Matrix) -> Matrix:
        """Return the (n, d) cells in which ``values`` lie, numbered through all columns."""
        first = self._counts.shape[1] * np.arange(len(self._counts))
        cells: Matrix = column_cells(self._edges, values) + first
        return cells

    def rank(self, cells: Matrix, uniform: Matrix) -> Matrix:
        """Return ranks in (0, 1]; changes nothing.

        Args:
            cells: (n, d) cells.
            uniform: (n, d) numbers in [0, 1) that break ties.
        """
        at = cells.astype(np.int64)
        ranks: Matrix = self._below.take(at) + uniform * self._same.take(at)
        return ranks

    def add(self, cells: Matrix) -> None:
        """Count (n, d) cells among the earlier ones of all ranks to come."""
        counts = np.bincount(cells.astype(np.int64).ravel(), minlength=self._counts.size)
        self._counts = self._counts + counts.reshape(self._counts.shape)
        below = self._counts.cumsum(axis=1)
        share = 1.0 / (below[0, -1] + 1.0)
        self._below = (below - self._counts) * share
        self._same = (self._counts + 1.0) * share


def column_edges(reference: Matrix, cells: int) -> Matrix:
    """Return where to cut each column.

    Args:
        reference: (n, d) values.
        cells: Number of quantiles to cut at.

    Returns:
        (d, cells + 1) edges, ascending; the last cell is what lies above the largest value.
    """
    shares = np.arange(cells) / cells
    edges = np.quantile(reference, shares, axis=0, method="inverted_cdf").T
    edges = np.hstack([edges, np.nextafter(reference.max(axis=0), np.inf)[:, None]])
    repeated = np.zeros(edges.shape, dtype=np.bool_)
    repeated[:, 1:-1] = edges[:, 1:-1] == edges[:, :-2]
    edges[repeated] = np.nextafter(edges[repeated], np.inf)
    return np.sort(edges, axis=1)


def column_cells(edges: Matrix, values: Matrix) -> Matrix:
    """Return the (n, d) numbers, 0 to the number of edges, of the cells that hold ``values``."""
    columns = [
        edge.searchsorted(column, side="right")
        for edge, column in zip(edges, np.ascontiguousarray(values.T), strict=True)
    ]
    return np.array(columns, dtype=np.float64).T
