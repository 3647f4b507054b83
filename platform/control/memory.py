"""What the controller knows again after a restart: the journal, and a snapshot that shortens it.

The journal is what counts. The snapshot says where its first events lead to, and is used only if
it is of this format and the journal has the very event that it was made after; else all events are
folded that are kept (`undrift.control.past`). What people were told goes to the store by whole
pages before a snapshot does without it, so neither a start nor a view needs the whole journal in
memory.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from undrift.control import snapshot
from undrift.control.past import EventRetention, begun, digest
from undrift.control.settings import LifecycleSettings
from undrift.control.state import State
from undrift.control.story import Story
from undrift.errors import StoreError
from undrift.events import Codec, Event
from undrift.store.blobs import Blobs
from undrift.store.journal import TOLD, Journal
from undrift.store.place import Where
from undrift.store.settings import RetentionSettings
from undrift.views import EventsPage, EventView

SNAPSHOT = "lifecycle"
EVERY = 500  # events from one snapshot to the next
HELD = 32  # pages in memory while the whole journal is folded
PAGE = 128  # notable events; the number of a page is that of its record


class Memory:
    """Journal, snapshot and pages of one model; one process writes them.

    Args:
        root: The model's folder of the state.
        settings: Policy until the journal names another.
        limits: How much of the journal is kept; None: all.

    Raises:
        StoreError: The directory cannot be used, or a newer release wrote it.
    """

    def __init__(
        self, root: Where, settings: LifecycleSettings, limits: RetentionSettings | None = None
    ) -> None:
        self._root, self._settings = root, settings
        self._journal, self._pages = journal, pages = Journal(root), Journal(root, TOLD)
        self._retention = None
        if limits is not None:
            self._retention = EventRetention(root, journal, pages, limits)
        self._blobs = Blobs(root)
        self._folded = self._kept = -1  # last event folded, and last event in the snapshot
        self._failure = ""

    @property
    def trouble(self) -> str:
        """What upkeep failed last time, and why; it decides nothing. Empty if all is well."""
        return self._failure or self._journal.trouble or self._pages.trouble

    def mend(self) -> list[Path]:
        """Set aside what a power cut has left unfinished, as `Table.mend`."""
        return self._journal.mend() + self._pages.mend()

    def recall(self) -> tuple[State, Story]:
        """Return where the journal leads to, and what it tells.

        Raises:
            StoreError: The journal is damaged.
        """
        found = self._snapshot()
        if found is None:
            start = begun(self._root, self._settings)
            found = start.seq, start.state, start.story
        self._kept, state, story = found
        self._folded = self._kept
        for seq, record in self._journal.events(after=self._kept):
            state = story.follow(state, record)
            self._folded = seq
            if seq % EVERY == 0 and len(story.entries) >= HELD * PAGE:
                self._turn(story)
        self.keep(state, story)
        return state, story

    def record(self, event: Event) -> None:
        """Make an event durable.

        Raises:
            StoreError: It may not be; `recall` knows.
        """
        self._folded = self._journal.append(Codec.encode(event), event.at)

    def keep(self, state: State, story: Story) -> None:
        """Make a snapshot after every so many events; one that fails is told, and tried again."""
        if self._folded - self._kept < EVERY or not self._turn(story):
            return
        try:
            (mark,) = self._journal.events(self._folded - 1, self._folded)
            packed = {**snapshot.pack(state, story), "seq": self._folded, "mark": digest(mark[1])}
            self._blobs.save(SNAPSHOT, {}, packed)
            self._kept, self._failure = self._folded, ""
            if self._retention is not None:
                packed["page"] = (story.told - len(story.entries)) // PAGE
                self._retention.hold(packed, self._folded, mark[1]["at"])
        except StoreError as error:
            self._failure = str(error)

    def page(self, story: Story, after: int, limit: int) -> EventsPage:
        """Return at most ``limit`` notable events after number ``after``, oldest first.

        Raises:
            StoreError: A page is damaged.
        """
        known, told = story.entries, story.told  # as they are now: this runs in a thread
        first = known[0].seq if known else told + 1
        end = min(after + limit, told)
        found: list[EventView] = []
        if after + 1 < first:
            pages = range(after // PAGE, (min(end, first - 1) - 1) // PAGE + 1)
            for _, record in self._pages.events(pages.start - 1, pages.stop - 1):
                found += [EventView(**entry) for entry in record["entries"]]
        found += known
        inside = {e.seq: e for e in found if after < e.seq <= end}
        return EventsPage(events=tuple(inside.values()), next=max(after, end), more=end < told)

    def _turn(self, story: Story) -> bool:
        """Put whole pages into the store, keep the newest in memory; tell whether it went well."""
        first, whole = story.told + 1 - len(story.entries), story.told // PAGE
        try:
            stored = self._pages.last() + 1
            starts = [number * PAGE + 1 - first for number in range(stored, whole)]
            pages = [[asdict(entry) for entry in story.entries[s : s + PAGE]] for s in starts]
            if pages:
                told = [{"type": "Told", "entries": entries} for entries in pages]
                self._pages.extend(told, at=pages[-1][-1]["at"])
        except StoreError as error:
            self._failure = str(error)
            return False
        begin = max(whole - 1, 0) * PAGE + 1
        story.entries = story.entries[max(begin - first, 0) :]
        return True

    def _snapshot(self) -> tuple[int, State, Story] | None:
        """Return the snapshot and the number of its last event; None if it cannot be used."""
        try:
            found = self._blobs.load(SNAPSHOT)
            if found is None:
                return None
            packed = found[1]
            seq, mark = int(packed.pop("seq")), packed.pop("mark")
            state, story = snapshot.unpack(packed)
        except (StoreError, ValueError, KeyError, TypeError):
            return None
        recorded = [digest(event) for _, event in self._journal.events(seq - 1, seq)]
        stored = (self._pages.last() + 1) * PAGE
        if recorded != [mark] or story.told - len(story.entries) > stored:
            return None
        return seq, state, story
