"""Features of one input row, computed so that they are the same bits in whatever batch it comes."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from undrift.monitor.base import Stateful
from undrift.monitor.statistics.input_bets import spread
from undrift.records import FloatArray

Matrix = NDArray[np.float64]

CLIP = 5.0
"""Robust standard deviations beyond which a value counts no further."""

LARGEST, STEP = 16.0, 16.0
"""Features lie within this, in steps of one over that: sums of 128 products with integers of nine
bits are exact even in single precision."""


class Features(Stateful):
    """Whitened principal components of a row, random Fourier features, and how strange it is.

    Columns are scaled by median and interquartile range, clipped, and rotated to principal
    components of unit variance; the cosines of random projections of these span the functions
    that a Gaussian kernel can tell apart. Strangeness is measured twice: by the distance to the
    nearest of some reference rows, and by the energy in the components that hardly vary on the
    reference, which is what reconstruction from the others would miss.

    Every number that enters a sum is a multiple of a power of two, with so few bits that the sum
    is exact. So no result depends on the order of summation, which a matrix product chooses by
    the size of the batch.

    Reference:
        Rahimi, Recht. "Random features for large-scale kernel machines", NIPS 2007.
    """

    COMPONENTS: ClassVar[int] = 64
    FOURIER: ClassVar[int] = 32
    PROTOTYPES: ClassVar[int] = 256  # reference rows among which the nearest is sought
    FLOOR: ClassVar[float] = 0.03  # of the mean variance, added to that of each component
    LEADING: ClassVar[float] = 0.9  # share of variance that reconstruction would keep
    TABLE: ClassVar[int] = 1024
    SAVED = (
        "_centre", "_scale", "_mean", "_axes", "_leading", "_prototypes", "_omega", "_phase",
    )  # fmt: skip

    def __init__(self) -> None:
        turns = np.arange(self.TABLE) / self.TABLE
        self._wave = _steps(np.cos(2.0 * np.pi * turns))
        self._centre = np.zeros(1)
        self._scale = np.ones(1)
        self._mean = np.zeros(1)
        self._axes = np.ones((1, 1))
        self._leading = 1
        self._prototypes = np.zeros((2, 1), dtype=np.float32)
        self._omega = np.zeros((1, 1), dtype=np.float32)
        self._phase = np.zeros(1, dtype=np.float32)

    @property
    def components(self) -> int:
        """Number of principal components, the first of the features."""
        return len(self._mean)

    def fit(self, data: FloatArray, seed: int) -> None:
        """Choose scales, components, prototypes and waves.

        Args:
            data: (n, d) reference rows, at least two.
            seed: Seed of the random projections.
        """
        low, self._centre, high = np.quantile(data.astype(np.float64), [0.25, 0.5, 0.75], axis=0)
        self._scale = _scale((high - low) / 1.349, data)
        standard = self._standard(data)
        _, lengths, axes = np.linalg.svd(standard - standard.mean(axis=0), full_matrices=False)
        variance = lengths**2 / len(data)
        axes = axes / np.sqrt(variance + self.FLOOR * variance.mean() + 1e-12)[:, None]
        self._axes = _grid(axes[: self.COMPONENTS].T)
        self._mean = np.zeros(self._axes.shape[1])
        self._mean = (standard @ self._axes).mean(axis=0)
        share = np.cumsum(variance) / max(float(variance.sum()), 1e-12)
        self._leading = min(int(np.searchsorted(share, self.LEADING)) + 1, len(self._mean) - 1)
        components = self._components(data)
        some = spread(components, self.PROTOTYPES)
        # The last row adds the squared length of each prototype.
        self._prototypes = np.vstack([-2.0 * some.T, np.square(some).sum(axis=1)])
        self._fit_waves(spread(components, 200), np.random.default_rng(seed))

    def measure(self, data: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return features and strangeness.

        Args:
            data: (n, d) rows.

        Returns:
            (n, k) features, components first; and (n, 2): squared distance to the nearest
            reference row that is not the same, and energy in the trailing components.
        """
        components = self._components(data)
        turns = components @ self._omega + self._phase
        at = (turns * self.TABLE).astype(np.int32) & (self.TABLE - 1)
        squares = np.square(components)
        gaps = components @ self._prototypes[:-1] + self._prototypes[-1]
        length = squares.sum(axis=1)
        nearest = gaps.min(axis=1) + length
        same = np.flatnonzero(nearest == 0)
        others = np.where(gaps[same] + length[same, None] > 0, gaps[same], np.inf).min(axis=1)
        nearest[same] = np.where(np.isfinite(others), others + length[same], 0)
        trailing = squares[:, self._leading :].sum(axis=1)
        return np.hstack([components, self._wave[at]]), np.stack([nearest, trailing], axis=1)

    def _fit_waves(self, components: FloatArray, rng: np.random.Generator) -> None:
        gaps = components[:, None] - components[None]
        distance = np.sqrt(np.square(gaps).sum(axis=2))
        width = float(np.median(distance[np.triu_indices(len(components), 1)])) or 1.0
        omega = rng.standard_normal((components.shape[1], self.FOURIER)) / (2.0 * np.pi * width)
        self._omega = (np.rint(omega.clip(-1.0, 1.0) * 1024.0) / 1024.0).astype(np.float32)
        phase = rng.integers(0, self.TABLE, self.FOURIER) / self.TABLE
        self._phase = phase.astype(np.float32)

    def _standard(self, data: FloatArray) -> Matrix:
        standard = (data - self._centre) / self._scale
        clipped: Matrix = np.rint(standard.clip(-CLIP, CLIP) * 256.0) / 256.0
        return clipped

    def _components(self, data: FloatArray) -> FloatArray:
        return _steps(self._standard(data) @ self._axes - self._mean)


def _steps(values: Matrix) -> FloatArray:
    steps = np.rint(values.clip(-LARGEST, LARGEST) * STEP) / STEP
    return steps.astype(np.float32)


def _scale(robust: Matrix, data: FloatArray) -> Matrix:
    """Return (d,) scales: interquartile, else standard deviation, else that of other columns."""
    scale = np.where(robust > 0, robust, data.std(axis=0, dtype=np.float64))
    varying = scale[scale > 0]
    usual = np.median(varying) if len(varying) else 1.0
    scales: Matrix = np.where(scale > 0, scale, usual)
    return scales


def _grid(values: Matrix) -> Matrix:
    """Round ``values`` to multiples of a power of two, 20 bits below the largest of them."""
    step = 2.0 ** (np.ceil(np.log2(np.abs(values).max(initial=2.0**-64))) - 20)
    rounded: Matrix = np.rint(values / step) * step
    return rounded
