"""Witness functions: along which direction have recent rows left the reference?"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from undrift.monitor.base import Stateful
from undrift.monitor.statistics.input_bets import spread
from undrift.records import FloatArray

Matrix = NDArray[np.float64]

GOLDEN = (5**0.5 - 1) / 2
"""Its multiples, less their whole parts, spread evenly; they choose the row that makes room."""


class Witnesses(Stateful):
    """Scores rows along the difference between recent and earlier mean features.

    A witness is the running mean of the features of the stream, less their mean over the whole
    past, each feature in units of its variance; rows from a world that has moved score higher
    along it. There is one with short memory, for abrupt change, and one with long memory, for
    slow change. A score is ranked among the scores of a bag of rows, which begins as reference
    rows that had no part in the mean, and becomes a sample of the whole stream.

    Reference:
        Shekhar, Ramdas. "Nonparametric two-sample testing by betting", 2023, arXiv 2112.09162;
        Vitter. "Random sampling with a reservoir", 1985.
    """

    BAG: ClassVar[int] = 512
    MEMORY: ClassVar[Matrix] = np.array([[0.3], [0.03]])  # weight of the newest block
    LEVELS: ClassVar[float] = 511.0  # weights are integers up to it, so that scores are exact
    SAVED = ("_precision", "_sum", "_rows", "_running", "_bag", "_seen", "_weights", "_ordered")

    def __init__(self) -> None:
        empty = np.zeros((2, 1), dtype=np.float32)
        self.fit(empty, empty, np.ones(1))

    def fit(self, shaping: FloatArray, held: FloatArray, weight: Matrix) -> None:
        """Start from reference features.

        Args:
            shaping: (n, d) features whose mean the stream is compared with.
            held: (m, d) features of other rows, to rank among.
            weight: (d,) how much each feature counts.
        """
        variance = shaping.var(axis=0, dtype=np.float64)
        self._precision = np.where(variance > 1e-6, weight / np.maximum(variance, 1e-6), 0.0)
        self._sum = shaping.sum(axis=0, dtype=np.float64)
        self._rows = len(shaping)
        self._running = np.repeat(self._sum[None] / self._rows, len(self.MEMORY), axis=0)
        self._bag = spread(held, self.BAG)
        self._seen = len(held)
        self._aim()

    def rank(self, features: FloatArray, uniform: Matrix) -> Matrix:
        """Return the (n, memories) ranks of rows along each witness; changes nothing."""
        scores = (features @ self._weights).T
        below = np.empty(scores.shape)
        ties = np.empty(scores.shape)
        for i, ordered in enumerate(self._ordered):
            below[i] = ordered.searchsorted(scores[i])
            ties[i] = ordered.searchsorted(scores[i], "right")
        ties -= below
        ranks: Matrix = (below.T + uniform * (ties.T + 1.0)) / (len(self._bag) + 1.0)
        return ranks

    def learn(self, block: Matrix) -> None:
        """Turn the witnesses by a block of (n, d) features."""
        total = block.sum(axis=0)
        self._sum = self._sum + total
        self._rows += len(block)
        self._running = self._running + self.MEMORY * (total / len(block) - self._running)
        self._seen += 1
        if len(self._bag) < self.BAG:
            self._bag = np.vstack([self._bag, block[:1].astype(np.float32)])
        else:
            place = int((self._seen * GOLDEN) % 1.0 * self._seen)
            if place < self.BAG:
                self._bag[place] = block[0]
        self._aim()

    def _aim(self) -> None:
        weights = (self._running - self._sum / self._rows) * self._precision
        largest = np.maximum(np.abs(weights).max(axis=1, keepdims=True), 1e-300)
        self._weights = np.rint(weights * (self.LEVELS / largest)).T.astype(np.float32)
        self._ordered = np.sort((self._bag @ self._weights).T, axis=1)
