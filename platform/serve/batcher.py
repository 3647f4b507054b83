"""Forming batches out of requests that come one by one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from undrift.errors import RequestError

Item = TypeVar("Item")
Result = TypeVar("Result")

_SMOOTHING = 0.1


@dataclass(slots=True, eq=False)
class _Entry(Generic[Item, Result]):
    item: Item
    rows: int
    answer: asyncio.Future[Result]


class Batcher(Generic[Item, Result]):
    """Computes waiting requests together, one batch at a time.

    While a batch is computed, the next one gathers. An idle model takes what there is at once,
    unless requests come so fast that waiting for the next is cheaper for those that wait than a
    batch of its own would be: with ``k`` waiting, a mean gap of ``g`` between requests and a mean
    time of ``c`` for a batch, as long as ``k * g < c``, and never longer than ``max_wait_s``.

    A request whose deadline passes, or whose caller goes away, is not computed if it still waits.

    Args:
        compute: Answers items, one result for each; called by one batch at a time.
        max_rows: Rows computed together at most, unless one item alone has more.
        max_wait_s: Longest that a request waits for others, in seconds.
    """

    def __init__(
        self,
        compute: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        max_rows: int,
        max_wait_s: float,
    ) -> None:
        self._compute = compute
        self._max_rows, self._max_wait_s = max_rows, max_wait_s
        self._waiting: deque[_Entry[Item, Result]] = deque()
        self._arrived = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._last, self._gap, self._cost = 0.0, 1.0, 0.0  # seconds

    def __len__(self) -> int:
        """Requests that wait, for the model or for others."""
        return len(self._waiting)

    async def submit(self, item: Item, rows: int, deadline: float) -> Result:
        """Return the result for one item.

        Args:
            item: What to compute.
            rows: How many rows it has.
            deadline: Time of the event loop after which nobody wants the result any more.

        Raises:
            RequestError: 504, the deadline passed.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._gap += _SMOOTHING * (min(now - self._last, 1.0) - self._gap)
        self._last = now
        entry: _Entry[Item, Result] = _Entry(item, rows, loop.create_future())
        timer = loop.call_at(deadline, _expire, entry.answer)
        self._waiting.append(entry)
        self._arrived.set()
        if self._worker is None or self._worker.done():
            self._worker = loop.create_task(self._work())
        try:
            return await entry.answer
        finally:
            timer.cancel()

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            await self._gather()
            batch = self._take()
            started = loop.time()
            await self._answer(batch)
            self._cost += _SMOOTHING * (loop.time() - started - self._cost)

    async def _gather(self) -> None:
        """Wait for more requests as long as it pays."""
        loop = asyncio.get_running_loop()
        limit = loop.time() + self._max_wait_s
        while sum(entry.rows for entry in self._waiting) < self._max_rows:
            patience = min(self._cost / len(self._waiting), limit - loop.time())
            if self._gap >= patience:
                return
            self._arrived.clear()
            try:
                async with asyncio.timeout(patience):
                    await self._arrived.wait()
            except TimeoutError:
                return

    def _take(self) -> list[_Entry[Item, Result]]:
        """Remove the requests of the next batch, in order of arrival."""
        batch: list[_Entry[Item, Result]] = []
        rows = 0
        while self._waiting:
            entry = self._waiting[0]
            wanted = not entry.answer.done()
            if wanted and batch and rows + entry.rows > self._max_rows:
                break
            self._waiting.popleft()
            if wanted:
                batch.append(entry)
                rows += entry.rows
        return batch

    async def _answer(self, batch: list[_Entry[Item, Result]]) -> None:
        if not batch:
            return
        try:
            results = await self._compute([entry.item for entry in batch])
        except Exception as error:
            if len(batch) == 1:
                if not batch[0].answer.done():
                    batch[0].answer.set_exception(error)
                return
            for entry in batch:  # what is wrong with one must not be the others' loss
                await self._answer([entry])
            return
        for entry, result in zip(batch, results, strict=True):
            if not entry.answer.done():
                entry.answer.set_result(result)


def _expire(answer: asyncio.Future[Result]) -> None:
    if not answer.done():
        answer.set_exception(RequestError("the deadline passed before there was an answer", 504))
