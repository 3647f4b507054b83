"""Whatever comes over the wire is answered in time, not with a failure of ours, and kills nothing.

Requests are made from the OpenAPI document, in its sense and against it, and written by hand onto
raw sockets. `same_replicas` checks afterwards that no replica died.
"""

from __future__ import annotations

import asyncio
import json
import random
import select
import socket
from contextlib import ExitStack, suppress

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.helpers.support import eventually
from tests.ray.asking import INFER, ROW, infer_body, refused
from tests.ray.running import MODEL, Running

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("same_replicas")]

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
BOUNDED = settings(
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def alive(http: httpx.Client) -> None:
    for _ in range(4):  # both replicas
        assert http.post(INFER, json=infer_body(ROW)).status_code == 200


@pytest.mark.parametrize("examples", [3, pytest.param(25, marks=pytest.mark.slow)])
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_requests_made_from_the_document_get_documented_answers(
    http: httpx.Client, platform: Running, mode: GenerationMode, examples: int
) -> None:
    schema = schemathesis.openapi.from_url(f"{platform.url}/openapi.json")
    asked = 0
    for result in schema.get_all_operations():
        operation = result.ok()

        @seed(0)
        @settings(BOUNDED, max_examples=examples)
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: schemathesis.Case) -> None:
            nonlocal asked
            asked += 1
            case.call_and_validate(checks=CHECKS, timeout=30)

        with suppress(Unsatisfiable):  # a request without parts cannot be wrong
            ask()
    assert asked > 10 * examples
    alive(http)


def exchange(platform: Running, sent: bytes) -> bytes:
    """Send bytes over a connection of their own; returns what comes until it is closed."""
    address = ("127.0.0.1", platform.config.serve.port)
    received = b""
    with socket.create_connection(address, timeout=30) as raw, suppress(ConnectionError):
        raw.sendall(sent)
        with suppress(OSError):  # closed by the other side already
            raw.shutdown(socket.SHUT_WR)
        while chunk := raw.recv(65_536):
            received += chunk
    return received


BODY = json.dumps(infer_body(ROW)).encode()
HEAD = f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: ".encode()
CHUNKED = HEAD.replace(b"Content-Length: ", b"Transfer-Encoding: chunked\r\n\r\n")
LIES = {
    "more announced than sent": HEAD + b"500\r\n\r\n" + BODY,
    "less announced than sent": HEAD + b"20\r\n\r\n" + BODY,
    "negative": HEAD + b"-5\r\n\r\n" + BODY,
    "no number": HEAD + b"many\r\n\r\n" + BODY,
    "immense": HEAD + b"9" * 18 + b"\r\n\r\n" + BODY,
    "beyond 64 bits": HEAD + b"9" * 40 + b"\r\n\r\n" + BODY,
    "two that differ": HEAD + b"3\r\nContent-Length: 9\r\n\r\n" + BODY,
    "chunked as well": HEAD + b"9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "chunk that is no number": CHUNKED + b"xyz\r\n{}\r\n0\r\n\r\n",
    "negative chunk": CHUNKED + b"-2\r\n{}\r\n0\r\n\r\n",
    "chunk beyond 64 bits": CHUNKED + b"f" * 20 + b"\r\n" + BODY,
    "chunk that is longer than announced": CHUNKED + b"2\r\n" + BODY + b"\r\n0\r\n\r\n",
    "chunk without an end": CHUNKED + b"ff\r\n" + BODY,
    "chunks without an end": CHUNKED + b"%x\r\n" % len(BODY) + BODY + b"\r\n",
    "long extension of a chunk": CHUNKED + b"2;" + b"a" * 20_000 + b"\r\n{}\r\n0\r\n\r\n",
    "immense trailer": CHUNKED + b"2\r\n{}\r\n0\r\n" + b"a: b\r\n" * 60_000 + b"\r\n",
    "compressed twice": CHUNKED.replace(b"chunked", b"gzip, chunked") + b"2\r\n{}\r\n0\r\n\r\n",
    "header without an end": HEAD + b"9",
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200,
    "immense header": b"GET / HTTP/1.1\r\nX: " + b"a" * 300_000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("lie", LIES)
def test_length_that_lies_is_refused_or_the_connection_closed(
    http: httpx.Client, platform: Running, lie: str
) -> None:
    answer = exchange(platform, LIES[lie])
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer
    alive(http)


def test_random_bytes_are_refused_or_the_connection_closed(
    http: httpx.Client, platform: Running
) -> None:
    rng = random.Random(0)
    for _ in range(60):
        noise = rng.randbytes(rng.randint(1, 3_000))
        head = HEAD + str(len(noise)).encode() + b"\r\n\r\n" if rng.random() < 0.7 else b""
        answer = exchange(platform, head + noise)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer
    alive(http)


SLOW = {
    "silent in the head": (HEAD, b""),
    "silent in the body": (HEAD + b"500\r\n\r\n" + BODY, b""),
    "silent between chunks": (CHUNKED + b"2\r\n{}\r\n", b""),
    "a byte of the head at a time": (HEAD, b"1"),
    "a byte of the body at a time": (HEAD + b"90000\r\n\r\n", b" "),
    "a chunk at a time": (CHUNKED, b"1\r\n \r\n"),
}


def test_slow_senders_are_cut_off_and_hold_up_nobody(http: httpx.Client, platform: Running) -> None:
    address = ("127.0.0.1", platform.config.serve.port)
    with ExitStack() as closing:
        waiting, told = dict[socket.socket, str](), dict[str, bytes]()
        for how, (begun, _) in SLOW.items():
            for _ in range(10):  # fewer than one replica turns away
                raw = closing.enter_context(socket.create_connection(address, timeout=30))
                raw.sendall(begun)
                waiting[raw] = how

        def ended() -> bool:
            for raw in select.select(list(waiting), [], [], 0.2)[0]:
                with suppress(ConnectionError):
                    told[waiting[raw]] = raw.recv(65_536)
                del waiting[raw]
            for raw, how in waiting.items():
                with suppress(OSError):  # closed by the other side meanwhile
                    raw.sendall(SLOW[how][1])
            assert http.get(f"/v2/models/{MODEL}/ready").status_code == 200
            return not waiting

        eventually(ended, 60)
    for how, answer in told.items():  # a load balancer that ends for its successor says nothing
        assert answer == b"" or answer.startswith(b"HTTP/1.1 408"), (how, answer)
    assert b"the body did not come within" in told["silent in the body"]
    alive(http)


HUGE = [[10**30, 2], [2**31, 2], [1, 10**18], [-1, 2], [0, 2], [1] * 5_000, [1, 2, 1], [1.0, 2]]


@pytest.mark.parametrize("shape", HUGE, ids=range(len(HUGE)))
@pytest.mark.parametrize("binary", [False, True])
def test_shape_that_lies_is_refused(http: httpx.Client, shape: list[float], binary: bool) -> None:
    body = infer_body(ROW)
    tensor = body["inputs"][0]
    tensor["shape"] = shape
    content = json.dumps(body).encode()
    headers = {}
    if binary:
        del tensor["data"]
        tensor["parameters"] = {"binary_data_size": 8}
        content = json.dumps(body).encode()
        headers["Inference-Header-Content-Length"] = str(len(content))
        content += bytes(8)
    answer = http.post(INFER, content=content, headers=headers)
    refused(answer, 413 if shape[0] > 4096 and shape[1:] == [2] else 400, "")


def test_too_many_at_once_are_told_to_come_back(http: httpx.Client, platform: Running) -> None:
    body = infer_body([[0.0, 0.0]] * 64)

    async def storm() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(
            base_url=platform.url, timeout=60, limits=limits, trust_env=False
        ) as many:
            return await asyncio.gather(*(many.post(INFER, json=body) for _ in range(200)))

    answers = asyncio.run(storm())
    turned_away = [a for a in answers if a.status_code != 200]
    assert 0 < len(turned_away) < 200
    for answer in turned_away:
        refused(answer, 503, "requests are here already; try again")
        assert answer.headers["retry-after"] == "1"
    alive(http)


def test_deadline_is_kept_while_the_model_is_busy(http: httpx.Client) -> None:
    body = infer_body([[0.0, 0.0]], parameters={"timeout": 5_000})  # the model takes 20 ms
    refused(http.post(INFER, json=body), 504, "the deadline passed")
    assert http.get(f"/v2/models/{MODEL}/ready").status_code == 200
