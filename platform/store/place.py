"""Where durable state lies: in a folder of this machine, or in a bucket of an object store."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from undrift.errors import StoreError
from undrift.store.files import explained, make_folder, write_file

if TYPE_CHECKING:
    from obstore.store import ObjectStore


class Folder:
    """A file or directory of this machine; what goes wrong with it is an `OSError`.

    Args:
        path: Its path.
    """

    options = None
    """What Delta Lake has to be told."""

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

    def names(self) -> list[str]:
        """Return the names of what is right below, ascending; empty if there is nothing."""
        return sorted(path.name for path in self.path.iterdir()) if self.path.is_dir() else []

    def sizes(self) -> dict[str, int]:
        """Return the bytes of each file below, at any depth, by its path from here."""
        files = (path for path in self.path.rglob("*") if path.is_file())
        return {path.relative_to(self.path).as_posix(): path.stat().st_size for path in files}


@contextmanager
def _as_on_a_disk() -> Iterator[None]:
    """Turn what an object store says into an `OSError`, without its page of details."""
    from obstore.exceptions import BaseError

    try:
        yield
    except (BaseError, OSError) as error:
        kind = FileNotFoundError if isinstance(error, FileNotFoundError) else OSError
        raise kind(str(error).partition("\n\nDebug source")[0]) from error


class Bucket:
    """An object of an S3 bucket, or those whose keys begin so; what goes wrong is an `OSError`.

    Objects are replaced as a whole, and durable once written. How the store is reached, the
    environment says: ``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL`` and the others of their kind.

    Args:
        url: ``s3://bucket/prefix``.

    Raises:
        StoreError: It is another URL, or obstore is not installed.
    """

    options: ClassVar[dict[str, str]] = {"aws_conditional_put": "etag"}
    """What Delta Lake has to be told beside the environment."""

    def __init__(self, url: str) -> None:
        scheme, _, path = url.rstrip("/").partition("://")
        self._bucket, _, self._key = path.partition("/")
        if scheme != "s3" or not self._bucket:
            raise StoreError(f"{url} is no place for state: it must be s3://bucket/prefix")
        try:
            import obstore
        except ModuleNotFoundError as error:
            raise StoreError(f"{url} takes obstore: pip install 'undrift[s3]'") from error
        self._api = obstore

    def __reduce__(self) -> tuple[type[Bucket], tuple[str]]:
        return Bucket, (str(self),)

    def __truediv__(self, name: str) -> Bucket:
        return Bucket(f"{self}/{name}")

    def __str__(self) -> str:
        return f"s3://{self._bucket}/{self._key}".rstrip("/")

    @property
    def name(self) -> str:
        """The last part of the URL."""
        return str(self).rpartition("/")[2]

    @property
    def _store(self) -> ObjectStore:
        return _connected(self._bucket)

    @_as_on_a_disk()
    def exists(self) -> bool:
        """Tell whether there is something to read."""
        try:
            self._api.head(self._store, self._key)
        except FileNotFoundError:
            return False
        return True

    @_as_on_a_disk()
    def read(self) -> bytes:
        """Return the content."""
        return bytes(self._api.get(self._store, self._key).bytes())

    @_as_on_a_disk()
    def write(self, data: bytes) -> None:
        """Replace the content, or begin it: all of it or nothing."""
        self._api.put(self._store, self._key, data)

    @_as_on_a_disk()
    def remove(self) -> None:
        """Remove it and what is below it, if there is anything."""
        below = [f"{self._key}/{name}" for name in self.sizes()]
        self._api.delete(self._store, [*below, self._key])

    @_as_on_a_disk()
    def names(self) -> list[str]:
        """Return the names of what is right below, ascending; empty if there is nothing."""
        found = self._api.list_with_delimiter(self._store, self._key)
        keys = [*found["common_prefixes"], *(item["path"] for item in found["objects"])]
        return sorted({key.rpartition("/")[2] for key in keys})

    @_as_on_a_disk()
    def sizes(self) -> dict[str, int]:
        """Return the bytes of each object below, at any depth, by its path from here."""
        found = [item for part in self._api.list(self._store, self._key) for item in part]
        return {item["path"].removeprefix(f"{self._key}/"): item["size"] for item in found}


@cache
def _connected(bucket: str) -> ObjectStore:
    from obstore.store import from_url

    return from_url(f"s3://{bucket}")


Place = Folder | Bucket
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
