"""Who answers a request, and what is kept of it: forward passes in batches, and the tap."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from undrift.errors import ModelError, RequestError, UndriftError
from undrift.records import PASSED_OVER, FloatArray, Predictions, TargetArray
from undrift.serve.batcher import Batcher
from undrift.serve.candidate import Candidate, with_answers
from undrift.serve.metrics import ReplicaMetrics
from undrift.serve.protocol import InferRequest
from undrift.serve.sampling import Allowance, Sampling
from undrift.serve.settings import ReplicaSettings
from undrift.serve.slots import Answer, DoubleBuffer, Slot
from undrift.serve.tap import Answered, Tap

FORMER, FORMER_SAVED_S = 0.2, 0.5
"""Processor time that the version before may take to be compared with, of each second, and at once.

With a large model a probation would otherwise halve what a replica can answer, until labels come.
"""


class Answering:
    """Has the live version answer, or a canary its share, and offers the tap what was answered.

    Nothing that another version is asked for comparison is waited for by whoever asked.

    Args:
        models: The live model.
        candidate: The version that is tried beside it.
        tap: Where answered rows go.
        metrics: What is counted.
        settings: How requests are batched.
        numbers: Whether the model answers numbers.
    """

    def __init__(
        self,
        models: DoubleBuffer,
        candidate: Candidate,
        tap: Tap,
        metrics: ReplicaMetrics,
        settings: ReplicaSettings,
        *,
        numbers: bool,
    ) -> None:
        self._models, self._candidate = models, candidate
        self._tap, self._metrics, self._numbers = tap, metrics, numbers
        self._compute = ThreadPoolExecutor(1, "forward")
        limits = settings.max_batch_size, settings.batch_wait_ms / 1000
        self._batches = Batcher(self._compute_batch, *limits)
        self._canary = Batcher(self._compute_canary, *limits)
        self._comparing: set[asyncio.Task[None]] = set()
        self._shadowing = False
        self._taps = settings.tap.max_rows > 0
        self._sampling = Sampling(settings.tap, time.monotonic())
        self._former = Allowance(FORMER, FORMER_SAVED_S, time.monotonic())

    async def infer(self, request: InferRequest, deadline: float) -> Answer:
        """Answer in a batch with other requests; one that names its version falls to no canary.

        Args:
            request: What is asked.
            deadline: Time of the event loop after which nobody wants the answer any more.
        """
        falls = not request.pinned and self._candidate.answers(request.id)
        batches = self._canary if falls else self._batches
        return await batches.submit(request, len(request.x), deadline)

    async def _compute_batch(self, requests: Sequence[InferRequest]) -> list[Answer]:
        """Run one forward pass; all its rows come from one version."""
        x = _rows_of(requests)
        loop = asyncio.get_running_loop()
        try:
            answer = await loop.run_in_executor(self._compute, self._models.predict, x)
        except ModelError as error:  # whatever the user's model raises
            raise RequestError(f"the model failed: {error}", 500) from error
        except UndriftError:
            raise
        except Exception as error:
            raise RequestError(f"the model failed: {type(error).__name__}: {error}", 500) from error
        self._metrics.batch(len(x))
        self._offer(requests, x, answer)
        return _parts_of(requests, answer)

    async def _compute_canary(self, requests: Sequence[InferRequest]) -> list[Answer]:
        """Answer with the candidate; where it fails the live version answers, and it is called off.

        What the live version cannot answer either is the fault of the rows.
        """
        slot, x = self._candidate.slot, _rows_of(requests)
        if slot is None:
            return await self._compute_batch(requests)
        said = await self._candidate.ask(slot, x)
        if isinstance(said, str):
            answers = await self._compute_batch(requests)
            if all(np.isfinite(answer.output).all() for answer in answers):
                self._call_off(slot, said, len(x))
            return answers
        answer = Answer(said[0], *said, slot.version, slot.hash)
        self._metrics.batch(len(x))
        self._metrics.tried("answered", len(x))
        self._begin(self._pair(self._rows(requests, x, answer).predictions()))
        return _parts_of(requests, answer)

    def _call_off(self, slot: Slot, why: str, rows: int) -> None:
        self._candidate.call_off(slot, why)
        self._metrics.tried("failed", rows)

    def _rows(self, requests: Sequence[InferRequest], x: FloatArray, answer: Answer) -> Answered:
        ids = [request.row_ids for request in requests]
        return Answered(ids, time.time(), x, answer, self._answered(answer))

    def _offer(self, requests: Sequence[InferRequest], x: FloatArray, answer: Answer) -> None:
        """Put the rows that were answered on the tap; rows without a finite answer were not."""
        if not self._taps:
            return
        if not self._sampling.keeps(len(x), x.nbytes + answer.nbytes, time.monotonic()):
            self._metrics.left_out(len(x))
            return
        slot = self._candidate.slot
        if slot is None and not self._models.compares and np.isfinite(answer.output).all():
            self._tap.offer(self._rows(requests, x, answer))
            return
        rows = self._rows(requests, x, answer).predictions()
        finite: NDArray[np.bool_] = np.asarray(np.isfinite(answer.output).all(axis=1))
        if not finite.any():
            return
        falls = None if slot is None else self._shadowed(requests)[finite]
        if not finite.all():
            rows = rows.take(finite)
        if slot is not None and falls is not None and falls.any():
            self._begin(self._shadow(rows, falls, slot))
        elif self._models.compares and self._former.allows(time.monotonic()):
            self._begin(self._compare(rows))
        elif self._models.compares:
            self._tap.offer(replace(rows, beside=np.full(len(rows), PASSED_OVER)))
        else:
            self._tap.offer(rows)

    def _shadowed(self, requests: Sequence[InferRequest]) -> NDArray[np.bool_]:
        """Return (n,) which rows a shadow is to be asked; none while it is busy with others."""
        counts = [len(r.x) for r in requests]
        falls = np.repeat([self._candidate.shadows(r.id) for r in requests], counts)
        if self._shadowing and falls.any():
            self._metrics.tried("dropped", int(falls.sum()))
            return np.zeros(len(falls), np.bool_)
        return falls

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._comparing.add(task)
        task.add_done_callback(self._comparing.discard)

    async def _shadow(self, rows: Predictions, falls: NDArray[np.bool_], slot: Slot) -> None:
        """Put rows on the tap, some with what a shadow would have answered."""
        self._shadowing = True
        try:
            said = await self._candidate.ask(slot, rows.x[falls])
        finally:
            self._shadowing = False
        if isinstance(said, str):
            self._call_off(slot, said, int(falls.sum()))
        else:
            self._metrics.tried("asked", int(falls.sum()))
            rows = with_answers(rows, falls, said[0], slot.version)
        self._tap.offer(rows)

    async def _pair(self, rows: Predictions) -> None:
        """Put a canary's rows on the tap with what the live version would have answered."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(Exception):  # whatever the user's model raises
            live = await loop.run_in_executor(self._compute, self._models.predict, rows.x)
            rows = with_answers(rows, np.ones(len(rows), np.bool_), live.alone, live.version)
        self._tap.offer(rows)

    def _answered(self, answer: Answer) -> TargetArray | None:
        """Return what was answered, where the model's own output does not tell."""
        if self._numbers:
            return answer.output
        return answer.output.argmax(axis=1) if answer.labels else None

    async def _compare(self, rows: Predictions) -> None:
        """Put rows on the tap with what the version before would have answered."""
        loop, version = asyncio.get_running_loop(), int(rows.version[0])

        def ask() -> TargetArray | None:
            begun = time.thread_time()
            try:
                return self._models.former(rows.x, version)
            finally:
                loop.call_soon_threadsafe(self._former.spend, time.thread_time() - begun)

        former = None
        with contextlib.suppress(Exception):  # whatever the user's model raises
            former = await loop.run_in_executor(self._compute, ask)
        self._tap.offer(rows if former is None else replace(rows, former=former))


def _rows_of(requests: Sequence[InferRequest]) -> FloatArray:
    """Return the (n, *input_shape) rows of all requests."""
    return requests[0].x if len(requests) == 1 else np.concatenate([r.x for r in requests])


def _parts_of(requests: Sequence[InferRequest], answer: Answer) -> list[Answer]:
    """Return each request's part of the answer to all."""
    if len(requests) == 1:
        return [answer]
    ends = np.cumsum([0, *(len(r.x) for r in requests)])
    return [answer.rows(slice(*part)) for part in itertools.pairwise(ends)]
