from __future__ import annotations

import asyncio

import pytest

from undrift.control.orders import Orders
from undrift.control.story import ORDERS
from undrift.errors import IllegalTransitionError, RequestError, StoreError
from undrift.events import Event, PauseRequested

PAUSE = PauseRequested(at=1.0, cause="operator")


class Lifecycle:
    """Takes orders, and fails as told."""

    def __init__(self, *failures: Exception) -> None:
        self.failures, self.taken = list(failures), 0

    async def deliver(self, event: Event) -> None:
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.pop()
        self.taken += 1


def test_order_without_a_key_is_one_of_its_own() -> None:
    lifecycle = Lifecycle()

    async def story() -> None:
        orders = Orders(lifecycle.deliver)
        for key in ("", "", "a", "b", "a"):
            await orders.give(PAUSE, key)

    asyncio.run(story())
    assert lifecycle.taken == 4


def test_repeat_of_what_was_not_possible_is_answered_alike() -> None:
    lifecycle = Lifecycle(IllegalTransitionError("not now"))

    async def story() -> None:
        orders = Orders(lifecycle.deliver)
        for _ in range(2):
            with pytest.raises(RequestError, match="not now") as caught:
                await orders.give(PAUSE, "k")
            assert caught.value.status == 409

    asyncio.run(story())
    assert lifecycle.taken == 0


def test_order_that_was_not_taken_may_come_again() -> None:
    lifecycle = Lifecycle(StoreError("disk full"))

    async def story() -> None:
        orders = Orders(lifecycle.deliver)
        with pytest.raises(StoreError):
            await orders.give(PAUSE, "k")
        await orders.give(PAUSE, "k")

    asyncio.run(story())
    assert lifecycle.taken == 1


def test_the_newest_keys_are_remembered() -> None:
    lifecycle = Lifecycle()

    async def story() -> None:
        orders = Orders(lifecycle.deliver)
        for key in (*range(ORDERS + 1), ORDERS, 1, 0):
            await orders.give(PAUSE, str(key))

    asyncio.run(story())
    assert lifecycle.taken == ORDERS + 2
