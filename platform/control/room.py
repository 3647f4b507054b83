"""How much room the disk of a running state has left."""

from __future__ import annotations

import shutil
import time

from undrift.control.doctor import measure
from undrift.control.fullness import Part, Room, fullness
from undrift.store.files import explained
from undrift.store.place import Folder, Root, place
from undrift.store.settings import RetentionSettings

MEASURE_S = 3600.0  # every file is opened


class Gauge:
    """Tells the room, and measures once an hour how fast the state grows.

    Args:
        root: The model's folder of the state.
        limits: How much of what was recorded is kept.
    """

    def __init__(self, root: Root, limits: RetentionSettings) -> None:
        self._root, self._limits = root, limits
        self._parts: list[Part] = []
        self._due = 0.0

    def read(self) -> Room | None:
        """Return the room; None for a bucket.

        Raises:
            StoreError: The disk refuses.
        """
        where = place(self._root)
        if not isinstance(where, Folder):
            return None
        if time.monotonic() >= self._due:
            self._parts, _ = measure(self._root, self._limits)
            self._due = time.monotonic() + MEASURE_S
        with explained("look at the disk of", where):
            disk = shutil.disk_usage(where.path)
        return Room(disk.free, disk.free / disk.total, fullness(disk.free, self._parts)[0])
