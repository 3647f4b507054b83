"""What an interrupted retraining finds when it is begun again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import undrift.store.runs
from tests.helpers.retraining import SETTINGS, World, plan, world
from undrift.errors import StoreError
from undrift.store.runs import TrainingFolder
from undrift.train.attempt import attempt
from undrift.train.result import Progress
from undrift.train.trainee import Trainee

TASK = {"plan": {"seed": 1}, "settings": {"steps": 10}}


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(undrift.store.runs, "_EVERY_S", 0.0)
    monkeypatch.setattr(undrift.store.runs, "_DEAR", 0.0)


@pytest.fixture
def folder(tmp_path: Path) -> TrainingFolder:
    folder = TrainingFolder(tmp_path, "run-1")
    folder.plan(dict)
    return folder


def state(step: int) -> dict[str, Any]:
    return {"step": step, "model": {"w": torch.full((3,), float(step))}, "rng": 2**100 + step}


def test_state_comes_back_as_it_was_offered_last(folder: TrainingFolder) -> None:
    kept = folder.checkpoint(0, TASK, writes=True)
    assert kept.load() is None
    kept.offer(lambda: state(1))
    kept.offer(lambda: state(2))
    found = folder.checkpoint(0, TASK, writes=False).load()
    assert found is not None
    assert (found["step"], found["rng"]) == (2, 2**100 + 2)
    assert torch.equal(found["model"]["w"], torch.full((3,), 2.0))


def test_only_the_first_worker_writes(folder: TrainingFolder) -> None:
    folder.checkpoint(0, TASK, writes=False).offer(lambda: state(1))
    assert folder.checkpoint(0, TASK, writes=True).load() is None


def test_state_of_other_settings_or_of_the_other_training_is_left_alone(
    folder: TrainingFolder,
) -> None:
    folder.checkpoint(0, TASK, writes=True).offer(lambda: state(1))
    other = {**TASK, "settings": {"steps": 20}}
    assert folder.checkpoint(0, other, writes=True).load() is None
    assert folder.checkpoint(1, TASK, writes=True).load() is None


def test_rounds_that_follow_soon_are_not_written(
    folder: TrainingFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(undrift.store.runs, "_EVERY_S", 3600.0)
    kept = folder.checkpoint(0, TASK, writes=True)
    kept.offer(lambda: state(1))
    assert kept.load() is None


def test_a_write_that_took_long_is_not_repeated_soon(
    folder: TrainingFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(undrift.store.runs, "_DEAR", 1e9)
    kept = folder.checkpoint(0, TASK, writes=True)
    kept.offer(lambda: state(1))
    kept.offer(lambda: state(2))
    found = kept.load()
    assert found is not None
    assert found["step"] == 1


def test_damaged_checkpoint_is_named(folder: TrainingFolder, tmp_path: Path) -> None:
    path = tmp_path / "training" / "run-1" / "0.pt"
    path.write_bytes(b"no checkpoint")
    with pytest.raises(StoreError, match=r"run-1/0\.pt is damaged"):
        folder.checkpoint(0, TASK, writes=True).load()


def test_disk_that_refuses_does_not_end_the_training(
    folder: TrainingFolder, tmp_path: Path
) -> None:
    (tmp_path / "training" / "run-1" / "0.pt").mkdir()
    folder.checkpoint(0, TASK, writes=True).offer(lambda: state(1))
    assert not list((tmp_path / "training" / "run-1" / "0.pt").iterdir())


def test_run_that_was_forgotten_while_it_trains_leaves_nothing(
    folder: TrainingFolder, tmp_path: Path
) -> None:
    kept = folder.checkpoint(0, TASK, writes=True)
    folder.remove()
    kept.offer(lambda: state(1))
    assert kept.load() is None
    assert not list((tmp_path / "training").iterdir())


def test_run_asked_for_again_keeps_its_plan_until_it_is_removed(tmp_path: Path) -> None:
    first = TrainingFolder(tmp_path, "run-1").plan(lambda: {"until_row": 10})
    assert TrainingFolder(tmp_path, "run-1").plan(lambda: {"until_row": 20}) == first
    TrainingFolder(tmp_path, "run-1").remove()
    assert TrainingFolder(tmp_path, "run-1").plan(lambda: {"until_row": 20}) == {"until_row": 20}


def test_other_runs_are_forgotten_and_ray_sessions_are_not(tmp_path: Path) -> None:
    for run in ("run-1", "run-2"):
        TrainingFolder(tmp_path, run).plan(dict)
    (tmp_path / "training" / "session").mkdir()
    TrainingFolder.remove_others(tmp_path, {"run-2"})
    assert sorted(p.name for p in (tmp_path / "training").iterdir()) == ["run-2", "session"]


class KilledError(Exception):
    """What ends a run in the middle, as a kill would."""


@pytest.fixture(scope="module")
def small_world() -> World:
    return world()


def train(
    w: World, folder: TrainingFolder | None = None, until: int = 10**6
) -> tuple[Any, list[int]]:
    """Make a candidate, or die after ``until`` steps."""
    steps: list[int] = []

    def watch(progress: Progress) -> None:
        steps.append(progress.step)
        if progress.step >= until:
            raise KilledError

    made = attempt(
        Trainee(w.model),
        [1],
        lambda _: w.state,
        w.pool,
        w.reference,
        replace(plan(), run_id="run-1"),
        settings=SETTINGS,
        reference_rows=10,
        progress=watch,
        checkpoints=(lambda n: folder.checkpoint(n, TASK, writes=True)) if folder else None,
    )
    return made, steps


@pytest.mark.thorough
def test_candidate_of_an_interrupted_run_is_that_of_an_undisturbed_one(
    small_world: World, folder: TrainingFolder
) -> None:
    with pytest.raises(KilledError):
        train(small_world, folder, until=80)
    resumed, steps = train(small_world, folder)
    whole, _ = train(small_world)
    assert steps[0] == 80  # the round in which it died was not kept
    for name, tensor in whole.result.state_dict.items():
        assert torch.equal(tensor, resumed.result.state_dict[name])
    assert resumed.figures() == whole.figures()
