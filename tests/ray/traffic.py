"""Continuous load from keep-alive clients, and the record of every answer."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from itertools import takewhile
from types import TracebackType

import httpx
import numpy as np
import numpy.typing as npt

from tests.ray.asking import FEEDBACK, INFER, infer_body

ROWS = 8


@dataclass(frozen=True)
class Answered:
    """One request of ``ROWS`` rows and what came back, times on the monotonic clock."""

    id: str
    sent: float
    received: float
    x: npt.NDArray[np.float32]
    output: npt.NDArray[np.float32]
    version: int
    weights_hash: str


class Traffic:
    """Clients that ask one request after the other, each over one connection, until closed.

    A request whose connection breaks is sent once more over a new one, as any HTTP client with a
    retry does. Such reconnects are counted; whatever else goes wrong is a failure.

    Attributes:
        answers: Every answer.
        failures: What went wrong, in words.
        reconnects: Requests that were sent twice.
        raw: Requests that a client which sends none twice would have lost.
    """

    def __init__(self, url: str, name: str, clients: int = 4, pause_s: float = 0.0) -> None:
        self._url, self._name, self._pause_s = url, name, pause_s
        self.answers: list[Answered] = []
        self.failures: list[str] = []
        self.reconnects = self.raw = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(i,)) for i in range(clients)]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def since(self, moment: float) -> list[Answered]:
        """Return the answers to requests that were sent after ``moment``."""
        return [a for a in list(self.answers) if a.sent > moment]

    def _run(self, client: int) -> None:
        rng = np.random.default_rng(client)
        limits = httpx.Limits(max_connections=1)
        with httpx.Client(base_url=self._url, timeout=60, limits=limits, trust_env=False) as http:
            number = 0
            while not self._stop.is_set():
                self._ask(http, self._rows(rng), f"{self._name}-{client}-{number}")
                number += 1
                self._stop.wait(self._pause_s)

    def _rows(self, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        return rng.uniform(-1, 1, (ROWS, 2)).astype(np.float32)

    def _ask(self, http: httpx.Client, x: npt.NDArray[np.float32], name: str) -> None:
        body = infer_body(x, id=name, outputs=[{"name": "probabilities"}])
        sent, again = time.monotonic(), 0
        try:
            try:
                answer = http.post(INFER, json=body)
            except httpx.TransportError:
                again = 1
                self.reconnects += 1
                self.raw += 1
                answer = http.post(INFER, json=body)
        except httpx.TransportError as error:
            self.failures.append(f"{name}: {error!r}")
            return
        if answer.status_code != 200:
            self.raw += 1 - again
            self.failures.append(f"{name}: {answer.status_code} {answer.text}")
            return
        content = answer.json()
        output = np.reshape(np.float32(content["outputs"][0]["data"]), (ROWS, -1))
        version = int(content["model_version"])
        weights_hash = content["parameters"]["weights_hash"]
        self.answers.append(
            Answered(name, sent, time.monotonic(), x, output, version, weights_hash)
        )


class Labeller:
    """Sends a label for every row of every answer of a `Traffic`, once, until closed.

    A label is ``lag_s`` seconds late.

    Attributes:
        acknowledged: Ids of the rows whose label was accepted.
        refused: Ids of the rows whose label was answered 503.
        broken: Requests whose connection broke; their labels are not sent again.
        wrong: Anything else that came back.
        turn: Added to each label, of three classes; other than 0 it makes wrong labels.
    """

    def __init__(self, url: str, traffic: Traffic, lag_s: float = 0.0) -> None:
        self._url, self._traffic, self._lag_s = url, traffic, lag_s
        self.acknowledged: list[str] = []
        self.refused: list[str] = []
        self.broken = self.turn = 0
        self.wrong: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Labeller:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        sent = 0
        with httpx.Client(base_url=self._url, timeout=60, trust_env=False) as http:
            while not self._stop.is_set():
                newest = self._traffic.answers[sent : sent + 20]
                answers = list(takewhile(self._due, newest))
                sent += len(answers)
                if answers:
                    self._send(http, answers)
                self._stop.wait(0.02)

    def _due(self, answered: Answered) -> bool:
        return answered.received <= time.monotonic() - self._lag_s

    def _send(self, http: httpx.Client, answers: list[Answered]) -> None:
        items = [{"id": a.id, "label": self._labels(a)} for a in answers]
        ids = [f"{a.id}:{i}" for a in answers for i in range(ROWS)]
        try:
            answer = http.post(FEEDBACK, json=items)
        except httpx.TransportError:
            self.broken += 1
            return
        if answer.status_code == 200:
            self.acknowledged += ids
        elif answer.status_code == 503 and "retry-after" in answer.headers:
            self.refused += ids
        else:
            self.wrong.append(f"{answer.status_code} {answer.text}")

    def _labels(self, answered: Answered) -> list[int]:
        labels: list[int] = ((answered.output.argmax(axis=1) + self.turn) % 3).tolist()
        return labels
