"""The bounded buffer between answering requests and monitoring them."""

from __future__ import annotations

import threading
from collections import deque

from undrift.records import Predictions
from undrift.serve.settings import TapSettings


class Tap:
    """Holds answered rows until somebody takes them; drops the newest when full.

    ``offer`` never waits for the taker to deliver: the lock is held for counting, and at most for
    cutting one part in two. With nobody taking, memory stays within the two limits.

    Args:
        settings: Limits in rows and bytes.

    Attributes:
        rows_offered: Rows offered so far.
        rows_dropped: Rows that did not fit, or were taken and then lost.
    """

    def __init__(self, settings: TapSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._parts: deque[Predictions] = deque()
        self._rows = 0
        self._bytes = 0
        self.rows_offered = 0
        self.rows_dropped = 0

    def __len__(self) -> int:
        """Rows waiting."""
        return self._rows

    @property
    def nbytes(self) -> int:
        """Bytes waiting."""
        return self._bytes

    def offer(self, part: Predictions) -> None:
        """Add rows, or drop them all if they do not fit.

        Args:
            part: At least one row.
        """
        rows, size = len(part), part.nbytes
        with self._lock:
            self.rows_offered += rows
            if (
                self._rows + rows > self._settings.max_rows
                or self._bytes + size > self._settings.max_bytes
            ):
                self.rows_dropped += rows
                return
            self._parts.append(part)
            self._rows += rows
            self._bytes += size

    def take(self, max_rows: int) -> Predictions | None:
        """Remove and return up to ``max_rows`` rows in order of arrival; None if none wait."""
        parts: list[Predictions] = []
        wanted = max_rows
        with self._lock:
            while self._parts and wanted > 0:
                part = self._parts.popleft()
                self._bytes -= part.nbytes
                if len(part) > wanted:
                    rest = part.take(slice(wanted, None))
                    part = part.take(slice(wanted))
                    self._parts.appendleft(rest)
                    self._bytes += rest.nbytes
                parts.append(part)
                wanted -= len(part)
                self._rows -= len(part)
        return Predictions.concat(parts) if parts else None

    def mark_lost(self, rows: int) -> None:
        """Count rows that were taken but could not be delivered."""
        with self._lock:
            self.rows_dropped += rows

    def drop(self) -> None:
        """Count all that wait as lost; nobody will take them any more."""
        with self._lock:
            self.rows_dropped += self._rows
            self._parts.clear()
            self._rows = self._bytes = 0
