"""What a monitor has been handed and has not committed yet, within bounds."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import ClassVar

from undrift.errors import StoreError
from undrift.records import Labels, Predictions

Waiting = tuple[Labels, "asyncio.Future[None]"]


class Mailbox:
    """Rows and labels in order of arrival, until a commit takes them.

    What does not fit is refused, and its sender counts it or sends it again: a disk that is full
    or away for hours costs rows, not the memory of the machine.

    Args:
        max_bytes: Of rows that wait.
        enough: Rows that need not wait for more.

    Attributes:
        full: Set when enough rows wait.
        refused: Why labels cannot be taken; empty if they can.
    """

    MESSAGES: ClassVar[int] = 1024  # known by name; a replica sends one again within seconds
    CALLS: ClassVar[int] = 20_000  # of labels that wait
    LABELS: ClassVar[int] = 200_000
    IDLE: ClassVar[float] = 8.0  # times that rows alone wait what their commit takes
    LONGEST_S: ClassVar[float] = 1.0  # that they wait for that

    def __init__(self, max_bytes: int, enough: int) -> None:
        self._max_bytes, self._enough = max_bytes, enough
        self._rows: list[Predictions] = []
        self._labels: list[Waiting] = []
        self._heard: dict[str, None] = {}  # in order of arrival
        self._bytes = self._count = self._told = 0
        self._pause_s = 0.0
        self.full = asyncio.Event()
        self.refused = ""

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._rows or self._labels)

    def put(self, rows: Predictions, message: str) -> None:
        """Take rows, but for a message that was taken before.

        Raises:
            StoreError: They do not fit.
        """
        if message and message in self._heard:
            return
        if self._rows and self._bytes + rows.nbytes > self._max_bytes:
            raise StoreError(
                f"{self._count} rows wait to be stored, {self._bytes} bytes; there is no room for "
                f"{len(rows)} more"
            )
        if message:
            self._heard[message] = None
            if len(self._heard) > self.MESSAGES:
                del self._heard[next(iter(self._heard))]
        self._rows.append(rows)
        self._count += len(rows)
        self._bytes += rows.nbytes
        if self._count >= self._enough:
            self.full.set()

    def label(self, labels: Labels) -> asyncio.Future[None]:
        """Take labels; what is returned is done when they are durable.

        Raises:
            StoreError: They cannot be taken now; send them again.
        """
        if self.refused:
            raise StoreError(self.refused)
        fits = len(self._labels) < self.CALLS and self._told + len(labels) <= self.LABELS
        if self._labels and not fits:
            raise StoreError(f"{self._told} labels wait to be stored; try again")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._labels.append((labels, done))
        self._told += len(labels)
        return done

    async def due(self, patience_s: float) -> None:
        """Return when there is something to commit.

        Labels are waited for by who sent them, so they wait for others no longer than
        ``patience_s``. Rows alone wait longer where commits take long: a busy machine then makes
        fewer and larger ones, which cost it less.

        Args:
            patience_s: How long to wait for more.
        """
        began = time.monotonic()
        while True:
            with suppress(TimeoutError):
                # A wait_for that runs out as it is cancelled would swallow the end.
                async with asyncio.timeout(patience_s):
                    await self.full.wait()
            enough = self.full.is_set() or time.monotonic() - began >= self._pause_s
            self.full.clear()
            if self._labels or (self._rows and enough):
                return

    def took(self, seconds: float) -> None:
        """Take note of how long a commit took."""
        self._pause_s = min(self.IDLE * seconds, self.LONGEST_S)

    def empty(self) -> tuple[list[Predictions], list[Waiting]]:
        """Take out all that waits."""
        rows, labels = self._rows, self._labels
        self._rows, self._labels = [], []
        self._bytes = self._count = self._told = 0
        self.full.clear()
        return rows, labels
