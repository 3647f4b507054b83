"""Plays a stream against a platform over HTTP, at a stated pace, and writes down what happens."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
from pydantic import Field
from torch import nn

from undrift.demo.recording import Recording, snapshot
from undrift.errors import PlatformError
from undrift.serve.body import ALL_REJECTED
from undrift.settings import Section
from undrift.streams.project import predict
from undrift.streams.stream import Stream, known
from undrift.views import DriftView, StatusView, VersionView, read

_CLOSED_BY_PEER = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)


class DriverSettings(Section):
    """How a stream is played."""

    rows_per_s: float = Field(default=50.0, gt=0)
    """Pace; requests leave on schedule whether or not earlier ones are answered."""

    rows_per_request: int = Field(default=8, ge=1)
    """Rows in one inference request."""

    max_in_flight: int = Field(default=32, ge=1)
    """Requests under way at most; beyond it the schedule waits and the pace falls."""

    labels_per_request: int = Field(default=64, ge=1)
    """Labels in one feedback request at most."""

    label_wait_s: float = Field(default=0.25, ge=0)
    """A due label waits at most this long for others, in seconds."""

    poll_s: float = Field(default=0.5, gt=0)
    """Time between two looks at the platform's status and signals, in seconds."""

    timeout_s: float = Field(default=30.0, gt=0)
    """A request unanswered for this long has failed, in seconds."""


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    data: Any


class Driver:
    """One run of a stream through a served model.

    The rows of a request are identified as ``{run}-{first row}:{i}``. A request fails if its
    answer is not 200, or does not come; a request on a kept-alive connection that the peer has
    closed meanwhile is repeated once and counted as a reconnect.

    Args:
        stream: What to play.
        model: The first model; its answers are computed here, as those of a frozen deployment.
        base_url: Address of the platform, as ``http://127.0.0.1:8000``.
        settings: Pace and limits.
        run: Prefix of the inference ids, unique for one state directory.

    Example:
        >>> from undrift.demo.driver import Driver  # doctest: +SKIP
        >>> driver = Driver(stream, model, "http://127.0.0.1:8000")  # doctest: +SKIP
        >>> driver.run()  # doctest: +SKIP
    """

    def __init__(
        self,
        stream: Stream,
        model: nn.Module,
        base_url: str,
        settings: DriverSettings | None = None,
        run: str = "demo",
    ) -> None:
        self.stream = stream
        self.settings = settings or DriverSettings()
        self.run_name = run
        self.recording = Recording.of(stream, predict(model, stream.live.x))
        self.stop = threading.Event()
        self._base_url = base_url
        self._path = f"/v2/models/{stream.name}"
        self._label_rows, self._label_at = stream.due()
        self._labels_due = 0
        self._pending: list[int] = []

    def run(self) -> Recording:
        """Play the stream to its end, or until ``stop`` is set, and return the recording."""
        asyncio.run(self._play())
        return self.recording

    async def _play(self) -> None:
        limits = httpx.Limits(max_connections=self.settings.max_in_flight + 8)
        async with httpx.AsyncClient(
            base_url=self._base_url, limits=limits, timeout=self.settings.timeout_s
        ) as client:
            await self._look(client)
            done = asyncio.Event()
            looking = asyncio.create_task(self._look_often(client, done))
            try:
                await self._send_all(client)
            finally:
                done.set()
                await looking
            await self._look_at_versions(client)

    async def _send_all(self, client: httpx.AsyncClient) -> None:
        size = self.settings.rows_per_request
        slots = asyncio.Semaphore(self.settings.max_in_flight)
        start = time.time()
        labelled_at = start
        async with asyncio.TaskGroup() as tasks:
            for first in range(0, len(self.stream), size):
                due = start + first / self.settings.rows_per_s
                if not await self._wait_until(due):
                    break
                await slots.acquire()
                rows = slice(first, min(first + size, len(self.stream)))
                self.recording.due_at[rows] = due
                self.recording.sent_at[rows] = time.time()
                self.recording.sent = rows.stop
                task = tasks.create_task(self._infer(client, rows))
                task.add_done_callback(lambda _: slots.release())
                self._collect_due(rows.stop)
                full = len(self._pending) >= self.settings.labels_per_request
                if full or time.time() - labelled_at >= self.settings.label_wait_s:
                    labelled_at = time.time()
                    tasks.create_task(self._label(client))
        await self._label(client)

    async def _wait_until(self, due: float) -> bool:
        """Sleep until ``due``; return False once the driver is told to stop."""
        while not self.stop.is_set():
            left = due - time.time()
            await asyncio.sleep(min(max(left, 0.0), 0.2))
            if left <= 0.2:
                return True
        return False

    async def _infer(self, client: httpx.AsyncClient, rows: slice) -> None:
        x = self.stream.live.x[rows]
        tensor = {
            "name": "input",
            "shape": list(x.shape),
            "datatype": "FP32",
            "data": x.ravel().tolist(),
        }
        body = {"id": self._request_id(rows.start), "inputs": [tensor]}
        record, what = self.recording, f"rows {rows.start} to {rows.stop - 1}"
        try:
            answer = await self._post(client, f"{self._path}/infer", body)
            record.status[rows] = answer.status
            if answer.status != 200:
                record.fail(f"{what}: status {answer.status}: {_error_text(answer.data)}")
                return
            version = int(answer.data["model_version"])
            outputs = {o["name"]: o["data"] for o in answer.data["outputs"]}
            said = outputs["value" if "value" in outputs else "label"]
            record.predicted[rows] = np.asarray(said).reshape(record.predicted[rows].shape)
            record.version[rows] = version
            weights_hash = str(answer.data["parameters"]["weights_hash"])
            record.hashes.setdefault(version, set()).add(weights_hash)
        except httpx.HTTPError as error:
            record.fail(f"{what}: {type(error).__name__} {error}")
        except (KeyError, TypeError, ValueError) as error:
            record.fail(f"{what}: the answer is not as agreed: {type(error).__name__} {error}")
        finally:
            record.answered_at[rows] = time.time()

    def _request_id(self, first: int) -> str:
        return f"{self.run_name}-{first}"

    def _row_id(self, row: int) -> str:
        size = self.settings.rows_per_request
        first = row - row % size
        alone = min(size, len(self.stream) - first) == 1
        return self._request_id(first) if alone else f"{self._request_id(first)}:{row - first}"

    def _collect_due(self, sent: int) -> None:
        upto = int(np.searchsorted(self._label_at, sent, side="right"))
        self._pending += self._label_rows[self._labels_due : upto].tolist()
        self._labels_due = upto

    async def _label(self, client: httpx.AsyncClient) -> None:
        """Send the due labels of answered rows; those of failed rows are dropped."""
        record = self.recording
        there = known(record.predicted[self._pending])
        answered = [r for r, has in zip(self._pending, there.tolist(), strict=True) if has]
        self._pending = [r for r in self._pending if np.isnan(record.answered_at[r])]
        size = self.settings.labels_per_request
        for first in range(0, len(answered), size):
            rows = answered[first : first + size]
            items = [{"id": self._row_id(r), "label": self.stream.live.y[r].tolist()} for r in rows]
            try:
                answer = await self._post(client, f"{self._path}/feedback", items)
            except httpx.HTTPError as error:
                answer = _Answer(0, {"error": f"{type(error).__name__} {error}"})
            if 200 <= answer.status < 300 or answer.status == ALL_REJECTED:
                rejected = answer.data.get("rejected") if isinstance(answer.data, dict) else None
                refused = len(rejected) if isinstance(rejected, list) else int(rejected or 0)
                record.labels_rejected += refused
                record.labels_sent += len(rows) - refused
            else:
                record.fail(f"labels: status {answer.status}: {_error_text(answer.data)}")
                self._pending += rows

    async def _post(self, client: httpx.AsyncClient, path: str, body: Any) -> _Answer:
        content = json.dumps(body, separators=(",", ":")).encode()
        opened: list[str] = []
        try:
            return await self._send(client, path, content, opened)
        except _CLOSED_BY_PEER:
            if opened:
                raise
            self.recording.reconnects += 1
            return await self._send(client, path, content, opened)

    @staticmethod
    async def _send(
        client: httpx.AsyncClient, path: str, content: bytes, opened: list[str]
    ) -> _Answer:
        """Send once; ``opened`` tells afterwards whether a connection was opened for it."""

        async def trace(event: str, _info: Any) -> None:
            if event == "connection.connect_tcp.started":
                opened.append(event)

        response = await client.post(
            path,
            content=content,
            headers={"content-type": "application/json"},
            extensions={"trace": trace},
        )
        return _Answer(response.status_code, _json(response))

    async def _look_often(self, client: httpx.AsyncClient, done: asyncio.Event) -> None:
        while not done.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.settings.poll_s):
                    await done.wait()
            await self._look(client)

    async def _look(self, client: httpx.AsyncClient) -> None:
        record, asked_at = self.recording, time.time()
        try:
            status = read(StatusView, _json(await client.get(f"{self._path}/status")))
            drift = read(DriftView, _json(await client.get(f"{self._path}/drift")))
            seen = snapshot(status, drift, asked_at, time.time(), record.sent)
            record.tell(status.events)
        except (httpx.HTTPError, PlatformError):
            record.polls_failed += 1
            return
        record.snapshots.append(seen)

    async def _look_at_versions(self, client: httpx.AsyncClient) -> None:
        try:
            found = _json(await client.get(f"{self._path}/versions"))
            self.recording.versions = read(list[VersionView], found)
        except (httpx.HTTPError, PlatformError):
            self.recording.polls_failed += 1


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None


def _error_text(data: Any) -> str:
    return str(data.get("error", data) if isinstance(data, dict) else data)[:300]
