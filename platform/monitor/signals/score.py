"""The performance signal on score vectors: where does the likelihood pull the last layer?"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from undrift.evidence import Level, SignalReport
from undrift.monitor.base import Calibration, Measures
from undrift.monitor.calibration import limits, recent_rows
from undrift.monitor.join import Joined, LabelSignal
from undrift.monitor.settings import MonitorSettings
from undrift.monitor.signals.output import high_ranks
from undrift.monitor.statistics.bets import row_uniform
from undrift.monitor.statistics.dependence import temper
from undrift.monitor.statistics.detector import EDetector, aligned
from undrift.monitor.statistics.error_rate import ErrorTest
from undrift.monitor.statistics.score_map import Matrix, ScoreMap
from undrift.records import FloatArray, IntArray, Predictions, Reference


class ScoreSignal(LabelSignal):
    """Tests whether labels pull the last layer elsewhere than they did on its reference.

    The witness is the running mean of the score vectors less their mean on one half of the
    reference; along it, rows of a world that has moved score higher. A row's score is ranked among
    a bag of others, which begins as the other half of the reference and becomes a sample of the
    whole stream; the detector bets that ranks rise. The witness is made of blocks before the row,
    so the bets are fair. Two witnesses, with short and long memory, meet abrupt and slow change.
    Half of the budget is that of a test of plain errors, and the surer of the two is reported.

    Rows are ranked among those of their own kind only, for inputs of other kinds in other shares
    are no change of concept. What is left of it: it alarms on inputs on which the model was
    miscalibrated all along. So it sees labels change sides where the error rate hardly moves, and
    pays for it with some alarms on covariate shifts that do no harm.

    A waiting row takes 4 bytes for its kind, for each class and for each number of the embedding,
    of both of which at most 16 and 32 components are kept: at most 196.

    Args:
        settings: Budget of false alarms; seed.
    """

    BAG: ClassVar[int] = 512
    MEMORY: ClassVar[NDArray[np.float64]] = np.array([[0.4], [0.06]])
    BETS: ClassVar[int] = 6 * len(MEMORY)
    SAVED = ("_mean", "_running", "_block", "_bag", "_kinds", "_seen")
    PARTS = ("_map", "_detector", "_errors")

    def __init__(self, settings: MonitorSettings) -> None:
        self._settings = settings
        self._map = ScoreMap()
        self._start(np.zeros((1, 3)), np.zeros(1))

    def fit(self, reference: Reference) -> Calibration:
        """Fit components and witness on one half of the recent reference rows, ranks on both."""
        recent = recent_rows(reference, self._settings)
        order = np.random.default_rng(self._settings.seed).permutation(len(recent))
        half = len(recent) // 2
        shaping, held = order[:half], order[half : half + self.BAG]
        self._map.fit(recent.take(shaping))
        places = np.arange(len(recent))
        notes = self._map.note(recent.embedding, recent.output, places)
        factors = self._map.factors(notes, recent.y)
        self._start(factors[held], self._map.scores(factors[shaping]).mean(axis=0))
        self._errors.fit(recent.output.argmax(axis=1) != recent.y, recent.y, recent.rows)
        return Calibration(len(recent), self._errors.correlation_time)

    def note(self, rows: Predictions) -> FloatArray:
        """Return (n, k) kinds and factors of score vectors, k at most 49."""
        return self._map.note(rows.embedding, rows.output, rows.row)

    def measure(self, batch: Joined) -> Measures:
        """Return (n, 2 + k): ones where the prediction was wrong, labels, kinds and factors."""
        factors = self._map.factors(batch.notes, batch.label)
        return Measures(batch.row, np.column_stack([batch.wrong, batch.label, factors]))

    def advance(self, measures: Measures) -> None:
        """Take in labels that met their predictions."""
        for part in aligned(self._detector.count, len(measures)):
            rows, values = measures.row[part], measures.values[part]
            self._take(rows, values[:, 2:])
            self._errors.update(values[:, 0] > 0, values[:, 1].astype(np.int64), rows)

    def report(self) -> SignalReport:
        """Return level, statistic and change point of scores or errors, whichever say more."""
        reports = self._errors.report("performance"), self._detector.report("performance")
        return max(reports, key=lambda report: (report.level, report.statistic))

    def _start(self, held: Matrix, mean: NDArray[np.float64]) -> None:
        self._mean = mean
        self._running = np.repeat(mean[None], len(self.MEMORY), axis=0)
        self._block = np.zeros((EDetector.BLOCK, held.shape[1]))
        self._seen = len(held)
        self._kinds = np.full(self.BAG, -1.0)
        self._kinds[: len(held)] = held[:, 0]
        self._bag = np.zeros((self.BAG, self._map.width))
        self._bag[: len(held)] = self._map.scores(held)
        half = 2.0 * np.array(limits(self._settings))  # each half of the budget, together all
        self._detector = EDetector(np.ones(self.BETS), *half)
        self._errors = ErrorTest(*half)

    def _take(self, rows: IntArray, factors: Matrix) -> None:
        """Take in labels, none of them beyond the end of a block of the detector."""
        begin = self._detector.count % EDetector.BLOCK
        part = slice(begin, begin + len(rows))
        self._block[part] = factors
        # Always the whole block, so that a row's score does not depend on its company.
        scores = self._map.scores(self._block)
        ranks = self._ranks(scores, part, rows)
        values = high_ranks(ranks.reshape(-1)).reshape(len(rows), self.BETS)
        self._detector.update(temper(values, self._errors.correlation_time), rows)
        if part.stop == EDetector.BLOCK:
            self._running = self._running + self.MEMORY * (scores.mean(axis=0) - self._running)
            if self._detector.level < Level.DRIFT:
                self._keep(scores)

    def _ranks(self, scores: Matrix, part: slice, rows: IntArray) -> Matrix:
        """Return (n, 2) ranks along each witness of the rows in ``part`` of the block."""
        witness = (self._running - self._mean).T
        earlier, now = self._bag @ witness, (scores @ witness)[part]
        kinds = self._block[part, 0]
        first, last = (np.searchsorted(np.sort(self._kinds), kinds, side) for side in _SIDES)
        ranks = np.empty(now.shape)
        for i in range(len(self.MEMORY)):
            keys = np.sort(_by_kind(self._kinds, earlier[:, i]))
            sought = _by_kind(kinds, now[:, i])
            below, most = (np.searchsorted(keys, sought, side) for side in _SIDES)
            uniform = row_uniform(rows, self._settings.seed + 1 + i)
            ranks[:, i] = (below - first + uniform * (most - below + 1)) / (last - first + 1)
        return ranks

    def _keep(self, scores: Matrix) -> None:
        """Let the rows of a block into the bag by reservoir sampling."""
        order = np.arange(self._seen, self._seen + len(scores))
        place = (row_uniform(order, self._settings.seed + 3) * (order + 1)).astype(np.int64)
        place = np.where(order < self.BAG, order, place)
        for row in np.flatnonzero(place < self.BAG).tolist():
            self._kinds[place[row]], self._bag[place[row]] = self._block[row, 0], scores[row]
        self._seen += len(scores)


_SIDES: tuple[Literal["left"], Literal["right"]] = ("left", "right")


def _by_kind(kinds: NDArray[np.float64], scores: NDArray[np.float64]) -> NDArray[np.complex128]:
    """Return numbers that NumPy orders by kind, and within a kind by score."""
    keys = np.empty(len(kinds), dtype=np.complex128)
    keys.real, keys.imag = kinds, scores
    return keys
