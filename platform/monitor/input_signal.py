"""The input signal: a witness between recent and reference features; needs no labels."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from undrift.events import SignalReport
from undrift.monitor.base import Calibration, Measures, Signal
from undrift.monitor.bets import rank, rising, row_uniform
from undrift.monitor.calibration import limits, recent_rows
from undrift.monitor.detector import EDetector
from undrift.monitor.settings import MonitorSettings
from undrift.records import FloatArray, IntArray, Predictions, Reference


class InputSignal(Signal[Predictions]):
    """Tests whether the inputs still come from where the reference came from.

    A row becomes features: its leading principal components and random Fourier features of them,
    each of unit variance. The witness is the running mean of the features less their mean in one
    half of the reference; along it, inputs that have moved score higher than the reference.
    A row's score is ranked among the scores of the other half, and the detector bets that ranks
    rise. The witness is made of blocks before the row, so the bets are fair. Two witnesses, with
    short and long memory, meet abrupt and slow change.

    Raw input is watched where it has at most 256 numbers, else the embedding.

    Args:
        settings: Budget of false alarms; seed.

    Reference:
        Shekhar, Ramdas. "Nonparametric two-sample testing by betting", 2023, arXiv 2112.09162;
        Rahimi, Recht. "Random features for large-scale kernel machines", NIPS 2007.
    """

    BLOCK: ClassVar[int] = 32
    RAW_LIMIT: ClassVar[int] = 256
    COMPONENTS: ClassVar[int] = 64
    FOURIER: ClassVar[int] = 64
    HELD: ClassVar[int] = 512  # reference rows that scores are ranked against
    CLIP: ClassVar[float] = 5.0  # robust standard deviations
    MEMORY: ClassVar[FloatArray] = np.array([[0.2], [0.03]], dtype=np.float32)
    BETS: ClassVar[int] = 6 * len(MEMORY)
    SAVED = (
        "_raw", "_centre", "_scale", "_axes", "_omega", "_phase", "_mean", "_deviation",
        "_held", "_running", "_block", "_count",
    )  # fmt: skip
    PARTS = ("_detector",)

    def __init__(self, settings: MonitorSettings) -> None:
        self._settings = settings
        self._raw = True
        self._fit_features(np.zeros((2, 1), dtype=np.float32))
        self._fit_witness(np.zeros((2, 1), dtype=np.float32))

    def fit(self, reference: Reference) -> Calibration:
        """Fit features and witness on one half of the recent reference rows, ranks on the other."""
        recent = recent_rows(reference, self._settings)
        self._raw = int(np.prod(recent.x.shape[1:])) <= self.RAW_LIMIT
        data = self._columns(recent.x, recent.embedding)
        order = np.random.default_rng(self._settings.seed).permutation(len(data))
        half = len(data) // 2
        self._fit_features(data[order[:half]])
        self._fit_witness(data[order[half : half + self.HELD]])
        return Calibration(len(recent))

    def measure(self, batch: Predictions) -> Measures:
        """Return the (n, d) raw input or embedding."""
        return Measures(batch.row, self._columns(batch.x, batch.embedding).astype(np.float64))

    def advance(self, measures: Measures) -> None:
        """Take in the inputs of the watched version."""
        data = measures.values.astype(np.float32)
        ranks = np.empty((len(data), len(self.MEMORY)))
        done = 0
        while done < len(data):
            begin = self._count % self.BLOCK
            stop = min(len(data), done + self.BLOCK - begin)
            end = begin + stop - done
            # Always the whole block, so that a row's features do not depend on its company.
            self._block[begin:end] = data[done:stop]
            features = self._features(self._block)
            ranks[done:stop] = self._ranks(features, slice(begin, end), measures.row[done:stop])
            self._count += stop - done
            if end == self.BLOCK:
                self._running += self.MEMORY * (features.mean(axis=0) - self._running)
            done = stop
        values = rising(ranks.reshape(-1), len(self._held)).reshape(len(data), self.BETS)
        self._detector.update(values, measures.row)

    def report(self) -> SignalReport:
        """Return the present level, statistic and change point."""
        return self._detector.report("input")

    def _columns(self, x: FloatArray, embedding: FloatArray) -> FloatArray:
        source = x if self._raw else embedding
        width = int(np.prod(source.shape[1:]))
        return source.reshape(len(source), width).astype(np.float32, copy=False)

    def _ranks(self, features: FloatArray, part: slice, rows: IntArray) -> NDArray[np.float64]:
        """Return (n, 2) ranks of the rows in ``part`` of the block, along each witness."""
        witness = (self._running - self._mean).T
        held = np.sort(self._held @ witness, axis=0)
        scores = (features @ witness)[part]
        ranks = np.empty(scores.shape)
        for i in range(len(self.MEMORY)):
            uniform = row_uniform(rows, self._settings.seed + 1 + i)
            ranks[:, i] = rank(held[:, i], scores[:, i], uniform)
        return ranks

    def _fit_features(self, data: FloatArray) -> None:
        rng = np.random.default_rng(self._settings.seed)
        low, self._centre, high = np.quantile(data, [0.25, 0.5, 0.75], axis=0).astype(np.float32)
        self._scale = _scale((high - low) / 1.349, data)
        clipped = self._clip(data)
        _, spread, axes = np.linalg.svd(clipped - clipped.mean(axis=0), full_matrices=False)
        variance = spread**2 / len(data)
        floor = 0.1 * variance.mean() + 1e-12
        axes = axes / np.sqrt(variance + floor)[:, None]
        self._axes = np.ascontiguousarray(axes[: self.COMPONENTS].T, dtype=np.float32)
        parts = clipped @ self._axes
        some = parts[: min(len(parts), 200)]
        distance = np.sqrt(((some[:, None] - some[None]) ** 2).sum(axis=2))
        width = float(np.median(distance[np.triu_indices(len(some), 1)])) or 1.0
        omega = rng.standard_normal((parts.shape[1], self.FOURIER)) / width
        self._omega = omega.astype(np.float32)
        self._phase = rng.uniform(0, 2 * np.pi, self.FOURIER).astype(np.float32)
        self._mean = np.zeros(0, dtype=np.float32)
        self._deviation = np.ones(1, dtype=np.float32)
        features = self._features(data)
        deviation = features.std(axis=0)
        self._deviation = np.where(deviation > 1e-6, deviation, np.inf).astype(np.float32)
        self._mean = (features / self._deviation).mean(axis=0)

    def _fit_witness(self, held: FloatArray) -> None:
        self._held = self._features(held)
        self._running = np.repeat(self._mean[None], len(self.MEMORY), axis=0)
        self._block = np.zeros((self.BLOCK, held.shape[1]), dtype=np.float32)
        self._count = 0
        self._detector = EDetector(np.ones(self.BETS), *limits(self._settings))

    def _clip(self, data: FloatArray) -> FloatArray:
        scaled: FloatArray = ((data - self._centre) / self._scale).astype(np.float32, copy=False)
        return scaled.clip(-self.CLIP, self.CLIP)

    def _features(self, data: FloatArray) -> FloatArray:
        parts = self._clip(data) @ self._axes
        waves = np.cos(parts @ self._omega + self._phase)
        return (np.hstack([parts, waves]) / self._deviation).astype(np.float32, copy=False)


def _scale(robust: FloatArray, data: FloatArray) -> FloatArray:
    """Return (d,) scales: interquartile, else standard deviation, else that of other columns."""
    scale = np.where(robust > 0, robust, data.std(axis=0, dtype=np.float64))
    varying = scale[scale > 0]
    usual = np.median(varying) if len(varying) else 1.0
    return np.where(scale > 0, scale, usual).astype(np.float32)
