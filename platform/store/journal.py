"""Journals: what decided something, in order, durable before it takes effect.

The table ``events`` has every event that moved the lifecycle; the table ``orders`` has every
re-arming of the monitor, with the number of the commit that it came after.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from undrift.errors import StoreError
from undrift.store.files import open_root
from undrift.store.tables import Table

EVENTS, REARMINGS = "events", "rearmings"


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

    def __init__(self, root: str | Path, table: str = EVENTS) -> None:
        self._path = open_root(root) / "tables" / table
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
                was written all the same is for :meth:`read` to say.
        """
        seq = (self._table.version() if self._last is None else self._last) + 1
        self._last = None  # until the table has taken it
        row = {
            "seq": seq,
            "at": float(at),
            "type": str(event.get("type", "")),
            "run_id": str(event.get("run_id", "")),
            "cause": str(event.get("cause", "")),
            "body": json.dumps(event),
        }
        found = self._table.append(seq, pa.Table.from_pylist([row]))
        if found != seq:
            raise StoreError(
                f"{self._path} has {found + 1} events where this process knows of {seq}; "
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

    def read(self) -> list[dict[str, Any]]:
        """Return all events, oldest first.

        Raises:
            StoreError: The table is damaged.
        """
        rows = self._table.read(columns=["seq", "body"])
        if rows is None:
            return []
        bodies = rows.sort_by("seq")["body"].to_pylist()
        try:
            return [json.loads(body) for body in bodies]
        except ValueError as error:
            raise StoreError(f"{self._path} is damaged: an event is not JSON ({error})") from error
