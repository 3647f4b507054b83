"""How a request's body comes in: within limits of size, time and number."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Concatenate, ParamSpec, TypeVar

from starlette.types import Receive

from undrift.errors import RequestError
from undrift.serve.encoding import Unpacker
from undrift.serve.settings import ServeSettings

Headers = dict[bytes, bytes]
P = ParamSpec("P")
T = TypeVar("T")

LARGE_BYTES = 2**18
"""A body beyond this is parsed beside the event loop, one at a time."""


LINGER_S, LINGER_BYTES = 2.0, 2**26
"""So long, and so much, a refused body is read on before it is answered."""

PARTS_AT_ONCE = 8
"""So many parts of a body are unpacked before others have their turn."""


def _unbounded(_: int) -> None:
    """Hold any number of bytes."""


async def let_go_by(receive: Receive) -> None:
    """Read what still comes of a refused body, within bounds.

    A connection that is closed upon unread bytes is reset, and takes the answer along.
    """
    came = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            while came < LINGER_BYTES:
                message = await receive()
                came += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return


class Intake:
    """Counts requests that bring a body, and reads them.

    Args:
        settings: The limits.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self._settings = settings
        self._open = 0
        self._bytes = 0
        self._parser = ThreadPoolExecutor(1, "parse")

    @asynccontextmanager
    async def admitted(
        self, headers: Headers, receive: Receive, limit: int | None = None, instead: str = ""
    ) -> AsyncIterator[bytes]:
        """Yield the body; 503 if there are too many requests, or bytes of them, here already.

        ``limit`` and ``instead`` are those of `read`.
        """
        open_, most, held = self._settings.max_queued_requests, self._settings.max_queued_bytes, 0
        if self._open >= open_:
            raise RequestError(f"{open_} requests are here already; try again", 503)

        def hold(size: int) -> None:
            nonlocal held
            held += size
            self._bytes += size
            if self._bytes > most:
                raise RequestError(f"bodies of {most} bytes are here already; try again", 503)

        self._open += 1
        try:
            yield await self.read(headers, receive, hold, limit, instead)
        finally:
            self._open -= 1
            self._bytes -= held

    async def parse(
        self,
        function: Callable[Concatenate[bytes, P], T],
        body: bytes,
        *more: P.args,
        **by: P.kwargs,
    ) -> T:
        """Return ``function(body, ...)``; a large body leaves the event loop to others."""
        if len(body) <= LARGE_BYTES:
            return function(body, *more, **by)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._parser, lambda: function(body, *more, **by))

    async def read(
        self,
        headers: Headers,
        receive: Receive,
        hold: Callable[[int], None] = _unbounded,
        limit: int | None = None,
        instead: str = "",
    ) -> bytes:
        """Return the body, unpacked; refuse it as soon as it is known to be too large or too slow.

        Args:
            headers: The request's headers.
            receive: Where its parts come from.
            hold: Told the size of each part; raises RequestError if there is no room.
            limit: Bytes that this kind of body may have; those of any body if left out.
            instead: What to do with more.
        """
        most = self._settings.max_body_bytes
        limit, instead = min(most, limit or most), instead and f": {instead}"
        announced = headers.get(b"content-length", b"")
        if announced.isdigit() and int(announced[:20]) > limit:
            text = announced.decode()
            if b"expect" not in headers:  # else the body is not on its way yet
                await let_go_by(receive)
            raise RequestError(
                f"the body has {text} bytes; at most {limit} are accepted{instead}", 413
            )
        unpacker = Unpacker(headers.get(b"content-encoding", b"").decode("latin-1"))
        parts, came, size, more = [], 0, 0, True
        try:
            async with asyncio.timeout(self._settings.request_timeout_s):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise RequestError("the body ended early")
                    chunk, more = message.get("body", b""), message.get("more_body", False)
                    came += len(chunk)
                    for part in unpacker.parts(chunk):
                        size += len(part)
                        hold(len(part))
                        if max(came, size) > limit:
                            if more:
                                await let_go_by(receive)
                            raise RequestError(
                                f"the body has more than {limit} bytes{instead}", 413
                            )
                        parts.append(part)
                        if len(parts) % PARTS_AT_ONCE == 0:
                            await asyncio.sleep(0)
        except TimeoutError:
            patience = self._settings.request_timeout_s
            raise RequestError(f"the body did not come within {patience:g} s", 408) from None
        unpacker.end()
        return parts[0] if len(parts) == 1 else b"".join(parts)
