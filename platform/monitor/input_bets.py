"""What the two ways of comparing inputs with the reference have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from undrift.monitor.base import Stateful
from undrift.monitor.bets import row_uniform
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
    SAVED: ClassVar[tuple[str, ...]] = ("_block", "count")

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.restart(0)

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

    def restart(self, width: int) -> None:
        """Begin the stream with an empty block of ``width`` columns."""
        self._block = np.zeros((self.BLOCK, width))
        self.count = 0

    def take(self, values: Matrix, rows: IntArray, *, learning: bool) -> Matrix:
        """Return the e-values of (n, k) described rows of the stream, and learn from them.

        Args:
            values: What :meth:`describe` returned for them.
            rows: (n,) row numbers.
            learning: Whether rows are added to those that later ones are ranked among.
        """
        columns = self.ranked
        uniform = row_uniform(rows[:, None] * columns + np.arange(columns), self._seed)
        ranks = np.empty(uniform.shape)
        for part in pieces(self.count, len(rows), self.BLOCK):
            ranks[part] = self.rank(values[part], uniform[part])
            begin, length = self.count % self.BLOCK, part.stop - part.start
            self._block[begin : begin + length] = values[part]
            self.count += length
            if learning and self.count % self.BLOCK == 0:
                self.learn(self._block)
        return self.bet(ranks)


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
    """Split n rows in two, in alternating eighths, so that few neighbours in time are parted.

    Example:
        >>> halves(16)[0].nonzero()[0].tolist()
        [0, 1, 4, 5, 8, 9, 12, 13]
    """
    first = np.arange(n) * 8 // n % 2 == 0
    return first, ~first


def spread(data: NDArray[Any], most: int) -> NDArray[Any]:
    """Return at most ``most`` rows of ``data``, evenly spread."""
    if len(data) <= most:
        return data
    return data[np.linspace(0, len(data) - 1, most).astype(np.int64)]
