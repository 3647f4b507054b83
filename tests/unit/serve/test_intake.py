from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from undrift.errors import RequestError
from undrift.serve import intake as module
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


def counted(left: list[bytes], *, endless: bool = False) -> Any:
    async def receive() -> dict[str, Any]:
        if not left:
            await asyncio.Event().wait()
        body = left[0] if endless else left.pop(0)
        return {"type": "http.request", "body": body, "more_body": endless or bool(left)}

    return receive


@pytest.mark.parametrize(
    ("headers", "rest"),
    [({b"content-length": b"40"}, 0), ({}, 0), ({b"content-length": b"40", b"expect": b"1"}, 4)],
)
def test_too_large_a_body_is_read_to_its_end_before_it_is_refused(
    headers: dict[bytes, bytes], rest: int
) -> None:
    left = [bytes(10)] * 4
    intake = Intake(ServeSettings(max_body_bytes=15))
    with pytest.raises(RequestError, match=r"40 bytes|more than 15 bytes"):
        asyncio.run(intake.read(headers, counted(left)))
    assert len(left) == rest


@pytest.mark.parametrize("endless", [True, False])
def test_body_that_does_not_end_or_come_is_refused_all_the_same(
    endless: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LINGER_S", 0.05)
    monkeypatch.setattr(module, "LINGER_BYTES", 1_000)
    receive = counted([bytes(10)] if endless else [], endless=endless)
    with pytest.raises(RequestError, match="40 bytes"):
        asyncio.run(
            Intake(ServeSettings(max_body_bytes=15)).read({b"content-length": b"40"}, receive)
        )
