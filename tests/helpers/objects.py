"""A real S3 server for tests, and the environment in which it is found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest


@contextmanager
def serving() -> Iterator[str]:
    """Run an S3 server with the bucket ``state`` in this process, and yield its URL."""
    from moto.server import ThreadedMotoServer  # takes a second

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    httpx.put(f"{url}/state").raise_for_status()
    try:
        yield url
    finally:
        server.stop()


def pointed_at(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the environment to a server that takes any credentials."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
