from __future__ import annotations

from dataclasses import replace

import pytest

from tests.helpers.lifecycle import SETTINGS, promoted, run, scored
from undrift.control.lifecycle import TABLE, initial, step
from undrift.control.settings import LifecycleSettings
from undrift.control.state import Ignored, Illegal, Phase, Trial
from undrift.errors import IllegalTransitionError
from undrift.events import (
    EVENTS,
    AdoptRequested,
    Cancel,
    CandidateFailed,
    Codec,
    ComparisonPassed,
    Configured,
    Event,
    Notify,
    PauseRequested,
    ProbationFailed,
    ProbationPassed,
    PromoteRequested,
    Rearm,
    ResumeRequested,
    RetrainRequested,
    RollbackRequested,
    Scored,
    Stage,
    Swap,
    SwapFailed,
    Swapped,
    Tick,
    Train,
    Trained,
    TrainFailed,
)
from undrift.evidence import DriftKind, Level
from undrift.records import Assignment


def kinds(instructions: list[object]) -> list[type]:
    return [type(i) for i in instructions]


def sample_events() -> dict[type[Event], Event]:
    return {
        Configured: Configured(at=1, policy=SETTINGS.model_dump(), live_version=1),
        Scored: scored(Level.DRIFT, at=1e6),
        RetrainRequested: RetrainRequested(at=1, rows=900),
        AdoptRequested: AdoptRequested(at=1, rows=900, weights="a" * 64, origin="new.safetensors"),
        Trained: Trained(at=1, version=2, accepted=True, reason=""),
        TrainFailed: TrainFailed(at=1, reason="x"),
        PromoteRequested: PromoteRequested(at=1, version=9),
        RollbackRequested: RollbackRequested(at=1, version=8),
        Swapped: Swapped(at=1, version=2),
        SwapFailed: SwapFailed(at=1, reason="x"),
        ProbationPassed: ProbationPassed(at=1),
        ProbationFailed: ProbationFailed(at=1),
        ComparisonPassed: ComparisonPassed(at=1, step=0, detail="x"),
        CandidateFailed: CandidateFailed(at=1, reason="x"),
        PauseRequested: PauseRequested(at=1),
        ResumeRequested: ResumeRequested(at=1),
        Tick: Tick(at=1e6),
    }


def test_table_is_total_over_phases_and_events() -> None:
    assert set(TABLE) == set(Phase)
    for phase, rules in TABLE.items():
        assert set(rules) == set(EVENTS), phase


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("kind", EVENTS)
def test_every_cell_transitions_ignores_with_reason_or_raises(
    phase: Phase, kind: type[Event]
) -> None:
    order = Swap(run_id="run-1", assignment=Assignment(2))
    judged = Train(run_id="run-1", base_version=1, until_row=900, weights="a" * 64)
    trial = Trial((("shadow", 1.0, 9), ("canary", 0.1, 9)), 0, 0.0)
    state = replace(promoted(), phase=phase, outstanding=(order, judged), trial=trial)
    assert state.run is not None
    if phase in (Phase.SHADOW, Phase.CANARY):
        state = replace(state, run=replace(state.run, version=3))
    rule = TABLE[phase][kind]
    event = sample_events()[kind]
    if isinstance(rule, Illegal):
        with pytest.raises(IllegalTransitionError, match=phase):
            step(state, event)
        return
    outcome = step(state, event)
    if isinstance(rule, Ignored):
        assert outcome.state == state
        assert not outcome.instructions
        assert outcome.ignored
    else:
        assert outcome.ignored or outcome.instructions or outcome.state != state


@pytest.mark.parametrize("event", sample_events().values(), ids=lambda e: type(e).__name__)
def test_events_round_trip_through_dicts(event: Event) -> None:
    assert Codec.decode(Codec.encode(event)) == event


def test_warning_stages_training_and_calm_returns_to_healthy() -> None:
    state, done = run(initial(SETTINGS, 1), scored(Level.WARNING))
    assert state.phase == Phase.WARNING
    assert Stage in kinds(done)
    state, _ = run(state, scored(Level.NONE))
    assert state.phase == Phase.HEALTHY


def test_drift_trains_from_the_change_point_and_swaps_in_auto_mode() -> None:
    state, done = run(initial(SETTINGS, 1), scored(Level.DRIFT, at=100))
    train = next(i for i in done if isinstance(i, Train))
    assert state.phase == Phase.RETRAINING
    assert (train.base_version, train.kind, train.regime_start) == (1, DriftKind.CONCEPT, 700)
    state, done = run(
        state,
        Trained(at=103, run_id="run-1", version=2, accepted=True, reason="", regime_rows=500),
    )
    assert state.phase == Phase.SWAPPING
    assert Swap(run_id="run-1", assignment=Assignment(2)) in done
    state, done = run(state, Swapped(at=104, run_id="run-1", version=2))
    assert (state.phase, state.live, state.previous) == (Phase.PROBATION, 2, 1)
    assert Rearm(run_id="run-1", version=2, regime_start=700, against=1) in done
    state, _ = run(state, ProbationPassed(at=120, run_id="run-1"))
    assert (state.phase, state.run, state.attempts) == (Phase.HEALTHY, None, 0)


def test_suggest_mode_waits_for_the_operator_with_the_candidate() -> None:
    settings = SETTINGS.model_copy(update={"mode": "suggest"})
    state, _ = run(
        initial(settings, 1),
        scored(Level.DRIFT),
        Trained(at=1, run_id="run-1", version=2, accepted=True, reason=""),
    )
    assert state.phase == Phase.CANDIDATE
    state, done = run(state, PromoteRequested(at=2, version=2))
    assert Swap(run_id="run-2", assignment=Assignment(2)) in done


def test_off_mode_only_reports() -> None:
    settings = SETTINGS.model_copy(update={"mode": "off"})
    state, done = run(
        initial(settings, 1), scored(Level.WARNING), scored(Level.DRIFT), scored(Level.DRIFT)
    )
    assert state.phase == Phase.DRIFT
    assert not {Stage, Train} & set(kinds(done))


def test_rejected_candidates_back_off_exponentially_and_stay_in_drift() -> None:
    state, _ = run(initial(SETTINGS, 1), scored(Level.DRIFT, at=0))
    waits = []
    at = 0.0
    for n in range(1, 5):
        verdict = Trained(at=at, run_id=f"run-{n}", version=n + 1, accepted=False, reason="worse")
        state, _ = run(state, verdict)
        assert state.phase == Phase.DRIFT
        waits.append(state.not_before - at)
        early, done = run(state, scored(Level.DRIFT, at=state.not_before - 0.1))
        assert not done
        at = state.not_before
        state, done = run(early, scored(Level.DRIFT, at=at))
        assert kinds(done) == [Train]
    assert waits == [4, 8, 16, 20]


def test_drift_waits_for_enough_labels_of_the_new_regime() -> None:
    state, done = run(initial(SETTINGS, 1), scored(Level.DRIFT, regime_rows=249))
    assert state.phase == Phase.DRIFT
    assert kinds(done) == [Notify, Stage]
    state, done = run(state, scored(Level.DRIFT, at=1, regime_rows=250))
    assert kinds(done) == [Train]


def test_cooldown_after_promotion_delays_the_next_automatic_retraining() -> None:
    state, _ = run(promoted(), ProbationPassed(at=110, run_id="run-1"))
    state, done = run(state, scored(Level.DRIFT, at=115, version=2))
    assert state.phase == Phase.DRIFT
    assert Train not in kinds(done)
    state, done = run(state, scored(Level.DRIFT, at=120, version=2))
    assert kinds(done) == [Train]


def test_wait_ends_early_or_at_its_longest_when_the_clock_jumps_by_an_hour() -> None:
    state, _ = run(promoted(), ProbationPassed(at=110, run_id="run-1"))
    jumped = run(state, scored(Level.DRIFT, at=111 + 3600, version=2))
    assert Train in kinds(jumped[1])
    longest = max(SETTINGS.cooldown_s, SETTINGS.backoff_max_s)
    put_back, done = run(state, scored(Level.DRIFT, at=111 - 3600, version=2))
    assert Train in kinds(done), "a wait of an hour was never asked for"
    _, done = run(state, scored(Level.DRIFT, at=state.not_before - longest, version=2))
    assert Train not in kinds(done)
    assert put_back.run is not None


def test_operator_decides_method_steps_and_budget() -> None:
    asked = RetrainRequested(at=1, rows=900, method="full", steps=7, budget="30s")
    _, (train, *_) = run(initial(SETTINGS, 1), asked)
    assert isinstance(train, Train)
    assert (train.method, train.steps, train.budget) == ("full", 7, "30s")


def test_order_carries_the_rows_there_were_and_is_the_same_when_it_is_given_again() -> None:
    evidence = scored(Level.DRIFT).evidence
    for event in (Scored(at=1, evidence=evidence), RetrainRequested(at=1, rows=evidence.rows)):
        state, done = run(initial(SETTINGS, 1), event)
        (order,) = [i for i in done if isinstance(i, Train)]
        assert order.until_row == evidence.rows == 1000
        restarted = Configured(at=2, policy=SETTINGS.model_dump(), live_version=1)
        assert order in run(state, restarted)[1]


def test_journal_from_before_there_were_budgets_is_read() -> None:
    for event in (
        RetrainRequested(at=1, rows=900, method="full"),
        Train(base_version=2, until_row=900),
    ):
        record = Codec.encode(event)
        del record["budget"]
        assert Codec.decode(record) == event


def test_single_flight_refuses_a_second_retraining() -> None:
    state, _ = run(initial(SETTINGS, 1), scored(Level.DRIFT))
    with pytest.raises(IllegalTransitionError, match="single flight"):
        step(state, RetrainRequested(at=1, rows=900))


def test_messages_of_a_superseded_run_are_stale_not_illegal() -> None:
    state, done = run(
        initial(SETTINGS, 2), scored(Level.DRIFT, version=2), RollbackRequested(at=1, version=1)
    )
    assert Cancel(run_id="run-1") in done
    outcome = step(state, Trained(at=2, run_id="run-1", version=3, accepted=True, reason=""))
    assert outcome.state == state
    assert "stale" in outcome.ignored


def test_failed_probation_rolls_back_and_cools_down() -> None:
    state, done = run(promoted(), ProbationFailed(at=110, run_id="run-1", detail="worse"))
    assert Swap(run_id="run-2", assignment=Assignment(1)) in done
    state, done = run(state, Swapped(at=111, run_id="run-2", version=1))
    assert (state.phase, state.live, state.attempts) == (Phase.COOLDOWN, 1, 1)
    assert Rearm(run_id="run-2", version=1) in done
    state, _ = run(state, Tick(at=120))
    assert state.phase == Phase.COOLDOWN
    state, _ = run(state, Tick(at=121))
    assert state.phase == Phase.HEALTHY


def test_failed_probation_without_automatic_rollback_is_told_and_over() -> None:
    settings = SETTINGS.model_copy(update={"auto_rollback": False})
    state, done = run(promoted(settings), ProbationFailed(at=110, run_id="run-1", detail="failed"))
    assert (state.phase, state.live) == (Phase.HEALTHY, 2)
    (tell,) = done
    assert isinstance(tell, Notify)
    assert tell.text == ("version 2 stays though its probation failed; no automatic rollback")


def test_probation_without_labels_ends_unproven_at_its_timeout() -> None:
    settings = SETTINGS.model_copy(update={"probation_timeout_s": 50.0})
    state, _ = run(promoted(settings), Tick(at=149))
    assert state.phase == Phase.PROBATION
    state, _ = run(state, Tick(at=151))
    assert state.phase == Phase.HEALTHY


def test_refinement_starts_when_the_regime_has_doubled_and_stops_at_its_limit() -> None:
    settings = SETTINGS.model_copy(update={"cooldown_s": 0.0, "refine_limit": 1})
    state, _ = run(promoted(settings), ProbationPassed(at=110, run_id="run-1"))
    state, done = run(state, scored(Level.NONE, at=111, version=2, regime_rows=999))
    assert not done
    state, done = run(state, scored(Level.NONE, at=112, version=2, regime_rows=1000))
    train = next(i for i in done if isinstance(i, Train))
    assert (train.base_version, train.kind, train.regime_start) == (2, DriftKind.CONCEPT, 700)
    verdict = Trained(
        at=113, run_id="run-2", version=3, accepted=False, reason="no gain", regime_rows=1000
    )
    state, _ = run(state, verdict)
    assert (state.phase, state.attempts) == (Phase.HEALTHY, 0)
    state, done = run(state, scored(Level.NONE, at=200, version=2, regime_rows=9000))
    assert not done


def restless() -> LifecycleSettings:
    return SETTINGS.model_copy(update={"retrain_every_rows": 500})


def test_enough_new_labels_retrain_on_the_newest_rows_without_a_drift() -> None:
    state, done = run(initial(restless(), 1), scored(Level.NONE, labelled=499))
    assert not done
    state, done = run(state, scored(Level.NONE, at=1, labelled=500))
    order = Train(
        run_id="run-1", base_version=1, until_row=1000, kind=DriftKind.BOTH, newest_rows=2000
    )
    assert done == [order]
    verdict = Trained(at=2, run_id="run-1", version=2, accepted=False, reason="no gain")
    state, _ = run(state, verdict)
    assert (state.phase, state.attempts) == (Phase.HEALTHY, 0)
    state, done = run(state, scored(Level.NONE, at=3, labelled=999))
    assert not done
    state, done = run(state, scored(Level.NONE, at=4, labelled=1000))
    assert kinds(done) == [Train]


def test_labels_are_counted_anew_from_a_retraining_for_drift() -> None:
    state, _ = run(promoted(restless()), ProbationPassed(at=110, run_id="run-1"))
    state, done = run(state, scored(Level.NONE, at=121, version=2, labelled=1399))
    assert not done
    state, done = run(state, scored(Level.NONE, at=122, version=2, labelled=1400))
    assert kinds(done) == [Train]


def test_version_for_the_newest_rows_is_not_refined() -> None:
    state, _ = run(
        initial(restless(), 1),
        scored(Level.NONE, labelled=500),
        Trained(at=1, run_id="run-1", version=2, accepted=True, reason="", regime_rows=500),
        Swapped(at=2, run_id="run-1", version=2),
        ProbationPassed(at=3, run_id="run-1"),
    )
    again = scored(Level.NONE, at=20, version=2, regime_rows=9000, labelled=999)
    assert not step(state, again).instructions


@pytest.mark.parametrize("change", [{"mode": "off"}, {"retrain_every_rows": 0}])
def test_new_labels_alone_retrain_nothing_unless_asked_for(change: dict[str, object]) -> None:
    settings = restless().model_copy(update=change)
    _, done = run(initial(settings, 1), scored(Level.NONE, labelled=9000))
    assert not done


def test_rollback_while_swapping_aims_at_the_version_still_live() -> None:
    state, _ = run(initial(SETTINGS, 1), PromoteRequested(at=1, version=2))
    state, done = run(state, RollbackRequested(at=2))
    assert done == [Swap(run_id="run-2", assignment=Assignment(1))]


def test_swap_called_off_for_the_live_version_is_a_return_and_needs_no_probation() -> None:
    state, _ = run(
        initial(SETTINGS, 1), PromoteRequested(at=1, version=2), PromoteRequested(at=2, version=1)
    )
    state, done = run(state, Swapped(at=3, run_id="run-2", version=1))
    assert (state.phase, state.live, state.previous) == (Phase.COOLDOWN, 1, None)
    assert Rearm(run_id="run-2", version=1) in done


def test_rollback_without_a_previous_version_is_refused() -> None:
    with pytest.raises(IllegalTransitionError, match="no previous version"):
        step(initial(SETTINGS, 1), RollbackRequested(at=1))


def test_rollback_while_paused_stays_paused() -> None:
    state, _ = run(
        promoted(), PauseRequested(at=1), RollbackRequested(at=2), Swapped(at=3, version=1)
    )
    assert (state.phase, state.live) == (Phase.PAUSED, 1)


def test_restart_issues_outstanding_instructions_again() -> None:
    state, _ = run(initial(SETTINGS, 1), scored(Level.DRIFT))
    outcome = step(state, Configured(at=5, policy=SETTINGS.model_dump(), live_version=1))
    assert outcome.state == state
    assert Train in kinds(list(outcome.instructions))
    assert Rearm in kinds(list(outcome.instructions))


def test_replaying_the_journal_gives_the_same_state() -> None:
    events: list[Event] = [
        scored(Level.WARNING, at=1),
        scored(Level.DRIFT, at=2),
        Trained(at=3, run_id="run-1", version=2, accepted=True, reason="", regime_rows=10),
        Swapped(at=4, run_id="run-1", version=2),
        ProbationFailed(at=5, run_id="run-1"),
        Swapped(at=6, run_id="run-2", version=1),
    ]
    live, _ = run(initial(SETTINGS, 1), *events)
    replayed, _ = run(initial(SETTINGS, 1), *[Codec.decode(Codec.encode(e)) for e in events])
    assert replayed == live


def test_pause_outlives_a_swap_that_replaces_another() -> None:
    state, _ = run(
        initial(SETTINGS, 3),
        PauseRequested(at=1),
        PromoteRequested(at=2, version=1),
        PromoteRequested(at=3, version=2),
    )
    assert state.run is not None
    state, _ = run(state, Swapped(at=4, run_id=state.run.run_id, version=2))
    assert (state.phase, state.live) == (Phase.PAUSED, 2)
