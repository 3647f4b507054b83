from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from undrift.errors import RequestError
from undrift.serve.batcher import Batcher

FAR = 1e9


class Model:
    """Doubles numbers, one batch at a time, when it is let; remembers the batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.free = asyncio.Event()
        self.free.set()

    async def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        await self.free.wait()
        if 13 in items:
            raise RequestError("not that one", 500)
        return [2 * item for item in items]


def run(
    story: Callable[[Model, Batcher[int, int]], Awaitable[None]], max_wait_s: float = 0.0
) -> Model:
    async def main() -> Model:
        model = Model()
        await asyncio.wait_for(story(model, Batcher(model, 4, max_wait_s)), 10)
        return model

    return asyncio.run(main())


async def begin(batcher: Batcher[int, int], *items: int, rows: int = 1) -> list[asyncio.Task[int]]:
    """Submit items in order, and let the model start on what it may."""
    tasks = [asyncio.create_task(batcher.submit(item, rows, FAR)) for item in items]
    for _ in range(5):
        await asyncio.sleep(0)
    return tasks


def test_idle_model_computes_a_request_at_once() -> None:
    async def story(model: Model, batcher: Batcher[int, int]) -> None:
        assert await batcher.submit(1, 1, FAR) == 2
        assert await batcher.submit(2, 1, FAR) == 4

    assert run(story, max_wait_s=FAR).batches == [[1], [2]]


def test_requests_gather_while_a_batch_is_computed() -> None:
    async def story(model: Model, batcher: Batcher[int, int]) -> None:
        model.free.clear()
        first, later = await begin(batcher, 1), [*await begin(batcher, 2), *await begin(batcher, 3)]
        model.free.set()
        assert await asyncio.gather(*first, *later) == [2, 4, 6]

    assert run(story).batches == [[1], [2, 3]]


def test_batch_holds_no_more_rows_than_allowed_and_keeps_order() -> None:
    async def story(model: Model, batcher: Batcher[int, int]) -> None:
        model.free.clear()
        first = await begin(batcher, 1)
        later = await begin(batcher, 2, 3, 4, rows=2)
        model.free.set()
        assert await asyncio.gather(*first, *later) == [2, 4, 6, 8]

    assert run(story).batches == [[1], [2, 3], [4]]


def test_request_larger_than_a_batch_is_computed_alone() -> None:
    async def story(model: Model, batcher: Batcher[int, int]) -> None:
        model.free.clear()
        first = await begin(batcher, 1)
        later = [*await begin(batcher, 2, rows=9), *await begin(batcher, 3)]
        model.free.set()
        assert await asyncio.gather(*first, *later) == [2, 4, 6]

    assert run(story).batches == [[1], [2], [3]]


def test_request_past_its_deadline_is_answered_504_and_not_computed() -> None:
    async def story(model: Model, batcher: Batcher[int, int]) -> None:
        model.free.clear()
        first = await begin(batcher, 1)
        with pytest.raises(RequestError, match="deadline") as caught:
            await batcher.submit(2, 1, asyncio.get_running_loop().time() + 0.001)
        assert caught.value.status == 504
        assert not first[0].done()
        model.free.set()
        assert await first[0] == 2
        assert await batcher.submit(3, 1, FAR) == 6

    assert run(story).batches == [[1], [3]]


def test_request_whose_caller_went_away_is_not_computed() -> None:
    async def story(model: Model, batcher: Batcher[int, int]) -> None:
        model.free.clear()
        first, gone = await begin(batcher, 1), await begin(batcher, 2)
        gone[0].cancel()
        model.free.set()
        assert await first[0] == 2
        assert await batcher.submit(3, 1, FAR) == 6

    assert run(story).batches == [[1], [3]]


def test_failure_over_one_request_is_not_the_others_loss() -> None:
    async def story(model: Model, batcher: Batcher[int, int]) -> None:
        model.free.clear()
        first, later = await begin(batcher, 1), await begin(batcher, 2, 13, 3)
        model.free.set()
        results = await asyncio.gather(*first, *later, return_exceptions=True)
        assert [r for r in results if isinstance(r, int)] == [2, 4, 6]
        assert isinstance(results[2], RequestError)

    assert run(story).batches == [[1], [2, 13, 3], [2], [13], [3]]


def test_fast_requests_to_a_slow_model_wait_for_each_other() -> None:
    """Each batch costs far more than the gap to the next request: a full batch comes together."""

    async def story(model: Model, batcher: Batcher[int, int]) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(60):  # the model turns out to be slow, and the requests many
            model.free.clear()
            tasks = await begin(batcher, 1, 1, 1, 1)
            loop.call_later(0.01, model.free.set)
            await asyncio.gather(*tasks)
        model.batches.clear()
        tasks = await begin(batcher, 1)
        assert model.batches == []
        tasks += await begin(batcher, 2, 3, 4)
        assert await asyncio.gather(*tasks) == [2, 4, 6, 8]

    assert run(story, max_wait_s=FAR).batches == [[1, 2, 3, 4]]
