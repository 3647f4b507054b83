"""The beginning of the journal: whole, or a snapshot that stands for the events that were dropped.

A beginning is a snapshot in a blob of its own, made now and then. What is older than the one before
which everything goes is dropped; the event that it was made after stays, so that a beginning of
another journal is noticed.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from undrift.control import snapshot
from undrift.control.lifecycle import initial
from undrift.control.settings import LifecycleSettings
from undrift.control.state import State
from undrift.control.story import FIRST_VERSION, Story
from undrift.errors import StoreError
from undrift.store.blobs import Blobs
from undrift.store.journal import Journal
from undrift.store.place import Where
from undrift.store.record import Record
from undrift.store.settings import RetentionSettings

BEGINS = "journal-"
"""How names of blobs begin that stand for events that are gone."""

_NAME = re.compile(rf"{BEGINS}(\d+)-(\d+)")
_DAY = 86_400.0
_STEPS = 4  # beginnings within each limit


@dataclass(frozen=True, slots=True, order=True)
class Beginning:
    """A snapshot from which the rest of the journal can be folded.

    Attributes:
        seq: Number of the last event that it includes.
        at: When that was recorded, Unix seconds.
    """

    seq: int
    at: int

    @property
    def name(self) -> str:
        """Name of the blob that has it."""
        return f"{BEGINS}{self.seq}-{self.at}"


@dataclass(slots=True)
class Begun:
    """Where the journal begins.

    Attributes:
        state: State before the first event that is there to be folded.
        story: What had been told by then.
        seq: Number of the last event that both include, -1 if the journal is whole.
        at: When that was recorded, Unix seconds.
    """

    state: State
    story: Story = field(default_factory=Story)
    seq: int = -1
    at: float = 0.0


def beginnings(blobs: Blobs) -> list[Beginning]:
    """Return the beginnings that there are, oldest first."""
    found = (_NAME.fullmatch(name) for name in blobs.names())
    return sorted(Beginning(*map(int, match.groups())) for match in found if match)


def begun(root: Where, settings: LifecycleSettings) -> Begun:
    """Return where the journal begins.

    Args:
        root: The model's folder of the state.
        settings: Policy until the journal names another.

    Raises:
        StoreError: Events are gone, and the snapshot that stands for them cannot be used.
    """
    journal, blobs = Journal(root), Blobs(root)
    first = journal.first()
    if not first:
        return Begun(initial(settings, FIRST_VERSION))
    for start in beginnings(blobs):
        found = blobs.load(start.name) if start.seq >= first else None
        if found is not None and digest_of(journal, start.seq) == found[1].pop("mark"):
            try:
                return Begun(*snapshot.unpack(found[1]), start.seq, start.at)
            except (ValueError, KeyError, TypeError) as error:
                raise StoreError(f"the blob {start.name} cannot be read: {error}") from error
    raise StoreError(
        f"the journal begins with event {first}, and the snapshot that stands for those before is "
        "missing; restore blobs/journal-*.npz from a backup"
    )


def gone(start: Begun) -> str:
    """Return where the journal begins, for people: what was before is gone."""
    day = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(start.at))
    return (
        f"{day}, where the journal begins: its first {start.seq + 1:,} events are no longer kept "
        "(retention.event_days, .events, .max_event_bytes)"
    )


def rest(root: Where, start: Begun) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the events after where the journal begins, with their numbers."""
    return Journal(root).events(after=start.seq)


def recalled(root: Where, settings: LifecycleSettings) -> tuple[State, Story]:
    """Return where the journal leads to, and what it tells; nothing is written.

    Raises:
        StoreError: As `begun`, or the journal is damaged.
    """
    start = begun(root, settings)
    state = start.state
    for _, record in rest(root, start):
        state = start.story.follow(state, record)
    return state, start.story


def digest_of(journal: Journal, seq: int) -> str:
    """Return the digest of an event, empty if it is not there."""
    return next((digest(event) for _, event in journal.events(seq - 1, seq)), "")


def digest(event: dict[str, Any]) -> str:
    """Return the SHA-256 of an event."""
    return hashlib.sha256(json.dumps(event, sort_keys=True).encode()).hexdigest()


class EventRetention:
    """Keeps the journal within its limits; for its writer only.

    No event goes while rows of its time are kept, so a replay has the decisions of all its rows.

    Args:
        root: The model's folder of the state.
        journal: The events.
        pages: What people were told.
        limits: What may be kept.
    """

    def __init__(
        self, root: Where, journal: Journal, pages: Journal, limits: RetentionSettings
    ) -> None:
        self._journal, self._pages = journal, pages
        self._record, self._blobs, self._limits = Record(root), Blobs(root), limits

    def hold(self, packed: dict[str, Any], seq: int, at: float) -> None:
        """Keep a snapshot as a beginning if one is due, and drop what is beyond the limits.

        Args:
            packed: The snapshot, with the digest of event ``seq`` as ``mark``, and as ``page`` the
                first page of what was told that is not older.
            seq: Number of the last event that it includes.
            at: When that was recorded, Unix seconds.

        Raises:
            StoreError: The disk refuses; nothing is lost by it.
        """
        now = Beginning(seq, int(at))
        starts = beginnings(self._blobs)
        last = starts[-1] if starts else self._oldest(now)
        if any(_STEPS * share >= 1.0 for share in self._used(last, now)):
            self._blobs.save(now.name, {}, packed)
            starts.append(now)
        kept_since = self._record.begun()
        for start in reversed(starts):
            old = kept_since is None or start.at <= kept_since
            if old and any(share >= 1.0 for share in self._used(start, now)):
                self._drop(start, starts)
                return

    def _used(self, since: Beginning, now: Beginning) -> list[float]:
        """Return which share of each limit the events since a beginning take."""
        limits, shares = self._limits, []
        if limits.events is not None:
            shares.append((now.seq - since.seq) / limits.events)
        if limits.event_days is not None:
            shares.append((now.at - since.at) / (limits.event_days * _DAY))
        if limits.max_event_bytes is not None:
            size = self._journal.size(since.seq)
            shares.append(size / limits.max_event_bytes)
        return shares

    def _oldest(self, now: Beginning) -> Beginning:
        first = self._journal.first()
        times = (int(event["at"]) for _, event in self._journal.events(first - 1, first))
        return Beginning(first, next(times, now.at))

    def _drop(self, start: Beginning, starts: list[Beginning]) -> None:
        if start.seq <= self._journal.first():
            return
        found = self._blobs.load(start.name)
        if found is not None:
            self._journal.drop_before(start.seq)
            self._pages.drop_before(found[1]["page"])
        for older in starts[: starts.index(start)]:
            self._blobs.remove(older.name)
