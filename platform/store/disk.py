"""What a table on a disk needs beside Delta Lake, which leaves it to the system when files land.

An append counts when its files, its log entry and their directories are synced.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from undrift.store.files import make_folder, sync
from undrift.store.torn import added, set_torn_aside


class DiskLog:
    """The log of one table in a folder of this machine; what goes wrong is an `OSError`.

    Args:
        path: Directory of the table.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._log = path, path / "_delta_log"
        self._settled = ""  # name of the newest entry that is on the disk

    def prepare(self) -> None:
        """Make the folders above the table."""
        make_folder(self._path.parent)

    def settle(self) -> None:
        """Wait until the newest entry is on the disk, and what came before it.

        An entry that nobody waited for, as its writer was killed or its disk refused, would be a
        hole in the log after a power cut.
        """
        entries = sorted(self._log.glob("*.json"))
        for entry in entries:
            if entry.name > self._settled:
                with suppress(FileNotFoundError):  # in a checkpoint since, and deleted
                    self._settle_entry(entry)
        for folder in (self._log, self._path):
            sync(folder)
        if not self._settled:
            sync(self._path.parent)
        self._settled = max((entry.name for entry in entries), default=self._settled)

    def _settle_entry(self, entry: Path) -> None:
        for name in added(entry):
            with suppress(FileNotFoundError):  # joined with others since, and deleted
                sync(self._path / name)
        sync(entry)

    def settle_checkpoint(self) -> None:
        """Wait until the checkpoints are on the disk."""
        for checkpoint in self._log.glob("*.checkpoint.parquet"):
            sync(checkpoint)
        sync(self._log / "_last_checkpoint")
        sync(self._log)

    def mend(self) -> list[Path]:
        """Set aside what a power cut has left unfinished; return it, newest entry first."""
        return set_torn_aside(self._log)
