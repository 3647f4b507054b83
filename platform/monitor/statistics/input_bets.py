"""What the two ways of comparing inputs with the reference have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from undrift.monitor.base import Stateful
from undrift.monitor.statistics.bets import row_uniform
from undrift.records import FloatArray, IntArray

Matrix = NDArray[np.float64]


class InputBets(Stateful, ABC):
    """Ranks rows among earlier ones, and turns ranks into e-values.

    Learns from the stream in whole blocks, so that cuts into batches do not matter.

    Args:
        seed: Seed of the breaking of ties, and of whatever else is random.

    Attributes:
        count: Rows of the stream taken so far.
    """

    BLOCK: ClassVar[int] = 32
    PIECE: ClassVar[int] = 512
    TINY: ClassVar[float] = 1e-12
    LAG: ClassVar[float] = 2.0  # correlation times for which a block waits before it is learnt
    SAVED: ClassVar[tuple[str, ...]] = ("_waiting", "count")

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.restart(0, 1.0)

    @property
    @abstractmethod
    def ranked(self) -> int:
        """Number m of ranks per row."""

    @abstractmethod
    def fit(self, data: FloatArray, rows: IntArray) -> float:
        """Calibrate on (n, d) reference rows with their row numbers, and forget the stream.

        Returns:
            The longest correlation time, among several, that e-values are tempered by.
        """

    @abstractmethod
    def describe(self, data: FloatArray) -> Matrix:
        """Return (n, k) numbers for (n, d) rows, each by itself; changes nothing."""

    @abstractmethod
    def rank(self, values: Matrix, uniform: Matrix) -> Matrix:
        """Return the (n, m) ranks of described rows; ``uniform``, (n, m), breaks ties."""

    @abstractmethod
    def bet(self, ranks: Matrix) -> Matrix:
        """Return the (n, b) e-values of (n, m) ranks."""

    @abstractmethod
    def learn(self, block: Matrix) -> None:
        """Add a block of described rows to those that later ones are ranked among."""

    def heed(self, ranks: Matrix) -> None:
        """Learn from the (n, m) ranks of the newest rows how to bet on later ones."""

    def restart(self, width: int, time: float) -> None:
        """Begin the stream of rows of ``width`` numbers and correlation time ``time``."""
        lag = round(self.LAG * time / self.BLOCK) if time > 1.0 else 0
        self._waiting = np.zeros(((1 + lag) * self.BLOCK, width))
        self.count = 0

    def take(self, values: Matrix, rows: IntArray, *, learning: bool) -> Matrix:
        """Return the e-values of described rows of the stream, and learn from them.

        Args:
            values: (n, k) numbers that :meth:`describe` returned, of rows that do not go beyond
                the end of a piece of ``PIECE`` rows.
            rows: (n,) row numbers.
            learning: Whether rows are added to those that later ones are ranked among.
        """
        columns = self.ranked
        uniform = row_uniform(rows[:, None] * columns + np.arange(columns), self._seed)
        ranks = np.empty(uniform.shape)
        for part in pieces(self.count, len(rows), self.BLOCK):
            ranks[part] = self.rank(values[part], uniform[part])
            begin, length = self.count % len(self._waiting), part.stop - part.start
            self._waiting[begin : begin + length] = values[part]
            self.count += length
            if learning and self.count % self.BLOCK == 0 and self.count >= len(self._waiting):
                oldest = self.count % len(self._waiting)
                self.learn(self._waiting[oldest : oldest + self.BLOCK])
        ranks = ranks.clip(self.TINY, 1.0 - self.TINY)
        e_values = self.bet(ranks)
        if learning:
            self.heed(ranks)
        return e_values


def pieces(count: int, n: int, size: int) -> Iterator[slice]:
    """Cut n rows where multiples of ``size`` rows are complete, ``count`` rows having gone before.

    Example:
        >>> list(pieces(60, 70, 64))
        [slice(0, 4, None), slice(4, 68, None), slice(68, 70, None)]
    """
    done = 0
    while done < n:
        stop = min(n, done + size - (count + done) % size)
        yield slice(done, stop)
        done = stop


def halves(n: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Split n rows in an earlier and a later half, so that few neighbours in time are parted."""
    later = np.arange(n) >= n // 2
    return ~later, later


def spread(data: NDArray[Any], most: int) -> NDArray[Any]:
    """Return at most ``most`` rows of ``data``, evenly spread."""
    if len(data) <= most:
        return data
    return data[np.linspace(0, len(data) - 1, most).astype(np.int64)]
