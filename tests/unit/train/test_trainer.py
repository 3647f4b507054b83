"""The trainer's actor in this process, without Ray."""

from __future__ import annotations

import asyncio
import json
import stat
import time
from pathlib import Path
from typing import cast

import pytest

from tests.helpers.recording import two_versions
from undrift.errors import TrainingError
from undrift.events import Codec, Train
from undrift.model.settings import ModelSettings
from undrift.train import actor as module
from undrift.train.actor import SESSION_FILE, TrainerActor
from undrift.train.settings import TrainSettings


async def start(state: Path) -> TrainerActor:
    model = cast("ModelSettings", None)  # only a session needs it
    return TrainerActor(state, TrainSettings(), model, state, 100, mixed=False)


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"placement_group": 3}'])
def test_damaged_record_of_a_session_counts_as_none_with_a_word(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    asyncio.run(start(tmp_path / "state"))
    record = tmp_path / "state" / SESSION_FILE
    record.write_text(damage, encoding="utf-8")
    asyncio.run(start(tmp_path / "state"))
    assert not record.exists()
    assert "training.json is damaged" in caplog.text


@pytest.mark.parametrize("hangs", [True, False])
def test_trainer_ends_where_the_workers_of_a_cancelled_run_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(module, "CANCEL_S", 0.01)
    monkeypatch.setattr(module.os, "_exit", ended.append)

    async def body() -> None:
        trainer = await start(tmp_path / "state")
        monkeypatch.setattr(trainer, "stage", lambda: None)  # the workers are this test
        for number, run_id in enumerate(("run-1", "run-2")):
            order = Codec.encode(Train(run_id=run_id, base_version=1, until_row=0))
            task = asyncio.create_task(trainer.train(order))
            while run_id not in trainer._outcomes:
                await asyncio.sleep(0.01)
            trainer.cancel(run_id)
            with pytest.raises(TrainingError, match="was cancelled"):
                await task
            if not hangs:
                trainer.finish(number, {"error": "cancelled"})
        await asyncio.sleep(0.1)

    two_versions(tmp_path / "state")
    asyncio.run(body())
    assert bool(ended) == hangs


def test_trainer_serves_plans_in_turn_and_keeps_nothing_of_those_that_are_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        trainer = await start(tmp_path / "state")
        monkeypatch.setattr(trainer, "stage", lambda: None)  # the workers are this test
        trainer._session = "s"
        runs = [f"run-{n}" for n in range(6)]
        tasks = []
        for run_id in runs:
            order = Codec.encode(Train(run_id=run_id, base_version=1, until_row=0))
            tasks.append(asyncio.create_task(trainer.train(order)))
            while run_id not in trainer._outcomes:
                await asyncio.sleep(0.01)
        trainer.cancel(runs[3])
        for number, run_id in enumerate(runs):
            plan = await trainer.next_plan("s", number)
            assert plan is not None
            assert (plan["index"], plan["run_id"]) == (number, run_id)
            assert await trainer.next_plan("s", 0) == plan  # to a worker that came anew
            trainer.note(run_id, {"step": 1})
            trainer.finish(number, {"version": number})
            trainer.finish(number, {"version": number})  # told again
        told = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(told.pop(3), TrainingError)
        assert [outcome["version"] for outcome in told] == [0, 1, 2, 4, 5]
        kept = (trainer._plans, trainer._outcomes, trainer._cancelled, trainer._progress)
        assert not any(kept)

    two_versions(tmp_path / "state")
    asyncio.run(body())


@pytest.mark.parametrize("hour", [3600.0, -3600.0])
def test_clock_that_jumps_ends_no_session_and_keeps_no_worker_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hour: float
) -> None:
    wall = time.time
    monkeypatch.setattr(module, "LONG_POLL_S", 0.2)

    async def body() -> list[object]:
        trainer = await start(tmp_path / "state")
        trainer._session = "s"
        poll = asyncio.create_task(trainer.next_plan("s", 0))
        await asyncio.sleep(0)
        monkeypatch.setattr(time, "time", lambda: wall() + hour)
        polls = poll, trainer.next_plan("s", 0)
        return [await asyncio.wait_for(each, 20) for each in polls]

    assert asyncio.run(body()) == [{}, {}]


def test_record_of_a_session_is_written_whole_beside_what_only_its_owner_reads(
    tmp_path: Path,
) -> None:
    async def body() -> None:
        (await start(tmp_path / "state")).join("s", "ab" * 18)

    asyncio.run(body())
    state = tmp_path / "state"
    assert json.loads((state / SESSION_FILE).read_text())["session"] == "s"
    assert not list(state.glob(".tmp-*"))
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
