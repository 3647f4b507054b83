from __future__ import annotations

import asyncio
import gzip
import random
import tracemalloc
import zlib
from collections.abc import Iterable
from typing import Any

import pytest

from undrift.errors import RequestError
from undrift.serve.encoding import STEP
from undrift.serve.intake import Intake
from undrift.serve.settings import ServeSettings

LIMIT = 300_000
TEXT = random.Random(1).randbytes(STEP) + b"undrift " * 20_000 + b"."
PACK = {
    "": bytes,
    "identity": bytes,
    "IDENTITY": bytes,
    "gzip": gzip.compress,
    " GZip ": gzip.compress,
    "x-gzip": gzip.compress,
    "identity, gzip": gzip.compress,
    "deflate": zlib.compress,
}


def take(header: str, chunks: Iterable[bytes], **limits: Any) -> bytes:
    """Return the body that comes in these parts under this Content-Encoding."""

    async def story() -> bytes:
        left = [*chunks]

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

        intake = Intake(ServeSettings(**{"max_body_bytes": LIMIT, **limits}))
        headers = {b"content-encoding": header.encode()} if header else {}
        async with intake.admitted(headers, receive) as body:
            return body

    return asyncio.run(story())


def refused(status: int, header: str, *chunks: bytes, **limits: Any) -> str:
    with pytest.raises(RequestError) as caught:
        take(header, chunks, **limits)
    assert caught.value.status == status
    return str(caught.value)


def cut(body: bytes, size: int) -> list[bytes]:
    return [body[i : i + size] for i in range(0, len(body), size)] + [b""]


@pytest.mark.parametrize("size", [313, STEP, LIMIT])
@pytest.mark.parametrize("header", PACK)
def test_body_is_what_was_packed_however_it_is_cut(header: str, size: int) -> None:
    assert take(header, cut(PACK[header](TEXT), size)) == TEXT


@pytest.mark.parametrize("header", ["gzip", "deflate"])
@pytest.mark.parametrize("content", [b"", b"{", bytes(STEP - 1), bytes(STEP), bytes(2 * STEP)])
def test_bodies_of_every_size_are_whole(header: str, content: bytes) -> None:
    assert take(header, [PACK[header](content)]) == content
    assert take(header, cut(PACK[header](content), 1)) == content


@pytest.mark.parametrize("header", ["", "gzip", "deflate"])
def test_the_same_bound_holds_for_what_is_unpacked(header: str) -> None:
    assert len(take(header, [PACK[header](bytes(LIMIT))])) == LIMIT
    text = refused(413, header, PACK[header](bytes(LIMIT + 1)))
    assert f"the body has more than {LIMIT} bytes" in text


def test_a_bomb_is_refused_and_takes_no_more_memory_than_a_body() -> None:
    bomb = zlib.compress(bytes(250 * LIMIT), 9)
    assert len(bomb) < LIMIT
    tracemalloc.start()
    try:
        refused(413, "deflate", bomb)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 2 * LIMIT


def test_what_unpacks_to_nothing_does_not_go_on_for_ever() -> None:
    packer = zlib.compressobj()
    nothing = packer.compress(b"") + packer.flush(zlib.Z_SYNC_FLUSH)
    more = [packer.flush(zlib.Z_FULL_FLUSH) or b"\0\0\0\xff\xff" for _ in range(LIMIT // 5)]
    assert "the body has more than" in refused(413, "deflate", nothing, *more, b"")


def test_bytes_that_are_here_are_counted_as_they_are_unpacked() -> None:
    packed = gzip.compress(bytes(5_000))
    assert "bodies of 4999 bytes" in refused(503, "gzip", packed, max_queued_bytes=4_999)
    assert take("gzip", [packed], max_queued_bytes=5_000) == bytes(5_000)


@pytest.mark.parametrize(
    ("header", "body", "text"),
    [
        ("gzip", gzip.compress(TEXT)[:-1], "ends before, by its Content-Encoding, it is whole"),
        ("deflate", zlib.compress(TEXT)[:-1], "ends before"),
        ("gzip", b"", "ends before"),
        ("gzip", TEXT, "not as Content-Encoding says"),
        ("gzip", zlib.compress(TEXT), "not as Content-Encoding says"),
        ("deflate", gzip.compress(TEXT), "not as Content-Encoding says"),
        ("gzip", gzip.compress(TEXT)[:-8] + bytes(8), "incorrect data check"),
        ("gzip", gzip.compress(TEXT) + b"{}", "goes on where, by its Content-Encoding, it ends"),
    ],
)
def test_body_that_is_not_packed_as_it_says_is_refused(header: str, body: bytes, text: str) -> None:
    assert text in refused(400, header, body)
    assert text in refused(400, header, *cut(body, 1_001))


@pytest.mark.parametrize(
    "header", ["br", "zstd", "compress", "gzip, gzip", "deflate,br", "gzip;q=1"]
)
def test_other_encodings_are_415(header: str) -> None:
    assert f"Content-Encoding {header!r} is not taken" in refused(415, header, b"{}")
