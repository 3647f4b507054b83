"""What a task is made of: rows, regimes, and where the rows of a seed come from."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import nn

from undrift.records import FloatArray, IntArray

DEVELOPMENT = 100  # seeds from here on see the half of the rows that reported seeds never see


@dataclass(frozen=True, slots=True)
class Rows:
    """Labelled rows.

    Attributes:
        x: (n, *input_shape) inputs.
        y: (n,) class index.
    """

    x: FloatArray
    y: IntArray

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True, slots=True)
class Regime:
    """One state of the world.

    Attributes:
        train: Rows that may be trained on.
        test: Other rows of it, on which forgetting is measured.
        ahead: What a model retrained for it meets next: for images the rows of ``test``, for
            streams the whole next chunk.
    """

    train: Rows
    test: Rows
    ahead: Rows


@dataclass(frozen=True)
class Source:
    """Where the rows of one seed come from.

    Attributes:
        data: Folder of the data sets.
        out: Folder for what is unpacked.
        task: Name of the task.
        seed: Of every draw; from ``DEVELOPMENT`` on, of the development half.
    """

    data: Path
    out: Path
    task: str
    seed: int

    @property
    def half(self) -> int:
        """Which of every two rows, or blocks of rows, are used."""
        return int(self.seed >= DEVELOPMENT)

    @cached_property
    def rng(self) -> np.random.Generator:
        """The generator of the draws."""
        return np.random.default_rng([self.seed, zlib.crc32(self.task.encode())])


class Deck:
    """One half of a data set, shuffled, from which rows are dealt without replacement."""

    def __init__(self, rows: tuple[FloatArray, IntArray], source: Source) -> None:
        self._x, self._y = rows
        self._left = source.rng.permutation(np.arange(source.half, len(self._y), 2))

    def deal(self, n: int, classes: Sequence[int] = range(10)) -> Rows:
        """Return the next ``n`` rows of some classes."""
        index = self._left[np.isin(self._y[self._left], classes)][:n]
        if len(index) < n:
            raise ValueError(f"only {len(index)} rows of classes {list(classes)} are left, not {n}")
        self._left = np.setdiff1d(self._left, index, assume_unique=True)
        return Rows(self._x[index], self._y[index])


@dataclass(frozen=True, slots=True)
class Task:
    """One task.

    Attributes:
        title: As in tables.
        net: Builds the network.
        build: Makes the regimes, the first of which the base model is trained on.
        base_epochs: Passes over the first regime of the base training.
        epochs: Passes over the pool of a full retrain: what all shares of compute refer to.
        memory: Rows of earlier regimes that are kept.
        class_incremental: The new rows are of new classes.
        spoil: Makes labels wrong, of all rows but those that are tested with.
    """

    title: str
    net: Callable[[], nn.Module]
    build: Callable[[Source], tuple[Regime, ...]]
    base_epochs: int
    epochs: int
    memory: int = 2_000
    class_incremental: bool = False
    spoil: Callable[[Rows, np.random.Generator], Rows] | None = None

    def regimes(self, source: Source) -> tuple[Regime, ...]:
        """Return the regimes for one seed."""
        return self.build(source)


def still(train: Rows, test: Rows) -> Regime:
    """Return a regime whose test rows are what comes next."""
    return Regime(train, test, test)
