"""Inputs against the reference by kernel mean embedding, and by how strange single rows are."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from undrift.monitor.column_ranks import ColumnRanks
from undrift.monitor.dependence import correlation_time
from undrift.monitor.features import Features
from undrift.monitor.input_bets import InputBets, Matrix, halves
from undrift.monitor.witness import Witnesses
from undrift.records import FloatArray, IntArray


class KernelBets(InputBets):
    """Bets that rows have become strange, and that they follow a witness.

    Strangeness needs no direction to be learnt first: a row that lies beyond all reference rows
    multiplies the evidence by some fifty at once. Witnesses find shifts that leave every single
    row plausible; they run over principal components and Fourier features together, which is the
    maximum mean discrepancy of a linear plus a Gaussian kernel.

    Features are fitted on one half of the reference; strangeness and witness scores are ranked
    among the other half and the stream. The bag of a witness is bounded, so what remains of its
    own error is paid for by a margin of ``MARGIN`` standard errors on each bet. All e-values are
    tempered by the correlation time of what they bet on.

    Reference:
        Gretton et al. "A kernel two-sample test", JMLR 2012; Vovk, Wang. "E-values: calibration,
        combination and applications", Annals of Statistics 2021, for bets on p-values.
    """

    CELLS: ClassVar[int] = 512
    POWERS: ClassVar[Matrix] = np.array([0.1, 0.3, 0.6])
    RISING: ClassVar[Matrix] = np.array([0.3, 0.9])
    SAMPLED: ClassVar[int] = 8  # Fourier features whose mean correlation time stands for all
    KERNEL: ClassVar[float] = 0.5  # weight of a Fourier feature; a component has 1
    MARGIN: ClassVar[float] = 0.75
    SAVED = (*InputBets.SAVED, "_times", "_margin")
    PARTS = ("_features", "_ranks", "_witnesses")

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._times = np.ones(4)
        self._margin = 0.0
        self._features = Features()
        self._ranks = ColumnRanks(self.CELLS)
        self._witnesses = Witnesses(seed + 1)

    @property
    def ranked(self) -> int:
        """Two kinds of strangeness, and two witnesses."""
        return len(self._times)

    def fit(self, data: FloatArray, rows: IntArray) -> float:
        """Fit features on one half of the reference rows, start ranks from the other."""
        shaping, held = halves(len(data))
        self._features.fit(data[shaping], self._seed)
        features, scores = self._features.measure(data)
        self._ranks.fit(scores[held].astype(np.float64))
        first = self._features.components
        weight = np.repeat([1.0, self.KERNEL], [first, features.shape[1] - first])
        self._witnesses.fit(features[shaping], features[held], weight)
        sampled = features[:, : first + self.SAMPLED]
        times = np.array([correlation_time(column, rows) for column in sampled.T])
        # The mean of recent features, all noise, leans on each in proportion to its time.
        witness = np.square(times).sum() / times.sum()
        strange = [correlation_time(column, rows[held]) for column in scores[held].T]
        self._times = np.array([*strange, witness, witness])
        self._margin = self.MARGIN * np.sqrt(witness / min(int(held.sum()), Witnesses.BAG))
        self.restart(features.shape[1] + scores.shape[1])
        return float(max(self._times.max(), times.max()))

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
        self._witnesses.learn(block[:, 2:].astype(np.float32))

    def bet(self, ranks: Matrix) -> Matrix:
        """Bet on high ranks, steeply on single strange rows; on trailing energy both ways."""
        bets = []
        for i, time in enumerate(self._times):
            rank = ranks[:, i : i + 1]
            slopes = self.RISING * (2.0 * rank - 1.0)
            if i < 2:
                top = self.POWERS * (1.0 - rank) ** (self.POWERS - 1.0)
                both = [top, 1.0 + slopes, 1.0 - slopes][: 2 + i]
            else:
                top = (0.6 + 2.0 * rank**4) / (1.0 + 8 / 15 * self._margin)
                both = [top, (1.0 + slopes) / (1.0 + self.RISING * 3**-0.5 * self._margin)]
            e_values = np.hstack(both)
            bets.append(e_values if time == 1.0 else e_values ** (1.0 / time))
        return np.hstack(bets)
