"""Weights that came from elsewhere, until they are a version: one file each, named by its hash."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import tempfile
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from undrift.errors import StoreError
from undrift.store.files import explained, make_folder, sync

FOLDER, _SUFFIX, _TEMPORARY = "incoming", ".safetensors", ".tmp-"


class Incoming:
    """The files of one model's state that are to become versions.

    Args:
        root: The model's folder of the state.
    """

    def __init__(self, root: Path) -> None:
        self._path = root / FOLDER

    def draft(self) -> Draft:
        """Return a file to write to; what does not become whole is no part of the state.

        Raises:
            StoreError: The disk refuses.
        """
        with explained("make", self._path):
            make_folder(self._path)
            return Draft(self._path)

    def path(self, digest: str) -> Path:
        """Return the whole file with this SHA-256.

        Raises:
            StoreError: There is none.
        """
        path = self._named(digest)
        if not path.is_file():
            raise StoreError(
                "the weights that were brought are not there any more; bring them again"
            )
        return path

    def remove(self, digest: str) -> None:
        """Forget a file, if it is there."""
        with suppress(OSError):
            self._named(digest).unlink()

    def remove_others(self, keep: Collection[str]) -> None:
        """Forget every file but those with these hashes, and drafts whose writers are gone."""
        for path in self._path.glob("*" + _SUFFIX):
            if path.name.removesuffix(_SUFFIX) not in keep:
                self.remove(path.name.removesuffix(_SUFFIX))
        for path in self._path.glob(_TEMPORARY + "*"):
            with suppress(OSError), path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()

    def _named(self, digest: str) -> Path:
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise StoreError(f"{digest!r} is no SHA-256")
        return self._path / (digest + _SUFFIX)


class Draft:
    """A file that is being written; a context manager that removes what was not kept.

    It is locked as long as its writer lives.

    Args:
        folder: Where it lies.
    """

    def __init__(self, folder: Path) -> None:
        descriptor, name = tempfile.mkstemp(prefix=_TEMPORARY, dir=folder)
        self.path = Path(name)
        self._file = os.fdopen(descriptor, "wb")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._hash = hashlib.sha256()

    def write(self, data: bytes) -> None:
        """Append ``data``.

        Raises:
            StoreError: The disk refuses.
        """
        with explained("write", self.path):
            self._file.write(data)
        self._hash.update(data)

    def flush(self) -> None:
        """Let others read what was written."""
        with explained("write", self.path):
            self._file.flush()

    def keep(self) -> str:
        """Make the file durable under the name of its SHA-256, which is returned."""
        digest = self._hash.hexdigest()
        with explained("keep", self.path):
            self._file.flush()
            os.fsync(self._file.fileno())
            os.replace(self.path, self.path.with_name(digest + _SUFFIX))
            sync(self.path.parent)
        return digest

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
        with suppress(OSError):
            self._file.close()
