"""How a request's body comes in: within limits of size, time and number."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import Receive

from undrift.errors import RequestError
from undrift.serve.settings import ServeSettings

Headers = dict[bytes, bytes]


class Intake:
    """Counts requests that bring a body, and reads them.

    Args:
        settings: The limits.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self._settings = settings
        self._open = 0

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Count a request that brings a body; 503 if there are too many already."""
        limit = self._settings.max_queued_requests
        if self._open >= limit:
            raise RequestError(f"{limit} requests are here already; try again", 503)
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1

    async def read(self, headers: Headers, receive: Receive) -> bytes:
        """Return the body; refuse it as soon as it is known to be too large or too slow."""
        limit = self._settings.max_body_bytes
        announced = headers.get(b"content-length", b"")
        if announced.isdigit() and int(announced[:20]) > limit:
            text = announced.decode()
            raise RequestError(f"the body has {text} bytes; at most {limit} are accepted", 413)
        if b"content-encoding" in headers:
            raise RequestError("send the body as it is, without Content-Encoding", 415)
        chunks, size, more = [], 0, True
        try:
            async with asyncio.timeout(self._settings.request_timeout_s):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise RequestError("the body ended early")
                    chunk, more = message.get("body", b""), message.get("more_body", False)
                    size += len(chunk)
                    if size > limit:
                        raise RequestError(f"the body has more than {limit} bytes", 413)
                    chunks.append(chunk)
        except TimeoutError:
            patience = self._settings.request_timeout_s
            raise RequestError(f"the body did not come within {patience:g} s", 408) from None
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)
