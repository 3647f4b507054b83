"""Looks the stored versions through: damage is told, what nobody needs goes, room is measured."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from undrift.control.fullness import Room
from undrift.control.room import Gauge
from undrift.control.state import State
from undrift.errors import StoreError
from undrift.events import Swap
from undrift.monitor.history import rearms
from undrift.store.blobs import Blobs
from undrift.store.journal import REARMINGS, Journal
from undrift.store.place import Root, place
from undrift.store.remote import open_versions
from undrift.store.settings import RetentionSettings
from undrift.store.starts import first_commit

DAMAGED, KEPT, ROOM = "damaged versions", "old versions", "room"
LOOK_S = 60.0


class Shelf:
    """The stored versions as the controller looks them through.

    Args:
        root: The model's folder of the state.
        failures: Where damage is told, under ``damaged versions``.
        limits: How much of what was recorded is kept.
        state: Returns the state of the lifecycle.

    Attributes:
        room: What the disk has left; None for a bucket, and before the first look.
    """

    def __init__(
        self,
        root: Root,
        failures: dict[str, str],
        limits: RetentionSettings,
        state: Callable[[], State],
    ) -> None:
        self._versions = open_versions(place(root), read_only=True)
        self._rearmings, self._blobs = Journal(root, REARMINGS), Blobs(root)
        self._failures, self._keep, self._state = failures, limits.versions, state
        self._gauge = Gauge(root, limits)
        self.room: Room | None = None

    async def look(self) -> dict[int, str]:
        """Return what is wrong with each damaged version, and tell it among the failures."""
        found = await asyncio.to_thread(self._versions.damaged)
        self._failures.pop(DAMAGED, None)
        if found:
            told = "; ".join(f"version {number}: {why}" for number, why in found.items())
            self._failures[DAMAGED] = f"{told}; see `undrift doctor`"
        return found

    async def watch(self) -> None:
        """Look, drop what nobody needs, see what room is left, and wait for a minute."""
        await self.look()
        for name, work in ((KEPT, self.drop_unused), (ROOM, self.measure)):
            try:
                await asyncio.to_thread(work)
                self._failures.pop(name, None)
            except StoreError as error:
                self._failures[name] = str(error)
        await asyncio.sleep(LOOK_S)

    def measure(self) -> None:
        """See what room is left.

        Raises:
            StoreError: The disk refuses.
        """
        self.room = self._gauge.read()

    def drop_unused(self) -> None:
        """Drop what is neither among the newest nor in use.

        Raises:
            StoreError: The disk refuses.
        """
        numbers = self._versions.numbers()
        if len(numbers) <= self._keep:
            return
        parents = {m.version: m.parent for m in self._versions.all()}
        used = in_use(self._state(), parents)
        used |= watched(self._rearmings.read(), first_commit(self._blobs))
        for number in numbers[: -self._keep]:
            if number not in used:
                self._versions.drop(number)


def in_use(state: State, parents: Mapping[int, int | None]) -> set[int]:
    """Return the versions that the lifecycle may ask for, and the parents of those.

    Args:
        state: The state of the lifecycle.
        parents: Parent of each version.
    """
    orders = [i.assignment for i in state.outstanding if isinstance(i, Swap)]
    used = {v for assignment in (state.assignment, *orders) for v in assignment.versions}
    named = [run.version for run in (state.run, state.proving) if run is not None]
    used |= {version for version in (state.previous, *named) if version is not None}
    if state.baseline is not None:
        used.add(state.baseline.version)
    return used | {parent for v in used if (parent := parents.get(v)) is not None}


def watched(records: Iterable[Mapping[str, Any]], since: int) -> set[int]:
    """Return the versions that the monitor watched from a commit on, as a replay needs them.

    Args:
        records: Re-armings, oldest first, and what else is among them.
        since: Commit that the record begins after.
    """
    before, after = 1, set()
    for record in records:
        if not rearms(record):
            continue
        if record["commit"] <= since:
            before = record["version"]
        else:
            after.add(record["version"])
    return {before} | after
