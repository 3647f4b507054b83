"""Inputs against the reference by kernel mean embedding, and by how strange single rows are."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from undrift.monitor.statistics.column_ranks import ColumnRanks
from undrift.monitor.statistics.dependence import CorrelationTime, correlation_time, temper
from undrift.monitor.statistics.features import Features
from undrift.monitor.statistics.input_bets import InputBets, Matrix, halves
from undrift.monitor.statistics.witness import Witnesses
from undrift.records import FloatArray, IntArray


class KernelBets(InputBets):
    """Bets that rows have become strange, and that they follow a witness.

    Strangeness needs no direction to be learnt first: a row that lies beyond all reference rows
    multiplies the evidence by some fifty at once. Witnesses find shifts that leave every single
    row plausible; they run over principal components and Fourier features together, which is the
    maximum mean discrepancy of a linear plus a Gaussian kernel.

    Features are fitted on the earlier half of the reference; strangeness and witness scores are
    ranked among the later half and the stream. The bag of a witness is bounded, so what remains
    of its own error is paid for by a margin of ``MARGIN`` standard errors on each bet. E-values
    are tempered by correlation times: those of witnesses by that of the features, those of
    strangeness by its own, which the stream goes on to teach.

    Reference:
        Gretton et al. "A kernel two-sample test", JMLR 2012; Vovk, Wang. "E-values: calibration,
        combination and applications", Annals of Statistics 2021, for bets on p-values.
    """

    CELLS: ClassVar[int] = 512
    POWERS: ClassVar[Matrix] = np.array([0.1, 0.3, 0.6])
    TILTS: ClassVar[Matrix] = np.array([0.3, 0.9])
    SAMPLED: ClassVar[int] = 8  # Fourier features that tell the correlation time of all
    KERNEL: ClassVar[float] = 0.5  # weight of a Fourier feature; a component has 1
    MARGIN: ClassVar[float] = 0.75
    SHARED: ClassVar[float] = 0.3  # of the features' excess correlation time, strangeness has
    SAVED = (*InputBets.SAVED, "_time", "_margin", "_heard")
    PARTS = ("_features", "_ranks", "_witnesses", "_nearest", "_trailing")

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._time = 1.0
        self._margin = 0.0
        self._heard = np.zeros((self.PIECE, 2))  # ranks of strangeness of the present piece
        self._features = Features()
        self._ranks = ColumnRanks(self.CELLS)
        self._witnesses = Witnesses()
        self._nearest = CorrelationTime()
        self._trailing = CorrelationTime()

    @property
    def ranked(self) -> int:
        """Two kinds of strangeness, and two witnesses."""
        return 4

    def fit(self, data: FloatArray, rows: IntArray) -> float:
        """Fit features on the earlier half of the reference, start ranks from the later."""
        shaping, held = halves(len(data))
        self._features.fit(data[shaping], self._seed)
        features, scores = self._features.measure(data)
        strange = scores[held].astype(np.float64)
        self._ranks.fit(strange)
        for clock, column in zip((self._nearest, self._trailing), strange.T, strict=True):
            clock.fit(column.argsort(kind="stable").argsort() / len(column), rows[held])
        first = self._features.components
        sampled = features[:, : first + self.SAMPLED]
        times = np.array([correlation_time(column, rows) for column in sampled.T])
        # The mean of recent features, all noise, leans on each in proportion to its time.
        self._time = float(np.square(times).sum() / times.sum())
        self._margin = self.MARGIN * np.sqrt(self._time / min(len(strange), Witnesses.BAG))
        weight = np.repeat([1.0, self.KERNEL], [first, features.shape[1] - first])
        self._witnesses.fit(features[shaping], features[held], weight)
        self.restart(features.shape[1] + strange.shape[1], self._time)
        return max(self._time, *self._strange_times())

    def describe(self, data: FloatArray) -> Matrix:
        """Return cells of the two kinds of strangeness, and features."""
        features, scores = self._features.measure(data)
        return np.hstack([self._ranks.cells(scores.astype(np.float64)), features])

    def rank(self, values: Matrix, uniform: Matrix) -> Matrix:
        """Return the ranks of strangeness and along the witnesses."""
        strange = self._ranks.rank(values[:, :2], uniform[:, :2])
        along = self._witnesses.rank(values[:, 2:].astype(np.float32), uniform[:, 2:])
        return np.hstack([strange, along])

    def learn(self, block: Matrix) -> None:
        """Rank later rows among these too, and turn the witnesses."""
        self._ranks.add(block[:, :2])
        self._witnesses.learn(block[:, 2:])

    def heed(self, ranks: Matrix) -> None:
        """Learn how long strangeness lasts."""
        end = (self.count - 1) % self.PIECE + 1
        self._heard[end - len(ranks) : end] = ranks[:, :2]
        if end == self.PIECE:
            self._nearest.add(self._heard[:, 0])
            self._trailing.add(self._heard[:, 1])

    def bet(self, ranks: Matrix) -> Matrix:
        """Bet on high ranks, steeply on single strange rows; on trailing energy both ways."""
        nearest, trailing = self._strange_times()
        slopes = self.TILTS * (2.0 * ranks[:, :, None] - 1.0)
        tops = self.POWERS * (1.0 - ranks[:, :2, None]) ** (self.POWERS - 1.0)
        fair = 1.0 + self.TILTS * 3**-0.5 * self._margin
        high = (0.6 + 2.0 * ranks[:, 2:] ** 4) / (1.0 + 8 / 15 * self._margin)
        bets = [
            temper(np.hstack([tops[:, 0], 1.0 + slopes[:, 0]]), nearest),
            temper(np.hstack([tops[:, 1], 1.0 + slopes[:, 1], 1.0 - slopes[:, 1]]), trailing),
            temper(
                np.hstack([high, (1.0 + slopes[:, 2]) / fair, (1.0 + slopes[:, 3]) / fair]),
                self._time,
            ),
        ]
        return np.hstack(bets)

    def _strange_times(self) -> tuple[float, float]:
        least = 1.0 + self.SHARED * (self._time - 1.0)
        return max(least, self._nearest.value), max(least, self._trailing.value)
