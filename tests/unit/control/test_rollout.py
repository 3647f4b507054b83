"""A rollout by stages as the lifecycle sees it: what leads to the next, and what ends it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import ValidationError

from tests.helpers.lifecycle import SETTINGS, run, scored
from undrift.control import snapshot
from undrift.control.hearing import heard, missed
from undrift.control.lifecycle import initial, step
from undrift.control.rollout import comparison
from undrift.control.settings import LifecycleSettings, RolloutSettings
from undrift.control.state import Phase, State
from undrift.control.story import Story
from undrift.errors import IllegalTransitionError
from undrift.events import (
    CandidateFailed,
    ComparisonPassed,
    Configured,
    Notify,
    PauseRequested,
    ProbationFailed,
    PromoteRequested,
    RetrainRequested,
    RollbackRequested,
    Swap,
    SwapFailed,
    Swapped,
    Tick,
    Trained,
)
from undrift.evidence import ComparisonReport, Level, ProbationReport
from undrift.records import Assignment

ROLLOUT = RolloutSettings(
    shadow_rows=50, shadow_share=0.5, canary_steps=(0.05, 0.25), canary_rows=80, stage_timeout_s=600
)
STAGED = SETTINGS.model_copy(update={"rollout": ROLLOUT})


def tried(settings: LifecycleSettings = STAGED, stage: int = 0) -> State:
    """Return a state in one of the stages of version 2."""
    state, _ = run(
        initial(settings, 1),
        scored(Level.DRIFT, at=100),
        Trained(at=103, run_id="run-1", version=2, accepted=True, reason="", regime_rows=500),
        *(ComparisonPassed(at=104 + i, run_id="run-1", step=i) for i in range(stage)),
    )
    return state


def told(done: list[object]) -> list[str]:
    return [i.text for i in done if isinstance(i, Notify)]


def test_a_good_candidate_goes_from_shadow_to_canary_to_larger_shares_to_the_swap() -> None:
    state, seen = tried(), []
    assert (state.phase, state.assignment) == (Phase.SHADOW, Assignment(1, shadow=2, share=0.5))
    for stage in range(3):
        seen.append(state.assignment)
        passed = ComparisonPassed(at=104, run_id="run-1", step=stage, detail="passed after 80")
        state, done = run(state, passed)
        assert "version 2 held up: passed after 80" in told(done)
    assert seen[1:] == [Assignment(1, canary=2, share=0.05), Assignment(1, canary=2, share=0.25)]
    assert (state.phase, state.assignment) == (Phase.SWAPPING, seen[-1]), "the canary answers on"
    state, _ = run(state, Swapped(at=110, run_id="run-1", version=2))
    assert (state.phase, state.assignment, state.previous) == (Phase.PROBATION, Assignment(2), 1)


def test_without_stages_a_candidate_is_swapped_at_once() -> None:
    assert tried(SETTINGS).phase == Phase.SWAPPING
    no_shadow = ROLLOUT.model_copy(update={"shadow_rows": 0})
    assert tried(SETTINGS.model_copy(update={"rollout": no_shadow})).phase == Phase.CANARY


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_bad_candidate_is_called_off_with_the_reason_and_a_back_off(stage: int) -> None:
    state, done = run(
        tried(stage=stage), CandidateFailed(at=120, run_id="run-1", reason="it answered NaN")
    )
    assert told(done) == ["run-1 (drift): version 2 called off: it answered NaN"]
    assert (state.phase, state.assignment, state.trial) == (Phase.DRIFT, Assignment(1), None)
    assert (state.run, state.attempts, state.not_before) == (None, 1, 124)
    assert not any(isinstance(i, Swap) for i in done), "the live version never stopped answering"


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_verdicts_of_other_stages_and_runs_change_nothing(stage: int) -> None:
    state = tried(stage=stage)
    for other in {0, 1, 2, 3} - {stage}:
        assert step(state, ComparisonPassed(at=120, run_id="run-1", step=other)).state is state
    assert step(state, CandidateFailed(at=120, run_id="run-9", reason="x")).state is state


@pytest.mark.parametrize(("without", "then"), [("call_off", Phase.DRIFT), ("go_on", Phase.CANARY)])
def test_a_stage_without_labels_ends_as_configured(without: str, then: Phase) -> None:
    rollout = ROLLOUT.model_copy(update={"without_labels": without})
    state = tried(SETTINGS.model_copy(update={"rollout": rollout}))
    assert step(state, Tick(at=702)).state is state
    state, done = run(state, Tick(at=704))
    assert state.phase == then
    assert "fewer than 50 labels told within 600 s of its shadow" in told(done)[0]


@pytest.mark.parametrize("stage", [0, 1])
def test_operators_end_a_rollout(stage: int) -> None:
    state = tried(stage=stage)
    paused, _ = run(state, PauseRequested(at=120))
    assert (paused.phase, paused.assignment, paused.trial) == (Phase.PAUSED, Assignment(1), None)
    off, done = run(state, RollbackRequested(at=120))
    assert (off.phase, off.assignment) == (Phase.DRIFT, Assignment(1))
    assert "called off by an operator" in told(done)[0]
    now, done = run(state, PromoteRequested(at=120, version=2))
    assert now.phase == Phase.SWAPPING
    other, _ = run(state, PromoteRequested(at=120, version=3))
    assert (other.assignment, other.trial) == (Assignment(1), None)
    with pytest.raises(IllegalTransitionError, match="single flight"):
        step(state, RetrainRequested(at=120, rows=900))


def test_an_operator_promotes_by_stages() -> None:
    state, _ = run(initial(SETTINGS, 1), PromoteRequested(at=1, version=5, strategy="shadow"))
    assert state.assignment == Assignment(1, shadow=5, share=1.0)
    state, _ = run(state, PromoteRequested(at=2, version=6, strategy="canary"))
    assert state.assignment == Assignment(1, canary=6, share=0.05)
    assert state.run is not None
    state, _ = run(state, ComparisonPassed(at=3, run_id=state.run.run_id, step=0))
    assert state.assignment.share == 0.25
    paused, _ = run(state, PauseRequested(at=4))
    with pytest.raises(IllegalTransitionError, match="no stages can begin now"):
        step(paused, PromoteRequested(at=5, version=6, strategy="canary"))


def test_a_probation_goes_on_after_a_rollout_that_was_called_off() -> None:
    state, _ = run(tried(SETTINGS), Swapped(at=110, run_id="run-1", version=2))
    state, _ = run(state, PromoteRequested(at=111, version=3, strategy="shadow"))
    assert state.phase == Phase.SHADOW
    state, _ = run(state, RollbackRequested(at=112))
    assert (state.phase, state.run) == (Phase.PROBATION, state.proving)
    state, _ = run(state, ProbationFailed(at=113, run_id="run-1"))
    assert state.phase == Phase.SWAPPING


def test_a_swap_that_fails_after_a_canary_leaves_the_live_version_alone() -> None:
    state, _ = run(tried(stage=3), SwapFailed(at=120, run_id="run-1", reason="late"))
    assert (state.phase, state.assignment) == (Phase.DRIFT, Assignment(1))


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_restart_in_the_middle_goes_on_where_it_was_whatever_is_configured_now(
    stage: int,
) -> None:
    state = tried(stage=stage)
    again, _ = snapshot.unpack(snapshot.pack(state, Story()))
    assert again == state
    started = Configured(at=200, policy=SETTINGS.model_dump(), live_version=1)
    configured, _ = run(again, started)
    assert (configured.trial, configured.assignment) == (state.trial, state.assignment)


def test_snapshot_of_a_release_without_stages_is_read() -> None:
    state = tried(SETTINGS)
    packed = snapshot.pack(state, Story())
    del packed["state"]["trial"]
    assert snapshot.unpack(packed)[0] == state


def test_the_monitor_is_told_of_each_stage_until_it_knows_and_its_verdict_counts_once() -> None:
    state, evidence = tried(stage=1), scored(Level.NONE).evidence
    order = comparison(state)
    assert order is not None
    assert (order.version, order.against, order.canary, order.rows) == (2, 1, True, 80)
    before = ComparisonReport("passed", "", "run-1", step=0)
    assert missed(state, evidence, "", before) == order
    report = replace(before, step=1)
    assert missed(state, evidence, "", report) is None
    probation = ProbationReport("none", "")
    said = list(heard(state, evidence, probation, report, 9.0))
    assert ComparisonPassed(at=9.0, run_id="run-1", step=1) in said
    assert not any(
        isinstance(e, ComparisonPassed) for e in heard(state, evidence, probation, before, 9.0)
    )
    (event, _) = heard(state, evidence, probation, replace(report, status="failed"), 9.0)
    assert isinstance(event, CandidateFailed)


@pytest.mark.parametrize(
    "bad", [{"canary_steps": (0.5, 0.1)}, {"canary_steps": (0.0,)}, {"shadow_share": 1.1}]
)
def test_shares_are_checked(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        RolloutSettings.model_validate(bad)
