"""What every part of the monitor shares: exact state, and the interface of a signal."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from undrift.evidence import SignalReport
from undrift.records import IntArray, Reference

State = dict[str, NDArray[Any]]
Batch = TypeVar("Batch")


class Stateful:
    """Saves and restores the attributes that a class names, without pickle and without loss.

    Attributes:
        SAVED: Names of attributes that are arrays, numbers or booleans.
        PARTS: Names of attributes that are themselves stateful.
    """

    SAVED: ClassVar[tuple[str, ...]] = ()
    PARTS: ClassVar[tuple[str, ...]] = ()

    def state(self) -> State:
        """Return a copy of everything that later decisions depend on."""
        return collect(self, self.SAVED, self.PARTS)

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over a state that :meth:`state` returned.

        Args:
            state: Arrays by name.

        Raises:
            KeyError: The state was saved by another class or release.
        """
        restore(self, state, self.SAVED, self.PARTS)


def collect(owner: object, saved: tuple[str, ...], parts: tuple[str, ...]) -> State:
    """Return copies of the named attributes of ``owner`` and of its stateful parts."""
    state: State = {name: np.array(getattr(owner, name)) for name in saved}
    for part in parts:
        state |= {f"{part}.{k}": v for k, v in getattr(owner, part).state().items()}
    return state


def restore(
    owner: object,
    state: Mapping[str, NDArray[Any]],
    saved: tuple[str, ...],
    parts: tuple[str, ...],
) -> None:
    """Set the named attributes of ``owner`` from ``state``; 0-d arrays become plain numbers."""
    for name in saved:
        value = state[name]
        setattr(owner, name, value.item() if value.ndim == 0 else np.array(value))
    for part in parts:
        prefix = f"{part}."
        inner = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        getattr(owner, part).load(inner)


@dataclass(frozen=True, slots=True)
class Measures:
    """What a signal needs to know of each row; it depends on that row and the calibration alone.

    So many processes can measure their own rows, and one folds them all.

    Attributes:
        row: (n,) row numbers.
        values: (n, k) numbers; what they mean is the signal's own affair.
    """

    row: IntArray
    values: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.row)

    @staticmethod
    def merge(shards: Sequence[Measures]) -> Measures:
        """Join the measures of several shards (at least one) in the order of their rows."""
        row = np.concatenate([shard.row for shard in shards])
        order = np.argsort(row, kind="stable")
        return Measures(row[order], np.concatenate([shard.values for shard in shards])[order])


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a signal took from its reference, and what that is worth.

    Attributes:
        rows: Reference rows that the signal is calibrated on.
        correlation_time: Rows that carry the information of one independent row; 1 if the
            reference shows no autocorrelation.
        notes: What a user should know, one sentence each; empty if all is well.
    """

    rows: int
    correlation_time: float = 1.0
    notes: tuple[str, ...] = ()


class Signal(Stateful, ABC, Generic[Batch]):
    """One sequential measure of departure from a reference.

    Its level and statistic after n rows do not depend on how those rows were cut into batches, or
    on how they were shared out over processes that measured them.
    """

    @abstractmethod
    def fit(self, reference: Reference) -> Calibration:
        """Calibrate on the recent rows of ``reference`` and forget everything seen before.

        Raises:
            ConfigError: The reference is too short, or not finite.
        """

    @abstractmethod
    def measure(self, batch: Batch) -> Measures:
        """Return what :meth:`advance` needs of each row; changes nothing."""

    @abstractmethod
    def advance(self, measures: Measures) -> None:
        """Take in measured rows in stream order."""

    def update(self, batch: Batch) -> None:
        """Take in rows in stream order."""
        self.advance(self.measure(batch))

    @abstractmethod
    def report(self) -> SignalReport:
        """Return the present level, statistic, change point and what moved most."""
