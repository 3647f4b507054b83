"""Places for state: a folder, and a bucket of an S3 server in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from undrift.store.place import Bucket, Folder, Place


@pytest.fixture(scope="session")
def object_store() -> Iterator[str]:
    """Return the URL of an S3 server with the bucket ``state``."""
    from moto.server import ThreadedMotoServer  # takes a second

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    httpx.put(f"{url}/state").raise_for_status()
    yield url
    server.stop()


@pytest.fixture
def bucket(object_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """Return an empty place in a bucket."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", object_store)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    return Bucket(f"s3://state/{tmp_path.name}")


@pytest.fixture(params=["folder", "bucket"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Return an empty place of either kind."""
    if request.param == "folder":
        return Folder(tmp_path / "state")
    found: Bucket = request.getfixturevalue("bucket")
    return found
