"""What every part of the monitor shares: exact state, and the interface of a signal."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from undrift.events import SignalReport
from undrift.records import Reference

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


class Signal(Stateful, ABC, Generic[Batch]):
    """One sequential measure of departure from a reference.

    Its level and statistic after n rows do not depend on how those rows were cut into batches.
    """

    @abstractmethod
    def fit(self, reference: Reference) -> None:
        """Calibrate on the recent rows of ``reference`` and forget everything seen before.

        Raises:
            ConfigError: The reference is too short, or not finite.
        """

    @abstractmethod
    def update(self, batch: Batch) -> None:
        """Take in rows in stream order."""

    @abstractmethod
    def report(self) -> SignalReport:
        """Return the present level, statistic and change point."""
