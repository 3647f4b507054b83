"""Callers that hang up while they wait."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import Receive

from undrift.serve.intake import Headers

UNWATCHED = b"x-request-disconnect-disabled"
"""Header by which the load balancer tells Ray Serve not to watch the caller of a request.

Ray's watching takes two tasks and a queue for every request, however short.
"""

AFTER_S = 0.1
"""A request that waits longer, in seconds, is watched by us."""


@contextmanager
def watched(headers: Headers, receive: Receive) -> Iterator[None]:
    """Cancel what runs within, once it has taken a while, if the caller hangs up.

    Args:
        headers: The request's headers.
        receive: Where its body came from, as a whole.
    """
    if headers.get(UNWATCHED) != b"?1":
        yield
        return
    loop, working = asyncio.get_running_loop(), asyncio.current_task()
    watch: list[asyncio.Task[None]] = []

    async def wait() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        if working is not None:
            working.cancel()

    timer = loop.call_later(AFTER_S, lambda: watch.append(loop.create_task(wait())))
    try:
        yield
    finally:
        timer.cancel()
        for task in watch:
            task.cancel()
