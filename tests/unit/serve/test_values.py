"""Requests of bytes, of which the user's function makes rows."""

from __future__ import annotations

import asyncio
import json
import threading
from base64 import b64encode
from typing import Any

import jsonschema
import numpy as np
import pytest

from undrift.errors import RequestError
from undrift.model.preprocess import Preprocess
from undrift.serve.openapi import document
from undrift.serve.prepare import Preparing
from undrift.serve.protocol import InferRequest, ModelSpec, model_metadata, parse_infer
from undrift.serve.settings import ServeSettings

SPEC = ModelSpec("m", (2,), n_classes=2, preprocessed=True)
SETTINGS = ServeSettings(max_rows_per_request=4)
VALUES = (b"\x89PNG\r\n\x00\xff", "grün".encode())


def body(**changed: Any) -> dict[str, Any]:
    coded = [b64encode(value).decode() for value in VALUES]
    parameters = {"content_type": "base64"}
    whole = {"name": "input", "shape": [2], "datatype": "BYTES", "data": coded}
    merged = {**whole, "parameters": parameters, **changed}
    return {"inputs": [{key: value for key, value in merged.items() if value is not ...}]}


def parse(value: Any, raw: bytes = b"") -> InferRequest:
    head = json.dumps(value).encode()
    length = str(len(head)) if raw else None
    return parse_infer(head + raw, "application/json", SPEC, SETTINGS, length)


def packed(*values: bytes) -> bytes:
    return b"".join(len(value).to_bytes(4, "little") + value for value in values)


def as_bytes(raw: bytes, **changed: Any) -> InferRequest:
    size = {"binary_data_size": len(raw)}
    return parse(body(data=..., parameters=size, **changed), raw)


def test_values_come_as_base64_as_text_and_as_bytes() -> None:
    assert parse(body()).values == VALUES
    assert parse(body(data=["a", "grün"], parameters=...)).values == (b"a", "grün".encode())
    assert parse(body(data=[["a"], ["b"]], shape=[2, 1], parameters=...)).values == (b"a", b"b")
    assert as_bytes(packed(*VALUES)).values == VALUES
    assert as_bytes(packed(b"", b"x"), shape=[2, 1]).values == (b"", b"x")
    assert parse(body()).row_ids[1].endswith(":1")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"data": ["a", "b"]}, "value 0 of 'data', 'a', is not base64"),
        ({"data": ["a", 7], "parameters": ...}, "value 1 of 'data', 7, is not a string of UTF-8"),
        ({"data": ["a", None], "parameters": ...}, "value 1 of 'data', None, is not a string"),
        ({"data": ["a", ["b", "c"]], "parameters": ...}, "value 1 of 'data', ['b', 'c'], is not"),
        ({"data": ["a"]}, "'data' must be a list of 2 strings; got 1 of them"),
        ({"data": "a"}, "'data' must be a list of 2 strings; got a string"),
        ({"datatype": "FP32"}, "'datatype' must be one of BYTES; got 'FP32'"),
        ({"shape": [2, 2]}, "'shape' must be [rows]; got [2, 2]"),
        ({"shape": []}, "'shape' must be [rows]; got []"),
        ({"name": "image"}, "the input is named 'input'; got 'image'"),
        ({"parameters": {"content_type": 7}}, "'content_type' must be a text; got 7"),
    ],
)
def test_values_that_are_none_are_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse(body(**changed))
    assert caught.value.status == 400
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (packed(b"a"), "the binary data has 1 values and then 0 bytes; the shape has 2 values"),
        (packed(b"a", b"b", b"c"), "has 2 values and then 5 bytes; the shape has 2 values"),
        (packed(b"a") + b"\x09\0\0\0b", "value 1 of the binary data goes beyond its end"),
        (packed(b"a") + b"\x00\0", "value 1 of the binary data goes beyond its end"),
        (b"\xff\xff\xff\xffa", "value 0 of the binary data goes beyond its end"),
    ],
)
def test_binary_values_that_do_not_add_up_are_refused(raw: bytes, said: str) -> None:
    with pytest.raises(RequestError) as caught:
        as_bytes(raw)
    assert said in str(caught.value)


def test_too_many_values_are_413() -> None:
    with pytest.raises(RequestError, match="5 rows; at most 4") as caught:
        parse(body(shape=[5], data=["a"] * 5))
    assert caught.value.status == 413


def test_metadata_and_document_say_bytes() -> None:
    (told,) = model_metadata(SPEC, [1])["inputs"]
    assert told == {"name": "input", "datatype": "BYTES", "shape": [-1]}
    schemas = document(SPEC, SETTINGS, "1")["components"]["schemas"]
    check = jsonschema.Draft202012Validator(
        {**schemas["InferRequest"], "components": {"schemas": schemas}}
    )
    assert check.is_valid(body())
    assert check.is_valid(body(shape=[2, 1]))
    assert not check.is_valid(body(shape=[2, 2]))
    assert not check.is_valid(body(datatype="FP32"))


def lengths(values: list[bytes]) -> Any:
    if values[0] == b"bad":
        raise ValueError("bad")
    return [[len(value), 0] for value in values]


def test_rows_are_made_beside_the_event_loop() -> None:
    threads = []

    def function(values: list[bytes]) -> Any:
        threads.append(threading.current_thread())
        return lengths(values)

    async def story() -> None:
        preparing = Preparing(Preprocess("m:f", function, (2,), None))
        deadline = asyncio.get_running_loop().time() + 60
        good, bad = await asyncio.gather(
            preparing.rows((b"ab", b"c"), deadline),
            preparing.rows((b"bad",), deadline),
            return_exceptions=True,
        )
        np.testing.assert_array_equal(good, [[2, 0], [1, 0]])
        assert isinstance(bad, RequestError)
        assert bad.status == 422

    asyncio.run(story())
    assert threading.main_thread() not in threads


def test_deadline_ends_the_wait_and_what_waits_for_a_thread_is_not_begun() -> None:
    begun, go_on = [], threading.Event()

    def function(values: list[bytes]) -> Any:
        begun.append(values[0])
        go_on.wait(60)
        return lengths(values)

    async def story() -> None:
        preparing = Preparing(Preprocess("m:f", function, (2,), None))
        loop = asyncio.get_running_loop()
        long = loop.time() + 60
        held = [
            loop.create_task(preparing.rows((b"%d" % i,), long)) for i in range(Preparing.AT_ONCE)
        ]
        while len(begun) < Preparing.AT_ONCE:
            await asyncio.sleep(0.01)
        with pytest.raises(RequestError, match="the deadline passed") as caught:
            await preparing.rows((b"late",), loop.time() + 0.01)
        assert caught.value.status == 504
        go_on.set()
        assert len(await asyncio.gather(*held)) == Preparing.AT_ONCE
        await preparing.rows((b"next",), long)

    asyncio.run(story())
    assert b"late" not in begun
    assert begun[-1] == b"next"
