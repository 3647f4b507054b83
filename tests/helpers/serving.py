"""The HTTP side of one replica over ASGI, with a real model behind it and no Ray."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from torch import nn

from tests.helpers import views as told
from undrift.errors import RequestError
from undrift.model.network import check_brought, load_safetensors
from undrift.records import Labels
from undrift.serve.batcher import Batcher
from undrift.serve.http import HttpApi
from undrift.serve.metrics import ReplicaMetrics, exposition
from undrift.serve.protocol import InferRequest, ModelSpec
from undrift.serve.settings import ServeSettings
from undrift.serve.slots import Answer, DoubleBuffer
from undrift.serve.tokens import Tokens, digest
from undrift.store.incoming import Incoming
from undrift.train.audit import columns, report

SPEC = ModelSpec("m", (2,), n_classes=3, classes=("a", "b", "c"))
SETTINGS = ServeSettings(max_queued_requests=2, max_body_bytes=10_000, request_timeout_s=0.2)
INFER = "/v2/models/m/infer"
TENSOR = {"name": "input", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}
TOKEN = {"Authorization": "Bearer secret"}


class Backend:
    """One replica's model and batches; the control plane is a list of what was asked of it."""

    def __init__(self, settings: ServeSettings, state: Path = Path("/nowhere")) -> None:
        self.incoming = Incoming(state)
        self.models = DoubleBuffer(lambda: nn.Linear(2, 3))
        self.load(3)
        self.batches = Batcher(self.compute, 64, 0.0)
        self.counts = ReplicaMetrics("m")
        self.free = asyncio.Event()
        self.free.set()
        self.flip_to = 0
        self.asked: list[Any] = []
        tokens = Tokens(digest("secret"), Path("/nowhere"))
        self.api = HttpApi(SPEC, settings, self, self.counts, tokens, "1.0")

    def load(self, version: int) -> None:
        state = nn.Linear(2, 3).state_dict()
        self.models.load(version, "cafe", state, np.zeros((1, 2), np.float32))

    @property
    def live(self) -> int | None:
        return self.models.version

    async def compute(self, requests: Sequence[InferRequest]) -> list[Answer]:
        await self.free.wait()
        if self.flip_to:
            self.load(self.flip_to)
        return [self.models.predict(request.x) for request in requests]

    async def infer(self, request: InferRequest, deadline: float) -> Answer:
        return await self.batches.submit(request, len(request.x), deadline)

    async def stored(self) -> list[int]:
        return [1, 2, 3]

    async def store_labels(self, labels: Labels) -> None:
        self.asked.append(labels.ids)

    async def view(self, name: str) -> Any:
        self.asked.append(name)
        return {"status": told.status(), "drift": told.drift(), "versions": []}[name]

    async def events(self, after: int, limit: int) -> Any:
        self.asked.append((after, limit))
        return {"events": [told.event(1, "drift")], "next": 1, "more": False}

    async def audit(self, version: str) -> Any:
        first = {"version": int(version), "parent": None, "run_id": "", "plan": None}
        return report({**first, "metrics": {}}, columns(()))

    async def request(self, verb: str, body: dict[str, Any], key: str) -> Any:
        if verb == "resume":
            raise RequestError("not paused", 409)
        self.asked.append((verb, body, key))
        return told.status()

    def check_weights(self, path: Path) -> None:
        check_brought(nn.Linear(2, 3), load_safetensors(path))

    async def metrics(self) -> bytes:
        return exposition([self.counts.snapshot()])


Story = Callable[[Backend, httpx.AsyncClient], Awaitable[None]]


def run(story: Story, settings: ServeSettings = SETTINGS, state: Path = Path("/nowhere")) -> None:
    async def main() -> None:
        backend = Backend(settings, state)
        transport = httpx.ASGITransport(backend.api)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as http:
            await asyncio.wait_for(story(backend, http), 10)

    asyncio.run(main())


def body(**more: Any) -> dict[str, Any]:
    return {"inputs": [TENSOR], **more}


def said(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    return str(answer.json()["error"])
