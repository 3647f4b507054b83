"""The performance signal on losses: how surprised the stored prediction is by its late label."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from undrift.evidence import Level, SignalReport
from undrift.monitor.base import Calibration, Measures
from undrift.monitor.calibration import limits, recent_rows
from undrift.monitor.join import Joined, LabelSignal
from undrift.monitor.settings import MonitorSettings
from undrift.monitor.signals.output import high_ranks
from undrift.monitor.statistics.bets import row_uniform
from undrift.monitor.statistics.dependence import CorrelationTime, temper
from undrift.monitor.statistics.detector import EDetector, aligned
from undrift.monitor.statistics.online_ranks import OnlineRanks
from undrift.monitor.statistics.score_map import probabilities
from undrift.records import FloatArray, IntArray, Predictions, Reference


class LossSignal(LabelSignal):
    """Tests whether labels surprise the model more than they did on its reference.

    The cross-entropy of the stored prediction is ranked among those of the reference and of all
    labels before it, and the detector bets that ranks rise, tempered by the correlation time of
    the losses. Once the level is drift, losses no longer count for the ranks of later ones. Equal
    losses are ranked at random, so a model with the same loss on every row has false alarms at
    the rate of the budget, no less than others. Mean time to the first false drift, in multiples of
    the budget (1,000 and 10,000 rows; references of 200 and 1,000; 30 to 100 runs each): 1.3 to 1.6
    on independent losses, 0.9 to 1.2 on those of an AR(1) of 0.5.

    A loss sees a model that is wrong more often, sooner where it was sure, and one that is less
    sure of being right, as on damaged inputs, long before the error rate does. So it also alarms
    where the model loses nothing but confidence.

    Outputs that are not probabilities are normalised. A probability below 6e-8, and that of a
    label that the model has no class for, counts as 6e-8, a loss of 16.6. Of a model with more
    than 32 classes, the 32 likeliest are noted, and the others share what is left: a waiting row
    takes 4 bytes a class, and never more than 256.

    Args:
        settings: Budget of false alarms; seed.
    """

    LEADING: ClassVar[int] = 32
    LEAST: ClassVar[float] = 2.0**-24
    BETS: ClassVar[int] = 6
    SAVED = ("_classes", "_learn", "_block")
    PARTS = ("_ranks", "_time", "_detector")

    def __init__(self, settings: MonitorSettings) -> None:
        self._settings = settings
        self._start(1)

    def _start(self, classes: int) -> None:
        self._classes = classes
        self._ranks = OnlineRanks()
        self._time = CorrelationTime()
        self._learn = True
        self._block = np.zeros(EDetector.BLOCK)
        self._detector = EDetector(np.ones(self.BETS), *limits(self._settings))

    def fit(self, reference: Reference) -> Calibration:
        """Take the losses of the recent reference rows as those that are fine."""
        recent = recent_rows(reference, self._settings)
        self._start(recent.output.shape[1])
        losses = self._losses(self._leading(recent.output), recent.y)
        self._time.fit(losses, recent.rows)
        self._ranks.fit(losses, row_uniform(recent.rows, self._settings.seed + 2))
        note = "the loss is the same on every reference row, so any larger one looks like a change"
        return Calibration(len(recent), self._time.value, () if np.ptp(losses) else (note,))

    def note(self, rows: Predictions) -> FloatArray:
        """Return (n, c) class probabilities, or (n, 64) the likeliest 32 classes and theirs."""
        return self._leading(rows.output)

    def measure(self, batch: Joined) -> Measures:
        """Return (n, 1) losses in nats."""
        return Measures(batch.row, self._losses(batch.notes, batch.label)[:, None])

    def advance(self, measures: Measures) -> None:
        """Take in the losses of labels that met their predictions."""
        seed = self._settings.seed
        for part in aligned(self._detector.count, len(measures)):
            begin = self._detector.count % EDetector.BLOCK
            if begin == 0:
                self._learn = self._detector.level < Level.DRIFT
            rows, losses = measures.row[part], measures.values[part, 0]
            uniform, tie = row_uniform(rows, seed), row_uniform(rows, seed + 1)
            ranks = self._ranks.rank(losses, uniform, tie, learn=self._learn)
            self._detector.update(temper(high_ranks(ranks), self._time.value), rows)
            self._block[begin : begin + len(rows)] = losses
            if self._learn and begin + len(rows) == EDetector.BLOCK:
                self._time.add(self._block)

    def report(self) -> SignalReport:
        """Return the present level, statistic and change point."""
        return self._detector.report("performance")

    def _leading(self, output: FloatArray) -> FloatArray:
        chances = probabilities(output)
        if output.shape[1] <= self.LEADING:
            return chances
        top = np.argsort(-chances, axis=1, kind="stable")[:, : self.LEADING]
        return np.hstack([top, np.take_along_axis(chances, top, axis=1)]).astype(np.float32)

    def _losses(self, notes: FloatArray, label: IntArray) -> NDArray[np.float64]:
        known = (label >= 0) & (label < self._classes)
        if self._classes <= self.LEADING:
            chance = notes[np.arange(len(notes)), np.where(known, label, 0)].astype(np.float64)
        else:
            top, chances = np.hsplit(notes[:, : 2 * self.LEADING].astype(np.float64), 2)
            hit = top == label[:, None]
            rest = (1.0 - chances.sum(axis=1)) / (self._classes - self.LEADING)
            chance = np.where(hit.any(axis=1), (chances * hit).sum(axis=1), rest)
        losses: NDArray[np.float64] = -np.log(np.where(known, chance, 0.0).clip(self.LEAST, 1.0))
        return losses
