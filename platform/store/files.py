"""What every kind of durable state shares: its directory, atomic files, and errors for a person."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from deltalake.exceptions import DeltaError
from pyarrow import ArrowException
from safetensors import SafetensorError

from undrift.errors import StoreError

FORMAT = 3
FORMAT_FILE = "store.json"
_DURABLE = (FORMAT_FILE, "tables", "versions", "blobs", "training", "training.json")


@contextmanager
def explained(action: str, path: Path) -> Iterator[None]:
    """Turn a failure of the disk, of Delta Lake, Arrow or safetensors into a `StoreError`.

    Args:
        action: What was tried, as in "cannot ... <path>".
        path: The file or directory that it was tried on.
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


def open_root(root: str | Path, *, create: bool = True) -> Path:
    """Return the state directory.

    Args:
        root: Its path.
        create: Whether to create it if it is missing.

    Raises:
        StoreError: It is missing, cannot be created or written, or another release wrote it.
    """
    path = Path(root)
    if path.exists() and not path.is_dir():
        raise StoreError(f"state must be a directory, but {path} is a file; name another place")
    marker = path / FORMAT_FILE
    if not marker.exists():
        if not create:
            raise StoreError(f"nothing was recorded in {path}: it has no {FORMAT_FILE}")
        with explained("create the state directory", path):
            make_folder(path, mode=0o700)  # what is recorded is private
            write_file(marker, json.dumps({"format": FORMAT}).encode())
    found = read_json(marker).get("format")
    if not isinstance(found, int):
        raise StoreError(f"{marker} is damaged: it must hold a format number, found {found!r}")
    if found != FORMAT:
        age, remedy = ("newer", "upgrade") if found > FORMAT else ("older", "install that")
        raise StoreError(
            f"{path} was written by {'a' if age == 'newer' else 'an'} {age} release (format "
            f"{found}, this one reads {FORMAT}): {remedy} undrift or use another state directory"
        )
    return path


def check_layout(state: Path, model: Path) -> None:
    """Check that a state folder keeps what is durable by model.

    Args:
        state: The state folder of a platform.
        model: Folder of a model in it.

    Raises:
        StoreError: It is from before that, or is itself the folder of one model.
    """
    old = [name for name in _DURABLE if (state / name).exists()]
    if not old:
        return
    if state.parent.name == model.parent.name:
        raise StoreError(
            f"{state} is the folder of one model; name the state folder, {state.parent.parent}"
        )
    here, there = shlex.quote(str(state)), shlex.quote(str(model.relative_to(state)))
    raise StoreError(
        f"{state} was made before each model had a folder of its own; with nothing running on it: "
        f"cd {here} && mkdir -p {there} && mv {' '.join(old)} {there}/"
    )


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in ``path``.

    Raises:
        StoreError: The file is missing or damaged.
    """
    with explained("read", path):
        text = path.read_bytes()
    try:
        data = json.loads(text)
    except ValueError as error:
        raise StoreError(f"{path} is damaged: it is not JSON ({error})") from error
    if not isinstance(data, dict):
        raise StoreError(f"{path} is damaged: it must hold a JSON object")
    return data


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
