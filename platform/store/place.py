"""Where durable state lies: in a folder of this machine, or in a bucket of an object store."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from undrift.errors import StoreError
from undrift.store.bucket import Bucket
from undrift.store.files import explained, make_folder, write_file

__all__ = ["Bucket", "Folder", "Place", "Root", "Where", "place", "read_json"]


class Folder:
    """A file or directory of this machine; what goes wrong with it is an `OSError`.

    Args:
        path: Its path.
    """

    options = None
    """What Delta Lake has to be told."""

    held = None
    """None: a lock keeps a folder from a second writer, and not the number of a term."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __truediv__(self, name: str) -> Folder:
        return Folder(self.path / name)

    def __str__(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.name

    def exists(self) -> bool:
        """Tell whether there is something to read."""
        return self.path.is_file()

    def read(self) -> bytes:
        """Return the content."""
        return self.path.read_bytes()

    def write(self, data: bytes) -> None:
        """Replace the content, or begin it: all of it, or after a crash nothing."""
        make_folder(self.path.parent)
        write_file(self.path, data)

    def remove(self) -> None:
        """Remove it and what is below it, if there is anything."""
        if self.path.is_dir():
            shutil.rmtree(self.path)
        else:
            self.path.unlink(missing_ok=True)

    def rename(self, name: str) -> Folder:
        """Give it another name beside its own, and return where it lies now."""
        return Folder(self.path.rename(self.path.with_name(name)))

    def names(self) -> list[str]:
        """Return the names of what is right below, ascending; empty if there is nothing."""
        return sorted(path.name for path in self.path.iterdir()) if self.path.is_dir() else []

    def sizes(self) -> dict[str, int]:
        """Return the bytes of each file below, at any depth, by its path from here."""
        files = (path for path in self.path.rglob("*") if path.is_file())
        return {path.relative_to(self.path).as_posix(): path.stat().st_size for path in files}


Place = Folder | Bucket
Root = Path | Bucket
"""What a configuration names."""
Where = str | Path | Place
"""What names a place."""


def place(where: Where) -> Place:
    """Return the place that a path or a URL names.

    Raises:
        StoreError: It is a URL that `Bucket` does not take.
    """
    if isinstance(where, str) and "://" in where:
        return Bucket(where)
    return Folder(Path(where)) if isinstance(where, str | Path) else where


def read_json(where: Where) -> dict[str, Any]:
    """Return the JSON object that lies in a place.

    Raises:
        StoreError: It is missing or damaged.
    """
    with explained("read", where):
        text = place(where).read()
    try:
        data = json.loads(text)
    except ValueError as error:
        raise StoreError(f"{where} is damaged: it is not JSON ({error})") from error
    if not isinstance(data, dict):
        raise StoreError(f"{where} is damaged: it must hold a JSON object")
    return data
