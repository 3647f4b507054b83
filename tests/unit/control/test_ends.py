"""No phase lasts for ever, and none is forgotten for what came between."""

from __future__ import annotations

import pytest

from tests.helpers.lifecycle import SETTINGS, promoted, run, scored
from undrift.control.lifecycle import initial
from undrift.control.state import Phase, State
from undrift.control.story import Times, recover
from undrift.events import (
    Cancel,
    Codec,
    Event,
    Notify,
    PauseRequested,
    ProbationFailed,
    ProbationPassed,
    PromoteRequested,
    ResumeRequested,
    RetrainRequested,
    SwapFailed,
    Swapped,
    Tick,
    Trained,
    TrainFailed,
)
from undrift.evidence import Level


def test_retraining_that_hangs_is_cancelled_and_counts_as_failed() -> None:
    settings = SETTINGS.model_copy(update={"retraining_timeout_s": 50.0})
    begun, _ = run(initial(settings, 1), scored(Level.DRIFT, at=100))
    state, done = run(begun, Tick(at=149))
    assert (state, done) == (begun, [])
    state, (cancel, tell) = run(state, Tick(at=151))
    assert cancel == Cancel(run_id="run-1")
    assert isinstance(tell, Notify)
    assert tell.text == "run-1 (drift): no candidate within 50 s"
    assert (state.phase, state.attempts, state.not_before) == (Phase.DRIFT, 1, 155)


def test_retraining_that_hung_is_counted_among_the_failed() -> None:
    settings = SETTINGS.model_copy(update={"retraining_timeout_s": 50.0})
    events = [scored(Level.DRIFT, at=100), Tick(at=151)]
    _, story = recover(map(Codec.encode, events), settings)
    assert story.retrainings["drift", "failed"] == 1
    assert story.retraining_seconds == Times(1, 51)


def test_drift_that_no_label_shows_any_more_is_over() -> None:
    state, _ = run(initial(SETTINGS, 1), scored(Level.DRIFT, regime_rows=10))
    assert state.phase == Phase.DRIFT
    state, _ = run(state, scored(Level.WARNING, at=1), scored(Level.NONE, at=2, version=7))
    assert state.phase == Phase.DRIFT
    state, done = run(state, scored(Level.NONE, at=3))
    assert (state.phase, state.evidence, done) == (Phase.HEALTHY, None, [])


BETWEEN: dict[str, list[Event]] = {
    "a pause": [PauseRequested(at=110), ResumeRequested(at=111)],
    "a retraining that fails": [
        RetrainRequested(at=110, rows=900),
        TrainFailed(at=111, run_id="run-2", reason="out of memory"),
    ],
    "a retraining that hangs": [RetrainRequested(at=110, rows=900), Tick(at=110 + 21_600)],
    "a candidate that is rejected": [
        RetrainRequested(at=110, rows=900),
        Trained(at=111, run_id="run-2", version=3, accepted=False, reason="worse"),
    ],
    "a swap that fails": [
        PromoteRequested(at=110, version=1),
        SwapFailed(at=111, run_id="run-2", reason="disk full"),
    ],
}


@pytest.mark.parametrize("between", BETWEEN.values(), ids=BETWEEN)
def test_probation_goes_on_after(between: list[Event]) -> None:
    before = promoted()
    state, _ = run(before, *between)
    assert (state.phase, state.run) == (Phase.PROBATION, before.run)
    state, _ = run(state, ProbationPassed(at=22_000, run_id="run-1"))
    assert (state.phase, state.run, state.proving) == (Phase.HEALTHY, None, None)


def after_another_version(state: State) -> State:
    state, _ = run(state, PauseRequested(at=110), PromoteRequested(at=111, version=3))
    state, _ = run(state, Swapped(at=112, run_id="run-2", version=3))
    return state


def test_probation_of_a_version_that_was_left_is_over() -> None:
    state, _ = run(after_another_version(promoted()), ResumeRequested(at=113))
    assert (state.phase, state.live) == (Phase.HEALTHY, 3)


def test_probation_that_failed_is_over_though_the_rollback_fails_too() -> None:
    state, _ = run(
        promoted(),
        ProbationFailed(at=110, run_id="run-1"),
        SwapFailed(at=111, run_id="run-2", reason="no model version 1"),
    )
    assert (state.phase, state.live) == (Phase.HEALTHY, 2)
