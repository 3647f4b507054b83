from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from undrift.errors import RequestError
from undrift.serve.intake import LARGE_BYTES, Intake
from undrift.serve.settings import ServeSettings


def parts(*bodies: bytes) -> Any:
    left = list(bodies)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    return receive


def test_bytes_that_are_here_are_bounded_until_their_requests_are_answered() -> None:
    async def story() -> None:
        intake = Intake(ServeSettings(max_queued_bytes=10))
        async with intake.admitted({}, parts(b"1234", b"567")):
            with pytest.raises(RequestError, match="bodies of 10 bytes are here") as caught:
                async with intake.admitted({}, parts(b"12", b"34")):
                    pass
            assert caught.value.status == 503
            async with intake.admitted({}, parts(b"123")) as body:
                assert body == b"123"
        async with intake.admitted({}, parts(b"1234567890")) as body:
            assert len(body) == 10

    asyncio.run(story())


@pytest.mark.parametrize(("size", "beside"), [(LARGE_BYTES, False), (LARGE_BYTES + 1, True)])
def test_large_body_is_parsed_beside_the_event_loop(size: int, beside: bool) -> None:
    async def story() -> None:
        where = await Intake(ServeSettings()).parse(lambda _: threading.get_ident(), bytes(size))
        assert (where != threading.get_ident()) == beside

    asyncio.run(story())
