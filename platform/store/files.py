"""What every kind of durable state shares: atomic files, and errors for a person."""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deltalake.exceptions import DeltaError
from pyarrow import ArrowException
from safetensors import SafetensorError

from undrift.errors import StoreError


@contextmanager
def explained(action: str, path: object) -> Iterator[None]:
    """Turn a failure of the disk, of Delta Lake, Arrow or safetensors into a `StoreError`.

    Args:
        action: What was tried, as in "cannot ... <path>".
        path: The file, directory or place that it was tried on.
    """
    try:
        yield
    except (OSError, DeltaError, ArrowException, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise StoreError(f"cannot {action} {path}: {_plain(reason)}") from error


def _plain(reason: str) -> str:
    """Return in one line what Delta Lake says as a tree in colours."""
    lines = re.sub("\x1b\\[\\d*m|↳", "", reason).splitlines()
    return ": ".join(filter(None, map(str.strip, lines)))


def write_file(path: Path, data: bytes) -> None:
    """Write ``data`` so that a crash at any moment leaves the old file or the new one.

    It is readable by its owner alone.
    """
    descriptor, temporary = tempfile.mkstemp(prefix=".tmp-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    sync(path.parent)


def make_folder(path: Path, mode: int = 0o777) -> None:
    """Make a folder, and those above it that are missing; they outlive a power cut."""
    if not path.exists():
        make_folder(path.parent)
        path.mkdir(mode=mode, exist_ok=True)
        sync(path.parent)


def sync(path: Path) -> None:
    """Wait until the file or directory ``path`` is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file ``path``; it frees itself when its process dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
