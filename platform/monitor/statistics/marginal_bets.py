"""Inputs against the reference, each column by itself."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from undrift.monitor.statistics.column_ranks import ColumnRanks
from undrift.monitor.statistics.dependence import correlation_time, temper
from undrift.monitor.statistics.input_bets import InputBets, Matrix
from undrift.records import FloatArray, IntArray


class MarginalBets(InputBets):
    """Bets that the ranks of a column rise, fall, spread, narrow, or reach the ends.

    Ranks are taken among the reference and the stream, in cells between quantiles of the
    reference, and e-values are tempered by the correlation time of their column. The evidence is
    averaged over columns, so each is worth its share of the budget. What changes only in how
    columns go together is not seen.

    Reference:
        Vovk et al. "Retrain or not retrain: conformal test martingales for change-point
        detection", COPA 2021.
    """

    CELLS: ClassVar[int] = 64
    SAVED = (*InputBets.SAVED, "_times")
    PARTS = ("_ranks",)

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._times = np.ones(1)
        self._ranks = ColumnRanks(self.CELLS)

    @property
    def ranked(self) -> int:
        """Number of columns."""
        return len(self._times)

    def fit(self, data: FloatArray, rows: IntArray) -> float:
        """Start the ranks of each column from the reference rows."""
        columns = data.astype(np.float64)
        self._ranks.fit(columns)
        self._times = np.array([correlation_time(column, rows) for column in columns.T])
        self.restart(len(self._times), float(self._times.max()))
        return float(self._times.max())

    def describe(self, data: FloatArray) -> Matrix:
        """Return the cell of each value."""
        return self._ranks.cells(data.astype(np.float64))

    def rank(self, values: Matrix, uniform: Matrix) -> Matrix:
        """Return the rank of each value."""
        return self._ranks.rank(values, uniform)

    def learn(self, block: Matrix) -> None:
        """Rank later rows among these too."""
        self._ranks.add(block)

    def bet(self, ranks: Matrix) -> Matrix:
        """Return five e-values per column."""
        slope = 0.5 * (2.0 * ranks - 1.0)
        spread = 0.9 * (6.0 * ranks * (ranks - 1.0) + 1.0)
        ends = 0.3 * (2.0 * np.minimum(ranks, 1.0 - ranks)) ** -0.7
        bets = np.stack([1.0 + slope, 1.0 - slope, 1.0 + spread, 1.0 - spread, ends], axis=2)
        for i in np.flatnonzero(self._times > 1.0):
            bets[:, i] = temper(bets[:, i], self._times[i])
        return bets.reshape(len(ranks), -1)
