"""A version that is tried beside the live one: who falls to it, and what comes of its faults."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from undrift.errors import ModelError
from undrift.records import Assignment, Predictions
from undrift.serve.answering import Answering
from undrift.serve.candidate import Candidate, drawn, with_answers
from undrift.serve.metrics import ReplicaMetrics, exposition
from undrift.serve.protocol import InferRequest
from undrift.serve.room import check_room
from undrift.serve.settings import ReplicaSettings, TapSettings
from undrift.serve.slots import Answer, DoubleBuffer
from undrift.serve.tap import Tap

PROBE = np.zeros((2, 2), np.float32)
SETTINGS = ReplicaSettings(batch_wait_ms=0.0)


class Moody(nn.Sequential):
    """Answers the likeliest class that its bias names; goes wrong on rows that are not zero."""

    hold: threading.Event | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mood = float(self[0].bias.max())
        if x.any():
            if mood == 7:
                raise RuntimeError("out of sorts")
            if mood == 8:
                return super().forward(x) * torch.nan  # type: ignore[no-any-return]
            if mood == 9:
                assert Moody.hold is not None
                Moody.hold.wait(30)
            if x.max() > 100:
                raise ValueError("nobody can answer that")
            if x.min() < -100:
                return super().forward(x) * torch.nan  # type: ignore[no-any-return]
        return super().forward(x)  # type: ignore[no-any-return]


def weights(mood: float) -> dict[str, torch.Tensor]:
    bias = torch.tensor([0.0, mood] if mood > 0 else [1.0, 0.0])
    return {"0.weight": torch.zeros(2, 2), "0.bias": bias}


class Served:
    """One replica's answering, version 1 live and version 2 tried."""

    def __init__(self, mood: float, *, numbers: bool = False) -> None:
        self.models = DoubleBuffer(lambda: Moody(nn.Linear(2, 2)), max_slowdown=1e9)
        self.models.load(1, "h1", weights(0), PROBE)
        self.candidate = Candidate(self.models, patience_s=0.2)
        self.tap, self.metrics = Tap(TapSettings()), ReplicaMetrics("m")
        self.slot = self.models.load_beside(2, "h2", weights(mood), PROBE)
        about = (self.models, self.candidate, self.tap, self.metrics, SETTINGS)
        self.answering = Answering(*about, numbers=numbers)

    def hold(self, assignment: Assignment) -> None:
        self.candidate.hold("run-1", assignment, self.slot)

    async def ask(self, name: str, value: float = 1.0, *, pinned: bool = False) -> Answer:
        x = np.full((1, 2), value, np.float32)
        deadline = asyncio.get_running_loop().time() + 30
        return await self.answering.infer(InferRequest(name, x, (), pinned=pinned), deadline)

    async def rows(self) -> Predictions:
        """Return what came to the tap, when nothing is compared any more."""
        while self.answering._comparing:
            await asyncio.sleep(0.001)
        found = self.tap.take(10_000)
        assert found is not None
        return found


def serving(mood: float, body: Callable[[Served], Awaitable[None]]) -> None:
    async def run() -> None:
        await asyncio.wait_for(body(Served(mood)), 60)

    asyncio.run(run())


@settings(deadline=None, derandomize=True, database=None)
@given(st.text(max_size=40), st.integers(1, 10**6), st.floats(0, 1), st.floats(0, 1))
def test_who_is_in_a_small_share_is_in_every_larger_one(
    name: str, version: int, one: float, other: float
) -> None:
    small, large = sorted((one, other))
    place = drawn(name, version)
    assert 0 <= place < 1
    assert place == drawn(name, version)
    assert not place < small or place < large


def test_shares_hold_and_versions_draw_others() -> None:
    names = [f"order-{i}" for i in range(20_000)]
    second, third = (np.array([drawn(name, v) for name in names]) for v in (2, 3))
    for share in (0.05, 0.25, 0.5):
        assert abs((second < share).mean() - share) < 0.01
    assert abs(((second < 0.5) & (third < 0.5)).mean() - 0.25) < 0.01


def test_a_shadow_answers_nobody_and_its_answers_are_kept() -> None:
    async def body(served: Served) -> None:
        served.hold(Assignment(1, shadow=2, share=0.5))
        for i in range(60):
            assert (await served.ask(f"n{i}")).version == 1
            while served.answering._comparing:
                await asyncio.sleep(0.001)
        rows = await served.rows()
        falls = np.array([drawn(name, 2) < 0.5 for name in rows.ids])
        assert rows.version.tolist() == [1] * 60
        assert (rows.asked == np.where(falls, 2, 0)).all()
        assert (rows.formers == np.where(falls, 1, -1)).all()
        assert (rows.answers == 0).all()

    serving(1, body)


def test_a_canary_answers_its_share_and_no_request_that_names_its_version() -> None:
    async def body(served: Served) -> None:
        served.hold(Assignment(1, canary=2, share=0.25))
        names = [f"n{i}" for i in range(80)]
        answers = [await served.ask(name) for name in names]
        falls = [drawn(name, 2) < 0.25 for name in names]
        assert [a.version == 2 for a in answers] == falls
        assert 5 < sum(falls) < 40
        assert [a.hash == "h2" for a in answers] == falls
        rows = await served.rows()
        assert len(rows) == 80
        for name, version, asked, former in zip(
            rows.ids, rows.version, rows.asked, rows.formers, strict=True
        ):
            expected = (2, 1, 0) if drawn(name, 2) < 0.25 else (1, 0, -1)
            assert (version, asked, former) == expected
        chosen = names[falls.index(True)]
        assert (await served.ask(chosen, pinned=True)).version == 1

    serving(1, body)


@pytest.mark.parametrize(
    ("mood", "why"), [(7, "out of sorts"), (8, "not finite"), (9, "no answer within 0.2 s")]
)
@pytest.mark.parametrize("stage", ["shadow", "canary"])
def test_a_version_that_fails_is_asked_no_more_and_everybody_has_an_answer(
    mood: float, why: str, stage: str
) -> None:
    Moody.hold = threading.Event()

    async def body(served: Served) -> None:
        served.hold(Assignment(1, **{stage: 2}, share=1.0))
        assert {(await served.ask(f"n{i}")).version for i in range(5)} == {1}
        rows = await served.rows()
        assert why in served.candidate.fault
        assert (len(rows), set(rows.version.tolist()), set(rows.asked.tolist())) == (5, {1}, {0})
        served.hold(Assignment(1, **{stage: 2}, share=1.0))
        assert served.candidate.slot is None, "the same rollout does not try it again"
        served.candidate.hold("run-2", Assignment(1, **{stage: 2}, share=1.0), served.slot)
        assert served.candidate.slot is not None
        page = exposition([served.metrics.snapshot()]).decode()
        assert 'undrift_candidate_rows_total{model="m",outcome="failed"} 1.0' in page

    try:
        serving(mood, body)
    finally:
        Moody.hold.set()


def test_rows_that_the_live_version_cannot_answer_either_call_nobody_off() -> None:
    async def body(served: Served) -> None:
        served.hold(Assignment(1, canary=2, share=1.0))
        with pytest.raises(Exception, match="nobody can answer that"):
            await served.ask("n", 1e3)
        assert np.isnan((await served.ask("n", -1e3)).output).all()
        assert served.candidate.fault == ""
        assert (await served.ask("n")).version == 2

    serving(1, body)


def test_a_shadow_that_is_busy_lets_rows_go_and_counts_them() -> None:
    Moody.hold = threading.Event()

    async def body(served: Served) -> None:
        served.candidate._patience_s = 30
        served.hold(Assignment(1, shadow=2, share=1.0))
        for i in range(4):
            await served.ask(f"n{i}")
        Moody.hold.set()
        rows = await served.rows()
        assert sorted(rows.asked.tolist()) == [0, 0, 0, 2]
        page = exposition([served.metrics.snapshot()]).decode()
        assert 'undrift_candidate_rows_total{model="m",outcome="dropped"} 3.0' in page

    serving(9, body)


def test_numbers_of_both_are_kept() -> None:
    rows = Predictions(
        ids=("a", "b"),
        row=np.zeros(2, np.int64),
        at=np.zeros(2),
        version=np.ones(2, np.int64),
        x=PROBE,
        embedding=PROBE,
        output=np.float32([[1.0], [2.0]]),
        answered=np.float32([[1.0], [2.0]]),
    )
    found = with_answers(rows, np.array([False, True]), np.float32([[5.0]]), 2)
    assert np.isnan(found.formers[0, 0])
    assert (found.formers[1, 0], found.asked.tolist()) == (5.0, [0, 2])
    both = Predictions.concat([rows, found])
    assert both.asked.tolist() == [0, 0, 0, 2]


def test_a_version_that_would_not_fit_is_refused_in_one_sentence() -> None:
    check_room(2, 500_000, available=1_000_000)
    with pytest.raises(ModelError, match=r"version 2 takes about 1\.0 MB .* 0\.9 MB of memory"):
        check_room(2, 500_000, available=900_000)
