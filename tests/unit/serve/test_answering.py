"""Answers, and what of them goes to the monitor."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import torch
from torch import nn

from undrift.records import PASSED_OVER
from undrift.serve import answering as module
from undrift.serve.answering import Answering
from undrift.serve.candidate import Candidate
from undrift.serve.metrics import ReplicaMetrics
from undrift.serve.protocol import InferRequest
from undrift.serve.settings import ServeSettings, TapSettings
from undrift.serve.slots import DoubleBuffer
from undrift.serve.tap import Tap

ROWS = np.ones((3, 2), np.float32)


@pytest.mark.parametrize(("room", "offered"), [(16, 3), (2, 3), (0, 0)])
def test_a_tap_without_room_drops_and_one_of_no_room_is_offered_nothing(
    room: int, offered: int
) -> None:
    async def run() -> None:
        models = DoubleBuffer(lambda: nn.Sequential(nn.Linear(2, 2)))
        weights = {"0.weight": torch.zeros(2, 2), "0.bias": torch.zeros(2)}
        models.load(1, "h", weights, ROWS)
        settings = ServeSettings(tap=TapSettings(max_rows=room))
        tap = Tap(settings.tap)
        parts = models, Candidate(models, 1.0), tap, ReplicaMetrics("m"), settings
        answering = Answering(*parts, numbers=False)
        deadline = asyncio.get_running_loop().time() + 30
        answer = await answering.infer(InferRequest("a", ROWS, ()), deadline)
        np.testing.assert_allclose(answer.output, 0.5)
        assert (tap.rows_offered, len(tap)) == (offered, offered if room >= 3 else 0)

    asyncio.run(run())


def test_rows_beyond_those_that_are_watched_are_answered_and_counted() -> None:
    async def run() -> None:
        models = DoubleBuffer(lambda: nn.Sequential(nn.Linear(2, 2)))
        weights = {"0.weight": torch.zeros(2, 2), "0.bias": torch.zeros(2)}
        models.load(1, "h", weights, ROWS)
        settings = ServeSettings(tap=TapSettings(rows_per_s=1))
        tap, metrics = Tap(settings.tap), ReplicaMetrics("m")
        answering = Answering(models, Candidate(models, 1.0), tap, metrics, settings, numbers=False)
        deadline = asyncio.get_running_loop().time() + 30
        for i in range(100):
            answer = await answering.infer(InferRequest(f"a{i}", ROWS, ()), deadline)
            np.testing.assert_allclose(answer.output, 0.5)
        family = metrics.snapshot()["undrift_tap_left_out_rows"]
        (left_out,) = family.samples.values()
        assert left_out + tap.rows_offered == 3 * 100
        assert 0 < tap.rows_offered < 3 * 50

    asyncio.run(run())


@pytest.mark.parametrize("saved_s", [0.0, 100.0])
def test_the_version_before_is_asked_as_long_as_it_has_time(
    saved_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FORMER_SAVED_S", saved_s)

    async def run() -> None:
        models = DoubleBuffer(lambda: nn.Sequential(nn.Linear(2, 2)))
        for version, bias in ((1, [1.0, 0.0]), (2, [0.0, 1.0])):
            weights = {"0.weight": torch.zeros(2, 2), "0.bias": torch.tensor(bias)}
            models.load(version, "h", weights, ROWS)
        settings = ServeSettings()
        tap, metrics = Tap(settings.tap), ReplicaMetrics("m")
        answering = Answering(models, Candidate(models, 1.0), tap, metrics, settings, numbers=False)
        deadline = asyncio.get_running_loop().time() + 30
        for i in range(20):
            await answering.infer(InferRequest(f"a{i}", ROWS, ()), deadline)
        while tap.rows_offered < 60:
            await asyncio.sleep(0.001)
        rows = tap.take(1_000)
        assert rows is not None
        assert (rows.answers == 1).all()
        if saved_s:
            assert (rows.formers == 0).all()
            assert (rows.asked == 0).all()
        else:
            assert (rows.formers == -1).all()
            assert (rows.asked == PASSED_OVER).all()

    asyncio.run(run())
