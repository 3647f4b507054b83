"""Which columns of the input have moved since the change, and by how much."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from undrift.evidence import Change
from undrift.monitor.base import Stateful
from undrift.monitor.statistics.column_ranks import column_cells, column_edges
from undrift.records import FloatArray, IntArray

Matrix = NDArray[np.float64]


class FeatureChanges(Stateful):
    """Keeps the newest rows, and compares their columns with the reference when asked.

    The effect size is the Hellinger distance between the shares of reference and of recent rows
    in cells between the reference's deciles: 0 for equal shares, 1 for rows of which none lies
    where reference rows lie. A column counts as moved where a likelihood ratio test on the same
    cells says so, at a level at which one report in some fifty names a column that has not moved.

    Reference:
        Ditzler, Polikar. "Hellinger distance based drift detection for nonstationary
        environments", CIDUE 2011.
    """

    WINDOW: ClassVar[int] = 512  # newest rows kept, fewer where columns are many
    NUMBERS: ClassVar[int] = 131_072  # kept at most
    CELLS: ClassVar[int] = 10
    LISTED: ClassVar[int] = 5
    CHANCE: ClassVar[float] = 0.004
    SAVED = ("_edges", "_counts", "_mean", "_times", "_recent", "_row", "_seen")

    def __init__(self) -> None:
        self.fit(np.zeros((1, 1), dtype=np.float32), np.ones(1))

    def fit(self, reference: FloatArray, times: Matrix) -> None:
        """Count the reference, and forget everything seen before.

        Args:
            reference: (n, d) columns.
            times: (d,) correlation time of each.
        """
        columns = reference.astype(np.float64)
        width = columns.shape[1]
        self._edges = column_edges(columns, self.CELLS)
        self._counts = self._count(columns)
        self._mean = columns.mean(axis=0)
        self._times = times
        size = max(1, min(self.WINDOW, self.NUMBERS // width))
        self._recent = np.zeros((size, width), dtype=np.float32)
        self._row = np.full(size, -1, dtype=np.int64)
        self._seen = 0

    def add(self, columns: Matrix, rows: IntArray) -> None:
        """Keep the newest of (n, d) rows of the stream."""
        size = len(self._row)
        at = (self._seen + np.arange(len(rows)))[-size:] % size
        self._recent[at] = columns[-size:]
        self._row[at] = rows[-size:]
        self._seen += len(rows)

    def report(self, change_row: int, what: str, names: Sequence[str]) -> tuple[Change, ...]:
        """Return the columns that moved most since ``change_row``, largest effect first.

        Args:
            change_row: First row of the new regime; of longer regimes the newest rows are taken.
            what: ``feature`` or ``embedding``.
            names: d names.
        """
        recent = self._recent[self._row >= change_row].astype(np.float64)
        counts, now = self._count(recent), recent.mean(axis=0)
        before, after = self._counts / self._counts[0].sum(), counts / len(recent)
        overlap = np.sqrt(before * after).sum(axis=1)
        effect = np.sqrt(np.maximum(1.0 - overlap, 0.0))
        moved = np.flatnonzero(self._excess(counts) > 0)
        most = moved[np.argsort(-effect[moved], kind="stable")][: self.LISTED]
        return tuple(
            Change(
                what=what,
                name=names[i],
                measure="hellinger",
                effect=float(effect[i]),
                before=float(self._mean[i]),
                now=float(now[i]),
            )
            for i in most
        )

    def _count(self, columns: Matrix) -> Matrix:
        cells = column_cells(self._edges, columns).astype(np.int64)
        width, length = self._edges.shape[0], self._edges.shape[1] + 1
        flat = (cells + length * np.arange(width)).ravel()
        return np.bincount(flat, minlength=width * length).reshape(width, length).astype(np.float64)

    def _excess(self, counts: Matrix) -> Matrix:
        """Return (d,) likelihood ratio statistics of homogeneity less their limits."""
        n, m = self._counts[0].sum(), counts[0].sum()
        pooled = self._counts + counts
        share = np.maximum(pooled, 1.0) / (n + m)
        parts = self._counts * np.log(np.maximum(self._counts, 1.0) / (n * share))
        parts += counts * np.log(np.maximum(counts, 1.0) / (m * share))
        statistic = 2.0 * parts.sum(axis=1) / self._times
        freedom = np.maximum((pooled > 0).sum(axis=1) - 1, 1)
        spread = 2.0 / (9.0 * freedom)  # Wilson and Hilferty's cube root
        z = NormalDist().inv_cdf(1.0 - self.CHANCE / len(counts))
        excess: Matrix = statistic - freedom * (1.0 - spread + z * np.sqrt(spread)) ** 3
        return excess
