"""The sequential test behind every signal: a mixture of Shiryaev-Roberts e-detectors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from undrift.evidence import Level, SignalReport
from undrift.monitor.base import Stateful
from undrift.records import IntArray

FloatMatrix = NDArray[np.float64]


class EDetector(Stateful):
    """Accumulates e-values until "nothing has changed" is no longer believable.

    For each alternative k, R_t = (R_{t-1} + 1) L_t, where the e-value L_t has expectation at most
    one, given the past, while nothing has changed. The mixture M_t = sum_k w_k R_t^k minus t is
    then a supermartingale, so the mean number of rows before M first reaches a limit A is at
    least A without any further assumption: a false-alarm budget is itself the limit. The reported
    statistic and limits are log10(1 + M).

    A level falls again when M is below a tenth of its limit, or has not reached the limit in the
    last ``STALE`` rows; drift stands for at least ``HOLD`` rows, so that it is seen however rarely
    one looks. What had come together by then
    is forgotten when the warning level falls, lest it make the next alarm cheap, and each R is
    capped at a hundred times the drift limit, lest recovery take forever; both only lower M.

    The change point is the start s that maximises the likelihood prod_{i=s..t} L_i of the best
    alternative, that is, the last reset of its CUSUM; it is never later than the row at which the
    present level was reached. While drift stands it stays where it was in the block of rows in
    which drift was found: a regime has one beginning, however its evidence comes in bursts.

    Args:
        weights: (k,) mixture weights, positive; they are normalised to sum to one.
        warning_at: Mean number of rows between false warnings.
        drift_at: Mean number of rows between false drifts.

    Example:
        >>> detector = EDetector(np.ones(1), warning_at=100, drift_at=1000)
        >>> doubling = np.full((12, 1), 2.0)
        >>> detector.update(doubling, np.arange(12))
        >>> detector.report("x").level.name, detector.report("x").change_row
        ('DRIFT', 0)

    Reference:
        Shin, Ramdas, Rinaldo. "E-detectors: a nonparametric framework for sequential change
        detection", 2022, arXiv 2203.03532.
    """

    BLOCK: ClassVar[int] = 64
    HOLD: ClassVar[int] = 4096
    STALE: ClassVar[int] = 512
    LOWEST: ClassVar[float] = float(np.exp(-4.0))
    HIGHEST: ClassVar[float] = float(np.exp(4.0))
    SAVED = (
        "_weights", "_limits", "_ceiling", "_count", "_product", "_total", "_low", "_start",
        "_level", "_fallen", "_since", "_held", "_reached", "_change", "_statistic",
    )  # fmt: skip

    def __init__(self, weights: NDArray[np.float64], warning_at: float, drift_at: float) -> None:
        k = len(weights)
        self._weights = np.asarray(weights, dtype=np.float64) / np.sum(weights)
        self._limits = np.log10(1.0 + np.array([warning_at, drift_at], dtype=np.float64))
        self._ceiling = 100.0 * float(drift_at)
        self._count = 0
        # Within a block of rows: product of the e-values, R divided by that product, and the
        # least product so far, where the CUSUM began. All are rescaled where a block ends.
        self._product = np.ones(k)
        self._total = np.zeros(k)
        self._low = np.full(k, np.inf)
        self._start = np.full(k, -1, dtype=np.int64)
        self._level = 0
        self._fallen = False
        self._since = -1
        self._held = 0  # count of rows up to which drift stands
        self._reached = 0  # count of rows when M was last at the limit of the level
        self._change = -1  # change point of the drift that stands
        self._statistic = 0.0

    def update(self, values: FloatMatrix, rows: IntArray) -> None:
        """Take in one e-value per row and alternative.

        Args:
            values: (n, k) e-values; they are clipped to [exp(-4), exp(4)].
            rows: (n,) row number of each.
        """
        values = np.clip(values, self.LOWEST, self.HIGHEST)
        for part in aligned(self._count, len(rows)):
            self._advance(values[part], rows[part])

    @property
    def count(self) -> int:
        """Rows taken in so far."""
        return self._count

    @property
    def totals(self) -> NDArray[np.float64]:
        """(k,) evidence w_k R_k that each alternative holds; their sum is M + t."""
        totals: NDArray[np.float64] = self._weights * self._product * self._total
        return totals

    @property
    def level(self) -> Level:
        """Level after the last row."""
        return Level(self._level)

    def report(self, name: str) -> SignalReport:
        """Return level, statistic and change point as the report of signal ``name``."""
        alarmed = self._level > 0
        return SignalReport(
            name=name,
            level=Level(self._level),
            statistic=self._statistic,
            warning_at=float(self._limits[0]),
            drift_at=float(self._limits[1]),
            change_row=self._change_row() if alarmed else None,
            since_row=self._since if alarmed else None,
        )

    def _change_row(self) -> int:
        if self._change >= 0:
            return self._change
        best = np.argmax(self._weights * self._product / self._low)
        return min(int(self._start[best]), self._since)

    def _advance(self, values: FloatMatrix, rows: IntArray) -> None:
        product = np.cumprod(np.vstack([self._product, values]), axis=0)
        before = product[:-1]
        total = np.cumsum(np.vstack([self._total, 1.0 / before]), axis=0)
        path = np.log10(1.0 + (product[1:] * total[1:] * self._weights).sum(axis=1))
        at = np.argmin(before, axis=0)
        lowest = before[at, np.arange(before.shape[1])]
        self._start = np.where(lowest < self._low, rows[at], self._start)
        self._low = np.minimum(lowest, self._low)
        self._product, self._total = product[-1], total[-1]
        self._count += len(rows)
        self._statistic = float(path[-1])
        self._walk(path, rows)
        if self._count % self.BLOCK == 0:
            self._end_block()

    def _end_block(self) -> None:
        self._change = self._change_row() if self._level == Level.DRIFT else -1
        if self._fallen and self._level == 0:
            self._total = np.zeros_like(self._total)
            self._low = np.full_like(self._low, np.inf)
        else:
            cusum = np.minimum(self._product / self._low, self._ceiling)
            self._total = np.minimum(self._product * self._total, self._ceiling)
            self._low = 1.0 / cusum
        self._product = np.ones_like(self._product)
        self._fallen = False

    def _walk(self, path: NDArray[np.float64], rows: IntArray) -> None:
        """Follow the statistic through the levels, row by row, in as few steps as it crosses."""
        warning, drift = self._limits
        first = self._count - len(path)
        counts = np.arange(first, self._count)
        at = 0
        while at < len(path):
            rise = (warning, drift, np.inf)[self._level]
            here = (np.inf, warning, drift)[self._level]
            reached = np.where(path[at:] >= here, counts[at:], self._reached)
            reached = np.maximum.accumulate(reached)
            falls = (path[at:] < here - 1.0) | (counts[at:] - reached >= self.STALE)
            falls &= (self._level == 1) | ((self._level == 2) & (counts[at:] >= self._held))
            crossed = (path[at:] >= rise) | falls
            if not crossed.any():
                self._reached = int(reached[-1])
                return
            step = int(np.argmax(crossed))
            at += step
            if path[at] >= rise:
                self._level = 2 if path[at] >= drift else 1
                self._held = first + at + self.HOLD if self._level == 2 else self._held
            else:
                self._level = 0 if self._level == 1 or path[at] < warning - 1.0 else 1
                self._fallen = self._level == 0
            self._reached = first + at
            self._since = int(rows[at])


def aligned(count: int, n: int) -> Iterator[slice]:
    """Cut ``n`` rows where blocks end, so that what happens there depends on no other cut.

    Args:
        count: Rows before these.
        n: Rows.

    Yields:
        Slices of the rows, none longer than a block.

    Example:
        >>> list(aligned(60, 70))
        [slice(0, 4, None), slice(4, 68, None), slice(68, 70, None)]
    """
    done = 0
    while done < n:
        stop = min(n, done + EDetector.BLOCK - (count + done) % EDetector.BLOCK)
        yield slice(done, stop)
        done = stop
