"""Retraining when a challenger shows that it pays."""

from __future__ import annotations

import json
from dataclasses import replace

from tests.helpers.lifecycle import SETTINGS, run, scored
from undrift.control.lifecycle import initial
from undrift.control.state import Phase
from undrift.control.story import TRIGGERS, recover
from undrift.events import Codec, Scored, Swapped, Train, Trained
from undrift.evidence import Challenger, DriftKind, Level

PAYS = SETTINGS.model_copy(update={"retrain_when": "better"})
AHEAD = Challenger("1,000 rows on the embedding", 1000, True, 0.8, 0.12, 0.09, 400)
MADE = Trained(
    at=103, run_id="run-1", version=2, accepted=True, reason="", regime_rows=900, regime_start=640
)


def pays(challenger: Challenger = AHEAD, *, at: float = 100.0) -> Scored:
    event = scored(Level.DRIFT, at=at)
    return replace(event, evidence=replace(event.evidence, better=challenger))


def order(instructions: list[object]) -> Train:
    return next(i for i in instructions if isinstance(i, Train))


def test_a_drift_that_nothing_would_do_better_in_is_told_and_not_retrained_on() -> None:
    state, done = run(initial(PAYS, 1), scored(Level.DRIFT, at=100), scored(Level.DRIFT, at=900))
    assert state.phase is Phase.DRIFT
    assert not any(isinstance(i, Train) for i in done)


def test_the_memory_that_leads_says_how_far_back() -> None:
    state, done = run(initial(PAYS, 1), scored(Level.DRIFT, at=50), pays())
    train = order(done)
    assert (train.newest_rows, train.lead, train.kind) == (1000, 0.12, DriftKind.BOTH)
    assert state.run is not None
    assert state.run.trigger == "better"
    short, everything = (replace(AHEAD, memory=m) for m in (250, 0))
    assert order(run(initial(PAYS, 1), pays(short))[1]).newest_rows == 300
    assert order(run(initial(PAYS, 1), pays(everything))[1]).newest_rows == 900


def test_missing_labels_leave_the_decision_to_the_escalated_drift() -> None:
    event = scored(Level.DRIFT, at=100)
    blind = replace(event, evidence=replace(event.evidence, labels_missing=True))
    state, _ = run(initial(PAYS, 1), blind)
    assert state.run is not None
    assert state.run.trigger == "drift"


def test_what_was_trained_for_is_refined_as_it_grows() -> None:
    state, _ = run(initial(PAYS, 1), pays(), MADE, Swapped(at=104, run_id="run-1", version=2))
    assert (state.regime_start, state.regime_rows) == (640, 900)


def test_its_journal_is_read_and_its_story_told() -> None:
    events = [scored(Level.DRIFT, at=50), pays(), MADE]
    lines = [json.loads(json.dumps(Codec.encode(event))) for event in events]
    assert [Codec.decode(line) for line in lines] == events
    state, story = recover(iter(lines), PAYS)
    assert state.run is not None
    assert story.retrainings[state.run.trigger, "accepted"] == 1
    assert state.run.trigger in TRIGGERS
