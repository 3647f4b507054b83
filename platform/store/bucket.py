"""Objects of an S3 bucket, for durable state that no disk of this machine holds."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from undrift.errors import StoreError
from undrift.settings import is_state_url

if TYPE_CHECKING:
    from obstore.store import ObjectStore

SCHEME = "s3://"
_QUICK_S = 10.0


def check_url(url: str) -> str:
    """Return the URL of a place in a bucket, without a slash at its end.

    Raises:
        StoreError: It is another URL, or names a whole bucket.
    """
    found = url.rstrip("/")
    if not is_state_url(found):
        raise StoreError(f"{url} is no place for state: it must be s3://bucket/prefix")
    return found


def local_folder(url: str) -> Path:
    """Return the folder of this machine that belongs to a state in a bucket."""
    home = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser()
    name = re.sub(r"[^\w.]+", "-", url.removeprefix(SCHEME))[:60]
    return home / "undrift" / f"{name}-{hashlib.sha256(url.encode()).hexdigest()[:12]}"


class ChangedError(OSError):
    """An object is not the one that was to be replaced."""


@dataclass(frozen=True, slots=True)
class Held:
    """That the state is ours to write, for as long as its lease has this epoch.

    Attributes:
        lease: URL of the lease.
        epoch: Number of our term.
    """

    lease: str
    epoch: int

    @property
    def state(self) -> str:
        """URL of the state."""
        return self.lease.rpartition("/")[0]

    def check(self) -> None:
        """Check that nobody else has taken the state over.

        Raises:
            StoreError: Somebody has.
            OSError: The store does not say.
        """
        found = json.loads(Bucket(self.lease).quick().read())
        if found["epoch"] != self.epoch:
            raise StoreError(taken_over(self.state, found["holder"]))


def taken_over(state: str, by: str = "") -> str:
    """Return what is said to a writer that has lost its lease."""
    return f"{by or 'another platform'} has taken {state} over, so nothing more is written to it"


@contextmanager
def _as_on_a_disk() -> Iterator[None]:
    """Turn what an object store says into an `OSError`, without its page of details."""
    from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

    try:
        yield
    except ChangedError:
        raise
    except (BaseError, OSError) as error:
        kind: type[OSError] = FileNotFoundError if isinstance(error, FileNotFoundError) else OSError
        kind = FileExistsError if isinstance(error, AlreadyExistsError) else kind
        kind = ChangedError if isinstance(error, PreconditionError) else kind
        raise kind(str(error).partition("\n\nDebug source")[0]) from error


class Bucket:
    """An object of an S3 bucket, or those whose keys begin so; what goes wrong is an `OSError`.

    Objects are replaced as a whole, and durable once written. How the store is reached, the
    environment says: ``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL`` and the others of their kind.

    Args:
        url: ``s3://bucket/prefix``.
        local: Folder of this machine for what is cached; None: `local_folder`.
        held: The term in which it may be written; None: whoever writes sees to it.

    Raises:
        StoreError: It is another URL, or obstore is not installed.
    """

    def __init__(self, url: str, local: Path | None = None, held: Held | None = None) -> None:
        self._url = check_url(url)
        self._bucket, _, self._key = self._url.removeprefix(SCHEME).partition("/")
        self.local, self.held = local or local_folder(self._url), held
        try:
            import obstore
        except ModuleNotFoundError as error:
            raise StoreError(f"{url} takes obstore: pip install 'undrift[s3]'") from error
        self._api = obstore
        for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT"):
            if not re.match(r"https?://[^/\s]", os.environ.get(name, "https://-")):
                told = f"not {os.environ[name]!r}; for AWS itself unset it"
                raise StoreError(f"{name} must be http://host:port or https://host, {told}")

    def __reduce__(self) -> tuple[type[Bucket], tuple[str, Path, Held | None]]:
        return Bucket, (self._url, self.local, self.held)

    def __truediv__(self, name: str) -> Bucket:
        return Bucket(f"{self._url}/{name}", self.local, self.held)

    def __str__(self) -> str:
        return self._url

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bucket) and self.__reduce__() == other.__reduce__()

    def __hash__(self) -> int:
        return hash(self._url)

    @property
    def name(self) -> str:
        """The last part of the URL."""
        return self._url.rpartition("/")[2]

    @property
    def options(self) -> dict[str, str]:
        """What Delta Lake has to be told beside the environment."""
        return {"aws_conditional_put": "etag", **_plain()}

    @property
    def _store(self) -> ObjectStore:
        return _connected(self._bucket, os.environ.get("AWS_ENDPOINT_URL", ""))

    def check_held(self) -> None:
        """Check that it may be written.

        Raises:
            StoreError: Somebody else has taken the state over.
            OSError: The store does not say.
        """
        if self.held is not None:
            self.held.check()

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
    def read_tagged(self) -> tuple[bytes, str]:
        """Return the content, and the tag by which `replace` knows it."""
        found = self._api.get(self._store, self._key)
        return bytes(found.bytes()), str(found.meta["e_tag"])

    @_as_on_a_disk()
    def download(self, path: Path) -> None:
        """Write the content to a file, a part of it in memory at a time."""
        with path.open("wb") as file:
            for part in self._api.get(self._store, self._key).stream():
                file.write(part)

    @_as_on_a_disk()
    def write(self, data: bytes | Path) -> None:
        """Replace the content, or begin it: all of it or nothing.

        Args:
            data: The content, or the file that has it.
        """
        self.check_held()
        self._api.put(self._store, self._key, data)

    @_as_on_a_disk()
    def create(self, data: bytes) -> str:
        """Begin the content, if there is none, and return its tag.

        Raises:
            FileExistsError: There is some.
        """
        self.check_held()
        return str(self._api.put(self._store, self._key, data, mode="create")["e_tag"])

    @_as_on_a_disk()
    def replace(self, data: bytes, tag: str) -> str:
        """Replace the content that has a tag, and return the tag of the new one.

        Raises:
            ChangedError: The content is another one, or gone.
        """
        put = self._api.put(self._store, self._key, data, mode={"e_tag": tag})
        return str(put["e_tag"])

    @_as_on_a_disk()
    def remove(self) -> None:
        """Remove it and what is below it, if there is anything."""
        self.check_held()
        below = [f"{self._key}/{name}" for name in self.sizes()]
        self._api.delete(self._store, [*below, self._key])

    @_as_on_a_disk()
    def rename(self, name: str) -> Bucket:
        """Give it and what is below it another name beside its own; return where it lies now."""
        self.check_held()
        there = Bucket(f"{self._url.rpartition('/')[0]}/{name}", self.local, self.held)
        for part in [f"/{part}" for part in self.sizes()] or [""]:
            self._api.copy(self._store, self._key + part, there._key + part)
        self.remove()
        return there

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

    def quick(self) -> Bucket:
        """Return the same place, asked once or twice within seconds: a check, or a lease."""
        return _Quick(self._url, self.local, self.held)


class _Quick(Bucket):
    @property
    def _store(self) -> ObjectStore:
        return _connected(self._bucket, os.environ.get("AWS_ENDPOINT_URL", ""), quick=True)

    def __truediv__(self, name: str) -> Bucket:
        return _Quick(f"{self._url}/{name}", self.local, self.held)


def _plain() -> dict[str, str]:
    """Allow HTTP where the environment names an endpoint that has nothing else."""
    plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
    return {"aws_allow_http": "true"} if plain else {}


@cache
def _connected(bucket: str, endpoint: str, *, quick: bool = False) -> ObjectStore:
    from obstore.store import from_url

    del endpoint  # the environment names it, and may name another one later
    given: dict[str, Any] = {}
    if quick:
        within = timedelta(seconds=_QUICK_S)
        given["retry_config"] = {"max_retries": 2, "retry_timeout": within}
        given["client_options"] = {"timeout": within, "connect_timeout": timedelta(seconds=3)}
    options: dict[str, Any] = given.setdefault("client_options", {})
    if _plain():
        options["allow_http"] = True
    return from_url(f"{SCHEME}{bucket}", **given)
