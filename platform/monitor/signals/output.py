"""The output signal: uncertainty and mix of the predicted classes; needs no labels."""

from __future__ import annotations

from dataclasses import replace
from statistics import NormalDist
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from undrift.evidence import Change, Level, SignalReport
from undrift.monitor.base import Calibration, Measures, Signal
from undrift.monitor.calibration import limits, recent_rows
from undrift.monitor.settings import MonitorSettings
from undrift.monitor.statistics.bets import row_uniform
from undrift.monitor.statistics.class_mix import ClassMix
from undrift.monitor.statistics.confidence import AccuracyEstimate, Confidence
from undrift.monitor.statistics.dependence import CorrelationTime, correlation_time, temper
from undrift.monitor.statistics.detector import EDetector
from undrift.monitor.statistics.online_ranks import OnlineRanks
from undrift.records import IntArray, Predictions, Reference

Floats = NDArray[np.float64]


class OutputSignal(Signal[Predictions]):
    """Tests whether the answers look like those given on the reference.

    Two kinds of bet share one detector. Calibrated uncertainty becomes its rank among reference
    and stream, and bets go mostly on larger ranks, some on single rows more uncertain than nearly
    all before; others on smaller ranks. The class bets follow the mix of the latest predicted
    classes. All are fair however short the reference. Where neighbouring rows are alike, e-values
    are tempered by their correlation time.

    Once the level is drift, rows no longer count among those that later ones are compared with;
    else a change that lasts would become the new normal.

    Outputs that are not probabilities are made so: negative and non-finite parts count as zero,
    and the rest is scaled to a sum of one. A row without any positive part is as uncertain as can
    be, and is counted in a class ``none`` of its own.

    Args:
        settings: Budget of false alarms; seed.

    Reference:
        Vovk et al. "Retrain or not retrain: conformal test martingales for change-point
        detection", COPA 2021; Guillory et al. "Predicting with confidence on unseen
        distributions", ICCV 2021.
    """

    WINDOW: ClassVar[int] = 512  # newest rows from which accuracy and changes are estimated
    LEAST: ClassVar[int] = 32  # of them that are used, however late the change point
    LAG: ClassVar[float] = 4.0  # correlation times by which the recent class mix lags
    LISTED: ClassVar[int] = 5
    INDEPENDENT: ClassVar[int] = 50  # with 20, measured, alarms came three times too soon
    SAVED = ("_classes", "_scores", "_least_mix_time", "_recent", "_count", "_learn")
    PARTS = ("_confidence", "_ranks", "_time", "_mix_time", "_mix", "_detector")

    def __init__(self, settings: MonitorSettings) -> None:
        self._settings = settings
        self._confidence = Confidence()
        self._ranks = OnlineRanks()
        self._count = 0
        self._learn = True
        self._scores = np.zeros(2)  # of each class: numbers whose correlation time is measured
        self._recent = np.zeros((0, 3))  # row, uncertainty and class of the newest rows
        self._time = CorrelationTime()  # of uncertainty
        self._mix_time = CorrelationTime()  # of the predicted class
        self._least_mix_time = 1.0
        self._watch(np.zeros(1, dtype=np.int64), 1)

    @property
    def mix_time(self) -> float:
        """Correlation time of the class mix: on the reference, or more if the stream tells so."""
        return max(self._least_mix_time, self._mix_time.value)

    @property
    def estimated_loss(self) -> float:
        """Accuracy on the reference less the label-free estimate of accuracy now."""
        return self.estimate().loss

    @property
    def loss_error(self) -> float:
        """Standard error of ``estimated_loss``."""
        return self.estimate().error

    @property
    def estimated_accuracy(self) -> float:
        """Label-free estimate of the accuracy on recent rows."""
        return self.estimate().accuracy

    def estimate(self) -> AccuracyEstimate:
        """Return the label-free estimate of accuracy on the newest rows since the change."""
        report = self._detector.report("output")
        return self._confidence.estimate(self._newest(report)[:, 1], self._time.value)

    def fit(self, reference: Reference) -> Calibration:
        """Calibrate confidence, ranks and class mix on the recent reference rows."""
        recent = recent_rows(reference, self._settings)
        n, classes = recent.output.shape
        self._confidence.fit(recent.output, recent.y)
        uncertainty, predicted = self._confidence.uncertainty(recent.output)
        self._ranks = OnlineRanks()
        self._ranks.fit(uncertainty, row_uniform(recent.rows, self._settings.seed + 2))
        self._time = CorrelationTime()
        self._time.fit(self._ranks.place(uncertainty), recent.rows)
        self._scores = np.random.default_rng(self._settings.seed).normal(size=classes + 1)
        self._mix_time = CorrelationTime()
        self._mix_time.fit(self._scores[predicted], recent.rows)
        self._least_mix_time = _mean_time(predicted, recent.rows)
        self._confidence.centre(uncertainty, self._time.value)
        self._count = 0
        self._recent = np.zeros((0, 3))
        self._watch(predicted, classes)
        time = max(self._time.value, self.mix_time)
        notes = _notes(recent, predicted, uncertainty)
        if n < self.INDEPENDENT * time:
            notes += (
                f"neighbouring rows are so alike that the {n} reference rows tell no more than "
                f"some {n / time:.0f} independent ones; false alarms may come sooner than the "
                "budget says",
            )
        return Calibration(n, time, notes)

    def measure(self, batch: Predictions) -> Measures:
        """Return (n, 2): uncertainty and predicted class."""
        values = np.stack(self._confidence.uncertainty(batch.output), axis=1, dtype=np.float64)
        return Measures(batch.row, values)

    def advance(self, measures: Measures) -> None:
        """Take in the answers of the watched version."""
        seed, before = self._settings.seed, len(self._recent)
        uniform = row_uniform(measures.row, seed), row_uniform(measures.row, seed + 1)
        newest = np.column_stack([measures.row, measures.values])
        self._recent = np.concatenate([self._recent, newest])
        done, n = 0, len(measures)
        while done < n:
            stop = min(n, done + ClassMix.BLOCK - self._count % ClassMix.BLOCK)
            part = slice(done, stop)
            bets = self._bet(measures.values[part], uniform[0][part], uniform[1][part])
            self._detector.update(bets, measures.row[part])
            self._count += stop - done
            if self._count % ClassMix.BLOCK == 0:
                self._end_block(self._recent[: before + stop][-ClassMix.BLOCK :])
            done = stop
        self._recent = self._recent[-self.WINDOW :]

    def report(self) -> SignalReport:
        """Return level, statistic, change point, and which classes and whether confidence moved."""
        report = self._detector.report("output")
        if report.level is Level.NONE:
            return report
        newest = self._newest(report)
        found = share_changes(
            self._classes, newest[:, 2].astype(np.int64), correlation_time=self.mix_time
        )
        found += self._confidence.changes(newest[:, 1], self._time.value)
        found.sort(key=lambda change: abs(change.effect), reverse=True)
        return replace(report, changes=tuple(found[: self.LISTED]))

    def _watch(self, predicted: IntArray, classes: int) -> None:
        self._classes = np.bincount(predicted, minlength=classes + 1)
        lag = int(np.ceil(self.LAG * self.mix_time))
        self._mix = ClassMix(self._classes, predicted[-lag:])
        self._detector = EDetector(_STAKES, *limits(self._settings))

    def _newest(self, report: SignalReport) -> Floats:
        """Return row, uncertainty and class of the newest rows, only since the change if any."""
        if report.change_row is None:
            return self._recent
        since = int(np.sum(self._recent[:, 0] >= report.change_row))
        return self._recent[-max(since, self.LEAST) :]

    def _bet(self, values: Floats, uniform: Floats, tie: Floats) -> Floats:
        ranks = self._ranks.rank(values[:, 0], uniform, tie, learn=self._learn)
        unsure = high_ranks(np.concatenate([ranks, 1.0 - ranks])).reshape(2, len(ranks), -1)
        begin = self._count % ClassMix.BLOCK
        mix = self._mix.bet(values[:, 1].astype(np.int64), begin, learn=self._learn)
        up, down = temper(unsure, self._time.value)
        return np.hstack([up, down, temper(mix, self.mix_time)])

    def _end_block(self, block: Floats) -> None:
        if self._learn:
            self._time.add(self._ranks.place(block[:, 1]))
            self._mix_time.add(self._scores[block[:, 2].astype(np.int64)])
        self._learn = self._detector.level < Level.DRIFT


def _mean_time(predicted: IntArray, rows: IntArray) -> float:
    """Return the mean correlation time of the classes, by how much each varies."""
    found = [predicted == c for c in np.unique(predicted)]
    spread = np.array([np.var(one) for one in found]) + 1e-12
    return float(spread @ [correlation_time(one, rows) for one in found] / spread.sum())


def high_ranks(ranks: Floats) -> Floats:
    """Bet that ranks are high: weakly to strongly, on the top tail, and on single highest ones.

    Args:
        ranks: (n,) ranks, uniform while nothing has changed.

    Returns:
        (n, 6) e-values, each of expectation one for uniform ranks.
    """
    slope = 2.0 * ranks - 1.0
    tail = 5.0 * ranks**4 - 1.0
    beyond = np.maximum(1.0 - ranks, _FEWEST)
    columns = [1.0 + tilt * slope for tilt in _SLOPES] + [1.0 + tilt * tail for tilt in _TAILS]
    columns += [p * beyond ** (p - 1.0) / (1.0 - (1.0 - p) * _FEWEST**p) for p in _POWERS]
    return np.stack(columns, axis=1)


def share_changes(
    reference: IntArray, predicted: IntArray, *, correlation_time: float
) -> list[Change]:
    """Return the predicted classes whose share has changed significantly.

    The effect is Cohen's h, the difference of 2 arcsin sqrt(share); 0.2 is small, 0.8 large.

    Args:
        reference: (c + 1,) reference rows of each class; the last is ``none``.
        predicted: (n,) classes of recent rows.
        correlation_time: Rows that carry the information of one independent row.

    Returns:
        One change per class that moved, at a chance of 5 % of listing any where none has.
    """
    total, n = int(reference.sum()), len(predicted)
    before = reference / total
    now = np.bincount(predicted, minlength=len(reference)) / n
    effect = 2.0 * (np.arcsin(np.sqrt(now)) - np.arcsin(np.sqrt(before)))
    error = np.sqrt(correlation_time * (1.0 / total + 1.0 / n))
    critical = NormalDist().inv_cdf(1.0 - 0.025 / len(reference))
    names = [*map(str, range(len(reference) - 1)), "none"]
    return [
        Change("class", names[c], "share", float(effect[c]), float(before[c]), float(now[c]))
        for c in np.flatnonzero(np.abs(effect) > critical * error)
    ]


def _notes(reference: Reference, predicted: IntArray, uncertainty: Floats) -> tuple[str, ...]:
    """Return what a user should know about the answers given on the reference."""
    notes = []
    sums = reference.output.sum(axis=1, dtype=np.float64)
    odd = int(np.sum((np.abs(sums - 1.0) > 0.01) | (reference.output < 0).any(axis=1)))
    if odd:
        notes.append(
            f"{odd} of {len(sums)} reference outputs are not probabilities (negative, or not of "
            "sum one) and were scaled to be; does the model end with a softmax?"
        )
    if len(np.unique(predicted)) == 1:
        notes.append(
            f"the model gives every reference row the class {predicted[0]}, so any other answer "
            "will look like a change"
        )
    if np.ptp(uncertainty) == 0:
        notes.append(
            "the model is equally sure of every reference row, so its confidence can tell "
            "nothing about accuracy"
        )
    elif (predicted == reference.y).all():
        notes.append(
            "the model makes no error on the reference, so how accuracy falls with confidence "
            "is little known"
        )
    return tuple(notes)


_SLOPES = (0.3, 0.9)
_TAILS = (0.2, 0.45)
_POWERS = (0.2, 0.5)
_FEWEST = 1 / 800  # a smaller share of rows beyond is bet on no higher: the detector clips
# Half of the stake on uncertainty, two thirds of that on its rise; half on the class mix.
_STAKES = np.repeat([1 / 18, 1 / 36, 1 / 8], [6, 6, ClassMix.BETS])
