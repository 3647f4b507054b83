"""Journals: what decided something, in order, durable before it takes effect.

The table ``events`` has every event that moved the lifecycle; the table ``rearmings`` has every
re-arming of the monitor, with the number of the commit that it came after; the table ``told`` has
what people were told, in pages (`undrift.control.memory`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from undrift.errors import StoreError
from undrift.store.place import Where
from undrift.store.root import mark_dropped, open_root
from undrift.store.tables import Table

EVENTS, REARMINGS, TOLD = "events", "rearmings", "told"
_AT_ONCE = 4096  # events held in memory


class Journal:
    """An append-only table of events; one process writes it, any may read it.

    Args:
        root: The state directory; created if missing.
        table: Name of the table.

    Raises:
        StoreError: The directory cannot be used, or a newer release wrote it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     journal = Journal(directory)
        ...     seq = journal.append({"type": "Tick", "at": 1.0}, at=1.0)
        ...     journal.read()
        [{'type': 'Tick', 'at': 1.0}]
    """

    def __init__(self, root: Where, table: str = EVENTS) -> None:
        self._root = open_root(root)
        self._path = self._root / "tables" / table
        self._table = Table(self._path)
        self._last: int | None = None

    def append(self, event: dict[str, Any], at: float) -> int:
        """Make ``event`` durable.

        Args:
            event: Plain JSON values; ``type``, ``run_id`` and ``cause`` are also columns.
            at: When it was written, Unix seconds.

        Returns:
            Its number, counted from 0.

        Raises:
            StoreError: The disk refuses, or another process has written to the journal. Whether it
                was written all the same is for :meth:`read` to say; the next append is numbered
                after what is there.
        """
        return self.extend([event], at)

    def extend(self, events: Sequence[dict[str, Any]], at: float) -> int:
        """Make several events durable, all or none, as `append`; return the number of the last."""
        first = (self._table.version() if self._last is None else self._last) + 1
        self._last = None  # until the table has taken them
        seq = first + len(events) - 1
        rows = [
            {
                "seq": number,
                "at": float(at),
                "type": str(event.get("type", "")),
                "run_id": str(event.get("run_id", "")),
                "cause": str(event.get("cause", "")),
                "body": json.dumps(event),
            }
            for number, event in enumerate(events, first)
        ]
        found = self._table.append(seq, pa.Table.from_pylist(rows))
        if not found.ours:
            raise StoreError(
                f"{self._path} has {found.version + 1} events where this process knows of {first}; "
                "is another platform writing to the same state directory?"
            )
        self._last = seq
        return seq

    def mend(self) -> list[Path]:
        """Set aside what a power cut left unfinished, as `Table.mend`; for its writer only."""
        return self._table.mend()

    @property
    def trouble(self) -> str:
        """Why the table could not be compacted last time; empty if all is well."""
        return self._table.trouble

    def last(self) -> int:
        """Return the number of the last event, -1 if there is none."""
        return self._table.version()

    def first(self) -> int:
        """Return the number of the first event that is kept, 0 if there is none.

        Raises:
            StoreError: The table is damaged.
        """
        return self._table.lowest("seq") or 0

    def size(self, after: int = -1) -> int:
        """Return the bytes of the files that hold events after one alone.

        Raises:
            StoreError: The table is damaged.
        """
        return self._table.size(after)

    def drop_before(self, seq: int) -> None:
        """Drop events before one, as `Table.drop_before`; whoever folds the rest has a state.

        Raises:
            StoreError: The disk refuses.
        """
        mark_dropped(self._root, self._table.lowest("seq"), seq)
        self._table.drop_before(seq)

    def read(self) -> list[dict[str, Any]]:
        """Return all events that are kept, oldest first; `events` holds a part of them at a time.

        Raises:
            StoreError: The table is damaged.
        """
        return [event for _, event in self.events()]

    def events(
        self, after: int = -1, until: int | None = None
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield events and their numbers, oldest first, a part of them in memory at a time.

        Args:
            after: Number of the event before the first one.
            until: Number of the last one, None for the one that is the last now.

        Raises:
            StoreError: The table is damaged.
        """
        end = self.last() if until is None else until
        for start in range(after + 1, end + 1, _AT_ONCE):
            inside = ds.field("seq") >= start
            if until is not None or start + _AT_ONCE <= end:
                inside &= ds.field("seq") < min(start + _AT_ONCE, end + 1)
            rows = self._table.read(inside, columns=["seq", "body"])
            if rows is not None:
                ordered = rows.sort_by("seq")
                bodies = map(self._event, ordered["body"].to_pylist())
                yield from zip(ordered["seq"].to_pylist(), bodies, strict=True)

    def _event(self, body: str) -> dict[str, Any]:
        try:
            event: dict[str, Any] = json.loads(body)
        except ValueError as error:
            raise StoreError(f"{self._path} is damaged: an event is not JSON ({error})") from error
        return event
