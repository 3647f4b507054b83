"""What was read from a bucket, kept on this machine by the hash of its content."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from undrift.errors import StoreError
from undrift.store.bucket import Bucket
from undrift.store.files import explained, make_folder
from undrift.store.versions import sha256

_BYTES = 8 << 30
_LEFT_S = 86_400.0
_FEWEST = 8  # files that stay, however large: those of the versions that are in use


class Cache:
    """Files by the SHA-256 of their content; processes of one machine share them.

    Args:
        folder: Where they lie; made when the first is written, for its owner alone.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, source: Bucket, expected: str, remedy: str) -> Path:
        """Return the path of what an object holds, from here if it is here and undamaged.

        Args:
            source: The object.
            expected: SHA-256 of its content.
            remedy: What helps if it is another.

        Raises:
            StoreError: The object is missing or damaged, or the disk refuses.
        """
        path = self._folder / expected
        with suppress(StoreError):
            if sha256(path) == expected:
                with suppress(OSError):
                    os.utime(path)  # by which the least used is known
                return path
        with explained("keep what was read in", self._folder):
            self.make()
            descriptor, name = tempfile.mkstemp(prefix=".tmp-", dir=self._folder)
            os.close(descriptor)
        temporary = Path(name)
        try:
            with explained("read", source):
                source.download(temporary)
            found = sha256(temporary)
            if found != expected:
                raise StoreError(
                    f"{source} is damaged: expected SHA-256 {expected}, found {found}; {remedy}"
                )
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        self._drop_least_used()
        return path

    def make(self) -> Path:
        """Make the folder, unless there is one, and return it."""
        make_folder(self._folder.parent, mode=0o700)
        make_folder(self._folder, mode=0o700)
        return self._folder

    def _drop_least_used(self) -> None:
        """Drop the least used beyond the bound; who has it open goes on reading."""
        found = []
        for path in self._folder.iterdir():
            with suppress(OSError):
                about = path.stat()
                if path.name.startswith("."):  # of a process that lives, or was killed
                    if time.time() - about.st_mtime > _LEFT_S:
                        shutil.rmtree(path) if path.is_dir() else path.unlink()
                    continue
                found.append((about.st_mtime, about.st_size, path))
        total = 0
        for nth, (_, size, path) in enumerate(sorted(found, reverse=True)):
            total += size
            if nth >= _FEWEST and total > _BYTES:
                path.unlink(missing_ok=True)
