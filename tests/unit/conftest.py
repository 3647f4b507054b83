"""Places for state: a folder, and a bucket of an S3 server in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.objects import pointed_at, serving
from undrift.store.place import Bucket, Folder, Place


@pytest.fixture(scope="session")
def object_store() -> Iterator[str]:
    """Return the URL of an S3 server with the bucket ``state``."""
    with serving() as url:
        yield url


@pytest.fixture
def bucket(object_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """Return an empty place in a bucket."""
    pointed_at(object_store, monkeypatch)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    return Bucket(f"s3://state/{tmp_path.name}")


@pytest.fixture(params=["folder", "bucket"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Return an empty place of either kind."""
    if request.param == "folder":
        return Folder(tmp_path / "state")
    found: Bucket = request.getfixturevalue("bucket")
    return found
