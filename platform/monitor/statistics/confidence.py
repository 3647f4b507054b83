"""How sure the model is, calibrated, and what accuracy that makes likely; needs no labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from undrift.evidence import Change
from undrift.monitor.base import Stateful
from undrift.records import FloatArray, IntArray

Floats = NDArray[np.float64]
FLOOR = 1e-12  # no class is held less likely


@dataclass(frozen=True, slots=True)
class AccuracyEstimate:
    """What accuracy recent rows have, as far as confidence can tell.

    Attributes:
        accuracy: Estimated accuracy, in [0, 1].
        loss: Accuracy on the reference less the estimate.
        error: Standard error of ``loss`` from the sizes of reference and recent rows. It does not
            cover a confidence that means less on the new inputs than it did on the reference.
    """

    accuracy: float
    loss: float
    error: float


class Confidence(Stateful):
    """Calibrates confidence on labelled rows by one temperature, and estimates accuracy with it.

    Calibrated probabilities are softmax(b log p), the inverse temperature b being the most likely
    one on the reference, with a standard normal prior about 1 so that a reference without errors
    cannot make the model infinitely sure. The estimated loss of accuracy is the difference of the
    mean calibrated confidences of reference and recent rows.

    The estimate holds while a confidence means the same as on the reference, as it does where
    only the mix of inputs changes. It is blind to concept drift, and hopeful about inputs unlike
    any that the model was trained on.

    Reference:
        Guo et al. "On calibration of modern neural networks", ICML 2017; Guillory et al.
        "Predicting with confidence on unseen distributions", ICCV 2021.
    """

    LEAST: ClassVar[float] = 0.05
    MOST: ClassVar[float] = 20.0
    SAVED = ("_sharpness", "_doubt", "_independent", "_accuracy", "_mean", "_variance", "_slope")

    def __init__(self) -> None:
        self._sharpness = 1.0  # inverse temperature
        self._doubt = 0.0  # standard error of it
        self._independent = 1.0  # independent reference rows
        self._accuracy = 1.0
        self._mean = 1.0  # calibrated confidence on the reference
        self._variance = 0.0
        self._slope = 0.0  # of the mean, by the inverse temperature

    def fit(self, output: FloatArray, label: IntArray) -> None:
        """Calibrate on labelled rows.

        Args:
            output: (n, c) class probabilities.
            label: (n,) class index; one that the model does not have counts as very unlikely.
        """
        logs, broken = _logs(output)
        rows = np.arange(len(label))
        known = (label >= 0) & (label < logs.shape[1])
        truth = np.where(known, logs[rows, np.where(known, label, 0)], np.log(FLOOR))
        best = logs.max(axis=1)
        self._sharpness, self._doubt = _most_likely(logs - best[:, None], truth - best)
        self._accuracy = float(np.mean((logs.argmax(axis=1) == label) & ~broken))
        self.centre(self.uncertainty(output)[0], 1.0)

    def centre(self, uncertainty: Floats, correlation_time: float) -> None:
        """Take rows as the reference that losses are measured from.

        Args:
            uncertainty: (n,) of reference rows.
            correlation_time: Rows that carry the information of one independent row.
        """
        self._independent = len(uncertainty) / correlation_time
        self._mean = float(1.0 - uncertainty.mean())
        self._variance = float(uncertainty.var())
        self._slope = self._mean_slope(uncertainty)

    def uncertainty(self, output: FloatArray) -> tuple[Floats, IntArray]:
        """Return how unsure the model is of each row, and which class it predicts.

        Args:
            output: (n, c) class probabilities, or what passes for them.

        Returns:
            (n,) calibrated probabilities of all classes but the likeliest, and (n,) the likeliest
            class. A row without any positive part has uncertainty 1 and class c.
        """
        logs, broken = _logs(output)
        rows = np.arange(len(logs))
        predicted = logs.argmax(axis=1)
        chances = np.exp(self._sharpness * (logs - logs[rows, predicted][:, None]))
        chances[rows, predicted] = 0.0
        others = chances.sum(axis=1)
        unsure = (others / (1.0 + others)).astype(np.float32).astype(np.float64)
        return np.where(broken, 1.0, unsure), np.where(broken, logs.shape[1], predicted)

    def estimate(self, uncertainty: Floats, correlation_time: float) -> AccuracyEstimate:
        """Return what accuracy rows of such uncertainty have.

        Args:
            uncertainty: (n,) of recent rows; none at all are taken to be like the reference.
            correlation_time: Rows that carry the information of one independent row.
        """
        if not len(uncertainty):
            return AccuracyEstimate(self._accuracy, 0.0, 0.0)
        loss = self._mean - float(1.0 - uncertainty.mean())
        sampling = self._variance / self._independent
        sampling += float(uncertainty.var()) * correlation_time / len(uncertainty)
        leaning = (self._mean_slope(uncertainty) - self._slope) * self._doubt
        accuracy = min(max(self._accuracy - loss, 0.0), 1.0)
        return AccuracyEstimate(accuracy, loss, float(np.sqrt(sampling + leaning**2)))

    def changes(self, uncertainty: Floats, correlation_time: float) -> list[Change]:
        """Return whether mean confidence has changed, by three standard errors; none or one.

        The effect is Cohen's d: the difference of the means in standard deviations, which count
        as at least 0.01, the least difference in confidence that matters.

        Args:
            uncertainty: (n,) of recent rows.
            correlation_time: Rows that carry the information of one independent row.
        """
        now, variance = float(1.0 - uncertainty.mean()), float(uncertainty.var())
        error = self._variance / self._independent + variance * correlation_time / len(uncertainty)
        if abs(now - self._mean) <= 3.0 * np.sqrt(error):
            return []
        deviation = max(float(np.sqrt((self._variance + variance) / 2.0)), 0.01)
        effect = (now - self._mean) / deviation
        return [Change("confidence", "confidence", "cohen_d", effect, self._mean, now)]

    def _mean_slope(self, uncertainty: Floats) -> float:
        """Return how the mean confidence rises with the inverse temperature, as of two classes."""
        unsure = uncertainty.clip(FLOOR, 1.0 - FLOOR)
        odds = np.log1p(-unsure) - np.log(unsure)
        return float(np.mean(unsure * (1.0 - unsure) * odds)) / self._sharpness


def _logs(output: FloatArray) -> tuple[Floats, NDArray[np.bool_]]:
    """Return (n, c) log probabilities, and (n,) True where no part of a row was positive.

    Negative parts and parts that are not finite count as zero, and what is left is scaled to a
    sum of one; a row without any is uniform.
    """
    parts = np.ascontiguousarray(output, dtype=np.float64)
    if not np.isfinite(parts.sum()) or (parts < 0.0).any():
        parts = np.where(np.isfinite(parts), parts, 0.0).clip(min=0.0)
    total = parts.sum(axis=1)
    broken = total <= 0.0
    if broken.any():
        parts = np.where(broken[:, None], 1.0, parts)
        total = np.where(broken, parts.shape[1], total)
    return np.log(np.maximum(parts / total[:, None], FLOOR)), broken


def _most_likely(logs: Floats, truth: Floats) -> tuple[float, float]:
    """Return the most likely inverse temperature and its standard error.

    Args:
        logs: (n, c) log probabilities, the largest of each row being 0.
        truth: (n,) those of the labels.
    """
    low, high = Confidence.LEAST, Confidence.MOST
    curvature = 1.0
    for _ in range(40):  # the slope rises with b, so halving finds its zero
        b = (low + high) / 2.0
        chances = np.exp(b * logs)
        chances /= chances.sum(axis=1, keepdims=True)
        mean = (chances * logs).sum(axis=1)
        slope = float((mean - truth).sum()) + (b - 1.0)
        curvature = float(((chances * logs**2).sum(axis=1) - mean**2).sum()) + 1.0
        low, high = (low, b) if slope > 0 else (b, high)
    return (low + high) / 2.0, 1.0 / float(np.sqrt(curvature))
