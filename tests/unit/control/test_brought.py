"""What the lifecycle makes of weights that were trained elsewhere."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.helpers.lifecycle import SETTINGS, run, scored
from undrift.control.lifecycle import initial, step
from undrift.control.state import Phase
from undrift.errors import IllegalTransitionError
from undrift.events import (
    AdoptRequested,
    Event,
    Notify,
    ProbationFailed,
    Rearm,
    Swap,
    Swapped,
    Train,
    Trained,
    TrainFailed,
)
from undrift.evidence import DriftKind, Level
from undrift.records import Assignment

BROUGHT = AdoptRequested(at=1, rows=900, weights="a" * 64, origin="new.safetensors")
JUDGED = Trained(at=2, run_id="run-1", version=2, accepted=True, reason="")


@pytest.mark.parametrize("mode", ["off", "suggest", "auto"])
def test_weights_from_elsewhere_are_judged_swapped_and_proven_in_every_mode(mode: str) -> None:
    state, done = run(initial(SETTINGS.model_copy(update={"mode": mode}), 1), BROUGHT)
    train = next(i for i in done if isinstance(i, Train))
    assert (state.phase, train.weights, train.origin) == (
        Phase.RETRAINING,
        BROUGHT.weights,
        BROUGHT.origin,
    )
    state, _ = run(state, JUDGED, Swapped(at=3, run_id="run-1", version=2))
    assert (state.phase, state.live, state.previous) == (Phase.PROBATION, 2, 1)
    state, done = run(state, ProbationFailed(at=4, run_id="run-1", detail="worse"))
    assert Swap(run_id="run-2", assignment=Assignment(1)) in done


def test_weights_that_come_after_a_drift_are_for_its_regime() -> None:
    settings = SETTINGS.model_copy(update={"mode": "off"})
    state, _ = run(initial(settings, 1), scored(Level.DRIFT), BROUGHT)
    train = next(i for i in state.outstanding if isinstance(i, Train))
    assert (train.kind, train.regime_start) == (DriftKind.CONCEPT, 700)
    state, done = run(state, JUDGED, Swapped(at=3, run_id="run-1", version=2))
    assert Rearm(run_id="run-1", version=2, regime_start=700, against=1) in done


@pytest.mark.parametrize(
    "end",
    [
        replace(JUDGED, accepted=False, reason="worse"),
        TrainFailed(at=2, run_id="run-1", reason="they do not fit"),
    ],
)
def test_weights_that_fail_delay_no_retraining(end: Event) -> None:
    state, done = run(initial(SETTINGS, 1), BROUGHT, end)
    assert (state.phase, state.attempts, state.not_before) == (Phase.HEALTHY, 0, 0.0)
    assert state.outstanding == ()
    assert [i.kind for i in done if isinstance(i, Notify)] == ["failed"]


def test_weights_that_come_twice_are_judged_once_and_others_wait() -> None:
    state, _ = run(initial(SETTINGS, 1), BROUGHT)
    again = step(state, replace(BROUGHT, at=2, origin="copy"))
    assert (again.state, again.instructions) == (state, ())
    with pytest.raises(IllegalTransitionError, match="single flight"):
        step(state, replace(BROUGHT, weights="b" * 64))
