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
from undrift.store.bucket import Bucket
from undrift.store.cached import Cache
from undrift.store.files import explained, make_folder, sync
from undrift.store.place import Root

FOLDER, _SUFFIX, _TEMPORARY = "incoming", ".safetensors", ".tmp-"


class Incoming:
    """The files of one model's state that are to become versions.

    A draft is always written on this machine; where the state is in a bucket, what has become whole
    is sent there, and read back through the cache.

    Args:
        root: Where the model's state lies.
    """

    def __init__(self, root: Root) -> None:
        self._bucket = root / FOLDER if isinstance(root, Bucket) else None
        self._local = root.local if isinstance(root, Bucket) else root
        self._path = self._local / FOLDER

    def draft(self) -> Draft:
        """Return a file to write to; what does not become whole is no part of the state.

        Raises:
            StoreError: The disk refuses.
        """
        with explained("make", self._path):
            make_folder(self._path)
            return Draft(self._path, self._bucket)

    def path(self, digest: str) -> Path:
        """Return the whole file with this SHA-256.

        Raises:
            StoreError: There is none.
        """
        path, gone = self._named(digest), "the weights that were brought are not there any more"
        if self._bucket is not None:
            source = self._bucket / path.name
            with explained("read", source):
                there = source.exists()
            if there:
                return Cache(self._local / "cache").path(source, digest, "bring them again")
        elif path.is_file():
            return path
        raise StoreError(f"{gone}; bring them again")

    def remove(self, digest: str) -> None:
        """Forget a file, if it is there."""
        path = self._named(digest)
        if self._bucket is not None:
            with suppress(OSError):
                (self._bucket / path.name).remove()
        with suppress(OSError):
            path.unlink()

    def remove_others(self, keep: Collection[str]) -> None:
        """Forget every file but those with these hashes, and drafts whose writers are gone."""
        found = {path.name for path in self._path.glob("*" + _SUFFIX)}
        if self._bucket is not None:
            found |= set(self._bucket.names())
        for digest in {name.removesuffix(_SUFFIX) for name in found} - set(keep):
            self.remove(digest)
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
        bucket: Where it is sent when it is whole, unless it stays in its folder.
    """

    def __init__(self, folder: Path, bucket: Bucket | None = None) -> None:
        self._bucket = bucket
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
        if self._bucket is not None:
            target = self._bucket / (digest + _SUFFIX)
            self.flush()
            with explained("keep", target):
                target.write(self.path)
            return digest
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
