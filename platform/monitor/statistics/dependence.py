"""How long rows of a stream stay alike: the correlation time of a score."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from undrift.monitor.base import Stateful
from undrift.records import IntArray

Floats = NDArray[np.float64]


class CorrelationTime(Stateful):
    """Estimates how many rows of a score carry the information of one independent row.

    This is the integrated autocorrelation time 1 + 2 sum_h rho_h: the variance of a sum of n rows
    is that many times n times the variance of one. Autocorrelations are averaged over distances
    1, 2-3, 4-7, ... up to 63 rows, which finds weak correlation of long reach, and summed up to
    the last group that is significantly positive, and the one after it. A distance that the gaps
    between rows leave without a pair is taken to be like its neighbours. Correlation that is
    still there at 64 to 127 rows is slow change rather than dependence, and is subtracted. What
    exceeds one is raised by 3 / sqrt(n), as a time estimated too short costs more than one too
    long.

    It starts from a reference and may be kept up with the stream: a reference of some hundred
    rows knows its correlation time to within a third, which false alarms of long budgets feel.
    When the stream has given twice as many rows, and a thousand, the reference is forgotten: its
    rows may be sparser or denser than those of the stream, or from a model that was still
    learning.

    Args:
        alone: Rows of the stream from which on the longer of two times counts, that of both and
            that of the stream alone, as many references are shuffled, and seem to be independent;
            0: never.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> times = CorrelationTime()
        >>> times.fit(rng.normal(size=500), np.arange(500))
        >>> times.value
        1.0

    Reference:
        Geyer. "Practical Markov chain Monte Carlo", Statistical Science 1992, section 3.3.
    """

    GROUPS: ClassVar[int] = 7
    REACH: ClassVar[int] = 2**GROUPS
    SIGNIFICANT: ClassVar[float] = 2.5
    """Standard errors that a group must be above zero to count; some 95 % of independent
    references are then found to be just that."""
    SAVED = (
        "_centre", "_scale", "_sums", "_products", "_pairs", "_of_reference", "_newest", "_due",
        "_value",
    )  # fmt: skip

    def __init__(self, alone: int = 0) -> None:
        self._alone = alone
        self.fit(np.zeros(0), np.zeros(0, dtype=np.int64))

    @property
    def value(self) -> float:
        """At least 1, and 1 where no correlation is significant."""
        return self._value

    def fit(self, values: NDArray[Any], rows: IntArray) -> None:
        """Start from a reference and forget the stream.

        Args:
            values: (n,) score of each row, finite.
            rows: (n,) row numbers, ascending; gaps are allowed.
        """
        scores = np.asarray(values, dtype=np.float64)
        self._centre = float(scores.mean()) if len(scores) else 0.0
        self._scale = float(scores.std()) if len(scores) and np.ptp(scores) > 0 else 1.0
        standard = (scores - self._centre) / self._scale
        self._sums = _moments(standard)
        self._products, self._pairs = _pair_sums(standard, rows, self.GROUPS)
        self._of_reference = np.concatenate([self._sums, self._products, self._pairs])
        self._newest = np.zeros(0)
        self._value = self._estimate()
        self._due = 1.05 * len(standard)

    def add(self, values: NDArray[Any]) -> None:
        """Take in (n,) scores of consecutive rows that followed those added before."""
        standard = (np.asarray(values, dtype=np.float64) - self._centre) / self._scale
        known = np.concatenate([self._newest, standard])
        total = np.concatenate([[0.0], np.cumsum(known)])
        at = np.arange(len(self._newest), len(known))[:, None]
        ends = np.maximum(at + 1 - 2 ** np.arange(self.GROUPS + 1), 0)  # first row of a group
        before = total[ends]
        self._products = self._products + standard @ (before[:, :-1] - before[:, 1:])
        self._pairs = self._pairs + (ends[:, :-1] - ends[:, 1:]).sum(axis=0)
        self._sums = self._sums + _moments(standard)
        self._newest = known[-self.REACH :]
        kept = self._of_reference[0]
        if kept and self._sums[0] >= kept + max(1_000.0, 2.0 * kept):
            self._forget_reference()
        if self._sums[0] >= self._due:
            self._value = max(self._estimate(), self._of_the_stream())
            self._due = 1.05 * self._sums[0]

    def _of_the_stream(self) -> float:
        """Return what the stream alone says: the reference may have been shuffled."""
        sums, products, pairs = np.split(self._of_reference, [3, 3 + self.GROUPS])
        alone = self._sums - sums, self._products - products, self._pairs - pairs
        return _time(*alone) if self._alone and alone[0][0] >= self._alone else 1.0

    def _forget_reference(self) -> None:
        sums, products, pairs = np.split(self._of_reference, [3, 3 + self.GROUPS])
        self._sums, self._due = self._sums - sums, 0.0
        self._products, self._pairs = self._products - products, self._pairs - pairs
        self._of_reference = np.zeros_like(self._of_reference)

    def _estimate(self) -> float:
        return _time(self._sums, self._products, self._pairs)


def _time(sums: Floats, products: Floats, pairs: Floats) -> float:
    """Return the correlation time that moments and sums over pairs show."""
    n, seen, groups = sums[0], pairs > 0, CorrelationTime.GROUPS
    if n < 2 or not seen.any():
        return 1.0
    mean = sums[1] / n
    variance = sums[2] / n - mean * mean
    if variance <= 1e-12:
        return 1.0
    covariance = np.where(seen, products, 0.0) / np.maximum(pairs, 1) - mean * mean
    rho = covariance / variance + 1.0 / n  # estimating the mean takes that much away
    error = CorrelationTime.SIGNIFICANT / np.sqrt(np.maximum(pairs, 1))
    places = np.arange(groups)
    rho = np.interp(places, places[seen], rho[seen])
    if seen[-1] and rho[-1] > error[-1]:
        rho = rho - rho[-1]
    time, found = 1.0, 1.0
    for i in places[:-1]:
        time += 2.0 * 2.0**i * rho[i]
        # The longer the correlation found so far, the noisier the next group.
        if seen[i] and rho[i] > error[i] * found:
            beyond = 4.0 * 2.0**i * rho[i + 1] if i + 2 < groups else 0.0
            found = max(found, float(time + max(beyond, 0.0)))
    return 1.0 + (found - 1.0) * (1.0 + 3.0 / float(np.sqrt(n)))  # may well be longer


def correlation_time(values: NDArray[Any], rows: IntArray) -> float:
    """Return the correlation time of a score on a reference, see :class:`CorrelationTime`.

    Args:
        values: (n,) score of each row, finite.
        rows: (n,) row numbers, ascending; gaps are allowed.

    Returns:
        At least 1, and 1 where no correlation is significant: for constant scores, negative
        correlation, and most independent scores.

    Example:
        >>> pairs = np.repeat(np.random.default_rng(0).normal(size=500), 2)
        >>> 1.8 < correlation_time(pairs, np.arange(1000)) < 2.2
        True
    """
    times = CorrelationTime()
    times.fit(values, rows)
    return times.value


def temper(values: Floats, time: float) -> Floats:
    """Make e-values of autocorrelated rows fair again, by the root of their correlation time.

    For sums that are nearly normal this is exact, and by Hoelder's inequality it is fair for any
    dependence within stretches of ``time`` rows. As sums of rare, large scores are not normal,
    the part of the time above one counts a tenth more.

    Args:
        values: (n, k) e-values that are fair for independent rows.
        time: Correlation time of the score, at least 1.

    Returns:
        (n, k) e-values; the same ones for a time of 1.

    Example:
        >>> temper(np.array([[16.0]]), 1.0 + 1.0 / 1.1).round(9)
        array([[4.]])
    """
    return values if time == 1.0 else values ** (1.0 / (1.0 + 1.1 * (time - 1.0)))


def _moments(standard: Floats) -> Floats:
    """Return number, sum and sum of squares."""
    return np.array([len(standard), standard.sum(), standard @ standard])


def _pair_sums(standard: Floats, rows: IntArray, groups: int) -> tuple[Floats, Floats]:
    """Return sums of products, and numbers, of pairs at distances 1, 2-3, 4-7, ... by group."""
    if not len(standard):
        return np.zeros(groups), np.zeros(groups)
    gaps = np.clip(np.diff(rows), 0, 2**groups)  # wider ones make no pair anyway
    place = np.concatenate([[0], np.cumsum(gaps)])
    total = np.concatenate([[0.0], np.cumsum(np.bincount(place, weights=standard))])
    number = np.concatenate([[0], np.cumsum(np.bincount(place))])
    ends = np.maximum(place[:, None] + 1 - 2 ** np.arange(groups + 1), 0)
    before, count = total[ends], number[ends]
    sums: Floats = standard @ (before[:, :-1] - before[:, 1:])
    return sums, (count[:, :-1] - count[:, 1:]).sum(axis=0).astype(np.float64)
