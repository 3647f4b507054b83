"""Where the workers of a job get their plan: what it knows is in the state."""

from __future__ import annotations

from pathlib import Path

import pytest

from undrift.store.runs import JOB, JOBS, OUTCOME, PROGRESS, TrainingFolder
from undrift.train import desk as module
from undrift.train.desk import Desk, goes_on

RUN, OURS = "run-1", f"{JOBS}m-run-1-1"


@pytest.fixture
def folder(tmp_path: Path) -> TrainingFolder:
    folder = TrainingFolder(tmp_path, RUN)
    folder.plan(lambda: {"steps": 7})
    folder.tell(JOB, {"attempt": 1, "job": OURS})
    return folder


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path, RUN, OURS)


def test_plan_is_given_until_there_is_an_outcome_also_by_one_that_came_anew(
    tmp_path: Path, folder: TrainingFolder, desk: Desk
) -> None:
    assert desk.next_plan("s", 0) == {"steps": 7, "index": 0}
    assert desk.next_plan("s", 1) is None
    assert Desk(tmp_path, RUN, OURS).next_plan("s", 0) == {"steps": 7, "index": 0}
    desk.finish(0, {"version": 2})
    assert Desk(tmp_path, RUN, OURS).next_plan("s", 0) is None
    assert folder.told(OUTCOME) == {"version": 2}


def test_progress_is_written_now_and_then(
    monkeypatch: pytest.MonkeyPatch, folder: TrainingFolder, desk: Desk
) -> None:
    assert [desk.note(RUN, {"step": step}) for step in (1, 2)] == [False, False]
    assert folder.told(PROGRESS) == {"step": 1}
    monkeypatch.setattr(module, "TELL_S", 0.0)
    desk._due = 0.0
    desk.note(RUN, {"step": 3})
    assert folder.told(PROGRESS) == {"step": 3}


def test_run_that_is_forgotten_is_given_up_and_nothing_is_written_any_more(
    tmp_path: Path, folder: TrainingFolder, desk: Desk
) -> None:
    assert not desk.cancelled(RUN)
    folder.remove()
    assert desk.cancelled(RUN)
    assert desk.note(RUN, {"step": 1})
    desk.finish(0, {"version": 2})
    assert desk.next_plan("s", 0) is None
    assert not (tmp_path / "training" / RUN).exists()


def test_run_that_has_another_job_is_given_up(folder: TrainingFolder, desk: Desk) -> None:
    folder.tell(JOB, {"attempt": 2, "job": "another"})
    assert desk.note(RUN, {"step": 1})
    desk.finish(0, {"error": "given up"})
    assert [folder.told(name) for name in (PROGRESS, OUTCOME)] == [None, None]
    assert goes_on(folder, "another")


def test_what_a_job_wrote_too_late_goes_with_the_next_run(tmp_path: Path) -> None:
    late = tmp_path / "training" / RUN / OURS
    late.mkdir(parents=True)
    session = tmp_path / "training" / "0123456789ab"
    session.mkdir()
    TrainingFolder(tmp_path, "run-2").plan(dict)
    TrainingFolder.remove_others(tmp_path, {"run-2"})
    assert sorted(p.name for p in (tmp_path / "training").iterdir()) == [session.name, "run-2"]
