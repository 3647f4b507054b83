"""One request does not keep a replica from answering the others."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import httpx
import numpy as np
import pytest

from tests.helpers.serving import INFER, SPEC, TENSOR, TOKEN, Backend, body, run, said
from undrift.errors import RequestError
from undrift.serve import body as body_module
from undrift.serve import http, protocol
from undrift.serve.protocol import InferRequest, encode_infer, parse_infer
from undrift.serve.settings import ServeSettings

LIMITS = ServeSettings(max_json_values=1_100)


def parse(value: Any) -> InferRequest:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return parse_infer(raw, "application/json", SPEC, LIMITS)


def refused(value: bytes, status: int) -> str:
    with pytest.raises(RequestError) as caught:
        parse(value)
    assert caught.value.status == status
    return str(caught.value)


@pytest.mark.parametrize("text", [b"[" + b"1," * 1_099 + b"1]", b"[" * 1_100, b"{" * 1_100])
def test_values_are_counted_before_they_are_read(text: bytes) -> None:
    assert "1,101 values of JSON; at most 1,100" in refused(text, status=413)
    refused(text.replace(text[-4:-2], b"", 1)[1:], status=400)


def test_values_of_json_are_counted_across_the_pieces_of_a_body(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(body_module, "_COUNTED_AT_ONCE", 7)
    assert "1,101 values" in refused(b"[" + b"1," * 1_099 + b"1]", status=413)


def test_tensors_as_bytes_are_no_values_of_json() -> None:
    tensor = {**TENSOR, "shape": [30, 2], "parameters": {"binary_data_size": 240}}
    del tensor["data"]
    head = json.dumps({"inputs": [tensor]}).encode()
    raw = b",,,," * 60
    settings = ServeSettings(max_json_bytes=len(head), max_json_values=20)
    assert len(parse_infer(head + raw, "", SPEC, settings, str(len(head))).x) == 30


def test_garbage_collector_rests_only_while_json_is_read() -> None:
    for text in (b"{}", b"{"):
        with suppress(RequestError):
            parse(text)
        assert gc.isenabled()
    gc.disable()
    try:
        parse(body())
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.parametrize("at_once", [1, 3, 4, 5, 100])
def test_answer_is_the_same_in_whatever_steps_it_is_made(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = parse({"inputs": [{**TENSOR, "shape": [4, 2], "data": [1] * 8}]})
    output = np.random.default_rng(0).random((4, 3)).astype(np.float32)
    whole, _ = encode_infer(request, output, SPEC, 4, "cafe", labels=3)
    monkeypatch.setattr(protocol, "_VALUES_AT_ONCE", at_once)
    content, length = encode_infer(request, output, SPEC, 4, "cafe", labels=3)
    assert content == whole
    assert length == len(whole)
    np.testing.assert_array_equal(
        np.float32(json.loads(content)["outputs"][0]["data"]), output.ravel()
    )


BIG_FEEDBACK = json.dumps([{"id": f"{i:0100d}", "label": 0} for i in range(20_000)]).encode()
BIG_INFER = b"[" + b"1," * 2**22 + b"1]"


@pytest.mark.parametrize("how", ["announced", "in parts", "packed"])
@pytest.mark.parametrize(
    ("path", "big", "text"),
    [
        ("/v2/models/m/feedback", BIG_FEEDBACK, "2097152 .*: send labels in parts"),
        (INFER, BIG_INFER, "8388608 .*: send tensors as bytes, or parts"),
        ("/v2/models/m/pause", bytes(2**16 + 1), "65536 "),
    ],
)
def test_body_that_would_hold_up_others_is_refused_before_it_is_read(
    path: str, big: bytes, text: str, how: str
) -> None:
    headers = {"Content-Type": "application/json", **TOKEN}
    content: Any = big
    if how == "packed":
        headers["Content-Encoding"] = "gzip"
        content = gzip.compress(big, 1)

    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, len(big), 2**20):
            yield big[start : start + 2**20]

    async def story(backend: Backend, client: httpx.AsyncClient) -> None:
        given = parts() if how == "in parts" else content
        answer = await client.post(path, content=given, headers=headers)
        assert re.search(f"(at most|more than) {text}", said(answer, 413))
        assert not backend.asked

    run(story, ServeSettings())


def test_others_have_their_turn_while_a_long_answer_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(protocol, "_VALUES_AT_ONCE", 4)

    async def story(backend: Backend, client: httpx.AsyncClient) -> None:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        tensor = {**TENSOR, "shape": [100, 2], "data": [0.5] * 200}
        seen: list[int] = []

        def watched(*given: Any) -> Iterator[None]:
            for step in protocol.encoding(*given):
                seen.append(turns)
                yield step

        monkeypatch.setattr(http, "encoding", watched)
        task = asyncio.create_task(other())
        answer = await client.post(INFER, json={"inputs": [tensor]})
        task.cancel()
        assert len(answer.json()["outputs"][0]["data"]) == 300
        assert len(set(seen)) == len(seen) > 100

    run(story, ServeSettings())
