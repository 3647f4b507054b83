"""The output signal: uncertainty and mix of the predicted classes; needs no labels."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from undrift.events import SignalReport
from undrift.monitor.base import Calibration, Measures, Signal
from undrift.monitor.bets import Z, rank, rising, row_uniform
from undrift.monitor.calibration import limits, recent_rows
from undrift.monitor.detector import EDetector
from undrift.monitor.settings import MonitorSettings
from undrift.records import FloatArray, Predictions, Reference


class OutputSignal(Signal[Predictions]):
    """Tests whether the answers look like those given on the reference.

    Two kinds of bet share one detector. Uncertainty, 1 - max probability, becomes its rank among
    the reference's, and bets go mostly on larger ranks. The class bet follows the mix of the
    latest predicted classes: it pays (1 - s) + s p(c) / q(c) for class c, with p the recent mix
    and q the mix in one half of the reference, and is made fair on the other half.

    The signal also estimates accuracy without labels: confidence is calibrated on the reference
    (share of right answers in bins of confidence) and averaged over recent rows. The estimate
    rests on the labels still meaning the same given the inputs; under concept drift it is blind.

    Args:
        settings: Budget of false alarms; seed.

    Reference:
        Guillory et al. "Predicting with confidence on unseen distributions", ICCV 2021.
    """

    BLOCK: ClassVar[int] = 32
    BINS: ClassVar[int] = 10
    MEMORY: ClassVar[float] = 0.1  # weight of the newest block in the running means
    STRENGTHS: ClassVar[NDArray[np.float64]] = np.array([0.3, 0.8])
    SAVED = (
        "_uncertainty", "_mix", "_counts", "_recent_mix", "_edges", "_accuracy_of_bin",
        "_reference_accuracy", "_estimate", "_block_class", "_block_bin", "_count",
    )  # fmt: skip
    PARTS = ("_detector",)

    def __init__(self, settings: MonitorSettings) -> None:
        self._settings = settings
        self._uncertainty = np.zeros(0, dtype=np.float32)
        self._mix = np.ones(1)
        self._counts = np.ones(1)
        self._recent_mix = np.ones(1)
        self._edges = np.zeros(0, dtype=np.float32)
        self._accuracy_of_bin = np.ones(1)
        self._reference_accuracy = 1.0
        self._estimate = 1.0
        self._block_class = np.zeros(self.BLOCK, dtype=np.int64)
        self._block_bin = np.zeros(self.BLOCK, dtype=np.int64)
        self._count = 0
        self._detector = self._new_detector()

    @property
    def estimated_loss(self) -> float:
        """Accuracy on the reference less the label-free estimate of accuracy now."""
        return self._reference_accuracy - self._estimate

    @property
    def estimated_accuracy(self) -> float:
        """Label-free estimate of the accuracy on recent rows."""
        return self._estimate

    def fit(self, reference: Reference) -> Calibration:
        """Calibrate ranks, class mix and confidence on the recent reference rows."""
        recent = recent_rows(reference, self._settings)
        n, classes = recent.output.shape
        predicted = recent.output.argmax(axis=1)
        self._uncertainty = np.sort(_uncertainty(recent.output))
        order = np.random.default_rng(self._settings.seed).permutation(n)
        mix = np.bincount(predicted[order[: n // 2]], minlength=classes) + 0.5
        self._mix = mix / mix.sum()
        self._counts = np.bincount(predicted[order[n // 2 :]], minlength=classes).astype(float)
        self._recent_mix = self._mix
        self._calibrate(_uncertainty(recent.output), predicted == recent.y)
        self._count = 0
        self._detector = self._new_detector()
        return Calibration(n)

    def measure(self, batch: Predictions) -> Measures:
        """Return (n, 2): uncertainty and predicted class."""
        predicted = batch.output.argmax(axis=1)
        values = np.stack([_uncertainty(batch.output), predicted], axis=1, dtype=np.float64)
        return Measures(batch.row, values)

    def advance(self, measures: Measures) -> None:
        """Take in the answers of the watched version."""
        uncertainty = measures.values[:, 0].astype(np.float32)
        uniform = row_uniform(measures.row, self._settings.seed)
        ranks = rank(self._uncertainty, uncertainty, uniform)
        n = len(self._uncertainty)
        predicted = measures.values[:, 1].astype(np.int64)
        bins = np.searchsorted(self._edges, uncertainty)
        mix = self._bet_on_mix(predicted, bins)
        self._detector.update(
            np.hstack([rising(ranks, n), rising(1 - ranks, n), mix]), measures.row
        )

    def report(self) -> SignalReport:
        """Return the present level, statistic and change point."""
        return self._detector.report("output")

    def _new_detector(self) -> EDetector:
        # Half of the stake on uncertainty, two thirds of that on its rise; half on the class mix.
        stakes = np.concatenate([np.full(6, 1 / 18), np.full(6, 1 / 36), np.full(2, 1 / 4)])
        return EDetector(stakes, *limits(self._settings))

    def _calibrate(self, uncertainty: FloatArray, right: NDArray[np.bool_]) -> None:
        inner = np.linspace(0, 1, self.BINS + 1)[1:-1]
        self._edges = np.unique(np.quantile(uncertainty, inner)).astype(np.float32)
        bins = np.searchsorted(self._edges, uncertainty)
        size = np.bincount(bins, minlength=len(self._edges) + 1)
        hits = np.bincount(bins, weights=right, minlength=len(self._edges) + 1)
        self._reference_accuracy = float(right.mean())
        self._accuracy_of_bin = (hits + self._reference_accuracy) / (size + 1)
        self._estimate = self._reference_accuracy

    def _bet_on_mix(
        self, predicted: NDArray[np.int64], bins: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return (n, 2) e-values; the mix bet on is that of the blocks before the row's own."""
        values = np.empty((len(predicted), len(self.STRENGTHS)))
        done = 0
        while done < len(predicted):
            begin = self._count % self.BLOCK
            stop = min(len(predicted), done + self.BLOCK - begin)
            values[done:stop] = self._payoffs()[predicted[done:stop]]
            end = begin + stop - done
            self._block_class[begin:end] = predicted[done:stop]
            self._block_bin[begin:end] = bins[done:stop]
            self._count += stop - done
            if end == self.BLOCK:
                self._end_block()
            done = stop
        return values

    def _payoffs(self) -> NDArray[np.float64]:
        """Return the (classes, 2) payoff of each class, fair on the second half."""
        ratio = self._recent_mix / self._mix
        pay = 1.0 + self.STRENGTHS * (ratio[:, None] - 1.0)
        n = self._counts.sum()
        mean = self._counts @ pay / n
        deviation = np.sqrt(np.maximum(self._counts @ pay**2 / n - mean**2, 0.0))
        fair: NDArray[np.float64] = pay / (mean + Z * deviation / np.sqrt(n))
        return fair

    def _end_block(self) -> None:
        now = np.bincount(self._block_class, minlength=len(self._mix)) / self.BLOCK
        self._recent_mix = (1 - self.MEMORY) * self._recent_mix + self.MEMORY * now
        accuracy = float(self._accuracy_of_bin[self._block_bin].mean())
        self._estimate += self.MEMORY * (accuracy - self._estimate)


def _uncertainty(output: FloatArray) -> FloatArray:
    uncertainty: FloatArray = 1.0 - output.max(axis=1)
    return uncertainty
