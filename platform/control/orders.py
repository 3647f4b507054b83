"""Operators' orders: each is carried out once, however often it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from undrift.control.story import ORDERS
from undrift.errors import IllegalTransitionError, RequestError
from undrift.events import Event
from undrift.ids import new_id


class Orders:
    """Remembers the newest orders by key: the load balancer repeats a request whose replica died.

    Those that a restart has forgotten the journal knows.

    Args:
        deliver: Hands an event to the lifecycle.
    """

    def __init__(self, deliver: Callable[[Event], Coroutine[Any, Any, None]]) -> None:
        self._deliver = deliver
        self._known: dict[str, asyncio.Task[None]] = {}

    async def give(self, event: Event, key: str) -> None:
        """Deliver an event, or wait for the outcome of the one that came under the same key.

        Args:
            event: What is ordered.
            key: Names the order; empty: it is one of its own.

        Raises:
            RequestError: It is not possible now (status 409).
        """
        key = key or new_id()
        if key not in self._known:
            self._known[key] = asyncio.get_running_loop().create_task(self._deliver(event))
            for old in list(self._known)[:-ORDERS]:
                del self._known[old]
        try:
            await asyncio.shield(self._known[key])
        except IllegalTransitionError as error:
            raise RequestError(str(error), 409) from error
        except Exception:
            self._known.pop(key, None)  # it was not taken, and may come again
            raise
