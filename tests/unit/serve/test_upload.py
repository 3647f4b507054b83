"""Weights sent to a replica over ASGI: taken whole and fitting, or not at all."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from safetensors.torch import save

from tests.helpers.serving import SETTINGS, TOKEN, Backend, run, said
from undrift.errors import RequestError

WEIGHTS = "/v2/models/m/weights"
HEADERS = {**TOKEN, "Content-Type": "application/octet-stream", "Idempotency-Key": "k"}
STATE = {"weight": torch.ones(3, 2), "bias": torch.zeros(3)}
GOOD = save(STATE)
LIMITED = SETTINGS.model_copy(update={"max_weights_bytes": 20_000})


def kept(state: Path) -> list[str]:
    return [path.name for path in (state / "incoming").glob("*")]


def test_weights_are_kept_and_an_order_names_them(tmp_path: Path) -> None:
    async def story(backend: Backend, http: httpx.AsyncClient) -> None:
        answer = await http.post(f"{WEIGHTS}?origin=new.st", content=GOOD, headers=HEADERS)
        assert answer.status_code == 200, answer.text
        verb, order, key = backend.asked[-1]
        assert (verb, order["origin"], key) == ("weights", "new.st", "k")
        assert backend.incoming.path(order["weights"]).read_bytes() == GOOD
        again = await http.post(WEIGHTS, content=GOOD, headers=HEADERS)
        assert again.status_code == 200
        assert backend.asked[-1][1] == {"weights": order["weights"], "origin": "weights"}
        assert len(kept(tmp_path)) == 1

    run(story, LIMITED, tmp_path)


NAN = save({**STATE, "bias": torch.full((3,), torch.nan)})


@pytest.mark.parametrize(
    ("content", "headers", "status", "text"),
    [
        (GOOD[:-1], {}, 400, "is not a whole safetensors file"),
        (b"", {}, 400, "is not a whole safetensors file"),
        (b"\x80\x04K\x01.", {}, 400, "is not a whole safetensors file"),
        (save({"weight": STATE["weight"]}), {}, 400, "bias is missing"),
        (save({**STATE, "bias": torch.zeros(4)}), {}, 400, "bias has shape [4], not [3]"),
        (NAN, {}, 400, "not finite: bias"),
        (bytes(20_001), {}, 413, "the weights have 20001 bytes; at most 20000"),
        (GOOD, {"Content-Type": "application/json"}, 415, "send application/octet-stream"),
        (GOOD, {"Content-Encoding": "gzip"}, 415, "send application/octet-stream as it is"),
        (GOOD, {"Authorization": "Bearer wrong"}, 401, "this needs 'Authorization"),
        (GOOD, {"Idempotency-Key": "k" * 201}, 400, "may have 200 characters"),
    ],
)
def test_what_cannot_be_served_is_refused_and_leaves_nothing(
    tmp_path: Path, content: bytes, headers: dict[str, str], status: int, text: str
) -> None:
    async def story(backend: Backend, http: httpx.AsyncClient) -> None:
        answer = await http.post(WEIGHTS, content=content, headers={**HEADERS, **headers})
        assert text in said(answer, status)
        assert not backend.asked
        assert kept(tmp_path) == []

    run(story, LIMITED, tmp_path)


def test_size_that_was_not_announced_is_limited_too(tmp_path: Path) -> None:
    async def story(backend: Backend, http: httpx.AsyncClient) -> None:
        async def parts() -> Any:
            for _ in range(30):
                yield bytes(1_000)

        answer = await http.post(WEIGHTS, content=parts(), headers=HEADERS)
        assert "more than 20000 bytes" in said(answer, 413)
        assert kept(tmp_path) == []

    run(story, LIMITED, tmp_path)


@pytest.mark.parametrize(("query", "text"), [("orgin=a", "unknown key"), ("origin=%00", "origin")])
def test_query_is_checked(tmp_path: Path, query: str, text: str) -> None:
    async def story(_: Backend, http: httpx.AsyncClient) -> None:
        assert text in said(
            await http.post(f"{WEIGHTS}?{query}", content=GOOD, headers=HEADERS), 400
        )

    run(story, LIMITED, tmp_path)


@pytest.mark.parametrize("status", [409, 503])
def test_refused_order_leaves_no_file_unless_it_may_have_been_taken(
    tmp_path: Path, status: int
) -> None:
    async def story(backend: Backend, http: httpx.AsyncClient) -> None:
        async def refuse(*_: Any) -> Any:
            raise RequestError("not now", status)

        backend.request = refuse  # type: ignore[method-assign]
        said(await http.post(WEIGHTS, content=GOOD, headers=HEADERS), status)
        assert len(kept(tmp_path)) == (status == 503)

    run(story, LIMITED, tmp_path)


@pytest.mark.parametrize("goes", [True, False])
def test_caller_that_goes_or_falls_silent_leaves_nothing(tmp_path: Path, goes: bool) -> None:
    async def story(backend: Backend, http: httpx.AsyncClient) -> None:
        half = {"type": "http.request", "body": GOOD[:20], "more_body": True}
        coming, sent = [half, {"type": "http.disconnect"}][: 1 + goes], []

        async def receive() -> Any:
            if coming:
                return coming.pop(0)
            return await asyncio.get_running_loop().create_future()

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(k.lower().encode(), v.encode()) for k, v in HEADERS.items()]
        scope = {"type": "http", "path": WEIGHTS, "method": "POST", "headers": headers}
        await backend.api({**scope, "query_string": b""}, receive, send)
        assert sent[0]["status"] == (400 if goes else 408)
        assert kept(tmp_path) == []
        assert (await http.post(WEIGHTS, content=GOOD, headers=HEADERS)).status_code == 200

    run(story, LIMITED, tmp_path)
