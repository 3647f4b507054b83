"""Random lives of a model, and what holds after each of their events."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest

from undrift.control.lifecycle import edges, initial, step
from undrift.control.settings import LifecycleSettings, RolloutSettings
from undrift.control.state import Phase, State, Step
from undrift.control.story import FIRST_VERSION, recover
from undrift.errors import IllegalTransitionError
from undrift.events import (
    EVENTS,
    AdoptRequested,
    CandidateFailed,
    Codec,
    ComparisonPassed,
    Configured,
    Event,
    PauseRequested,
    ProbationFailed,
    ProbationPassed,
    PromoteRequested,
    ResumeRequested,
    RetrainRequested,
    RollbackRequested,
    Scored,
    Swap,
    SwapFailed,
    Swapped,
    Tick,
    Train,
    Trained,
    TrainFailed,
)
from undrift.evidence import DriftKind, Evidence, Level, SignalReport

SETTINGS = LifecycleSettings(
    cooldown_s=20,
    backoff_s=4,
    backoff_max_s=30,
    probation_timeout_s=60,
    retraining_timeout_s=15,
    rollout=RolloutSettings(stage_timeout_s=20),
)
ORDER = {Phase.RETRAINING: Train, Phase.SWAPPING: Swap}
TRIED = {Phase.SHADOW, Phase.CANARY}
WITH_RUN = {*ORDER, *TRIED, Phase.CANDIDATE, Phase.PROBATION}
OPERATORS = {
    AdoptRequested,
    Configured,
    PauseRequested,
    PromoteRequested,
    RetrainRequested,
    RollbackRequested,
}
STEPS, SEEDS = 2_000, 60


@dataclass
class World:
    """What sends the events: a clock, a monitor, a trainer, operators; all by chance."""

    rng: random.Random
    at: float = 0.0
    rows: int = 0
    versions: list[int] = field(default_factory=lambda: [FIRST_VERSION])

    def policy(self) -> LifecycleSettings:
        change = {
            "mode": self.rng.choice(["auto", "auto", "suggest", "off"]),
            "auto_rollback": self.rng.random() < 0.7,
            "retrain_every_rows": self.rng.choice([0, 400]),
            "refine_growth": self.rng.choice([0.0, 1.5]),
            "rollout": RolloutSettings(
                shadow_rows=self.rng.choice([0, 9]),
                canary_steps=self.rng.choice([(), (0.1,), (0.1, 0.5)]),
                stage_timeout_s=20,
                without_labels=self.rng.choice(["call_off", "go_on"]),
            ),
        }
        return SETTINGS.model_copy(update=change)

    def event(self, state: State) -> Event:
        """Return any event at all; one of a run belongs to the present run, mostly."""
        rng = self.rng
        self.at += rng.choice([0.0, 0.5, 5.0, 30.0])
        self.rows += rng.randrange(200)
        present = state.run.run_id if state.run else "run-none"
        stale = f"run-{rng.randrange(max(state.runs, 1))}"  # one that is over, or never was
        run_id = present if rng.random() < 0.9 else stale
        weights = [1 if kind in OPERATORS else 3 for kind in EVENTS]
        kind = rng.choices(EVENTS, weights)[0]
        if kind is Scored:
            return Scored(at=self.at, evidence=self.evidence(state))
        if kind is Configured:
            policy = self.policy().model_dump()
            return Configured(at=self.at, policy=policy, live_version=state.live)
        if kind is RetrainRequested:
            return RetrainRequested(at=self.at, rows=self.rows)
        if kind is AdoptRequested:
            brought = rng.choice("ab") * 64
            return AdoptRequested(at=self.at, rows=self.rows, weights=brought, origin="new")
        if kind is PromoteRequested:
            strategy = rng.choice(["now", "now", "shadow", "canary"])
            version = rng.choice(self.versions)
            return PromoteRequested(at=self.at, version=version, strategy=strategy)
        if kind is RollbackRequested:
            named = rng.choice([None, rng.choice(self.versions)])
            return RollbackRequested(at=self.at, version=named)
        if kind is Trained:
            accepted, version = rng.random() < 0.6, self.versions[-1] + 1
            if state.phase == Phase.RETRAINING and run_id == present:
                self.versions.append(version)
            return Trained(
                at=self.at,
                run_id=run_id,
                version=version,
                accepted=accepted,
                reason="",
                regime_rows=rng.randrange(400),
            )
        if kind is Swapped:
            version = (state.run and state.run.version) or FIRST_VERSION
            return Swapped(at=self.at, run_id=run_id, version=version)
        if kind is ComparisonPassed:
            now = state.trial.step if state.trial and rng.random() < 0.9 else 7
            return ComparisonPassed(at=self.at, run_id=run_id, step=now)
        if kind in (TrainFailed, SwapFailed, CandidateFailed):
            return kind(at=self.at, run_id=run_id, reason="lost")
        if kind in (ProbationPassed, ProbationFailed):
            return kind(at=self.at, run_id=run_id)
        assert kind in (PauseRequested, ResumeRequested, Tick)
        return kind(at=self.at)

    def evidence(self, state: State) -> Evidence:
        rng = self.rng
        level = rng.choice(list(Level))
        change = rng.randrange(self.rows + 1) if level else None
        return Evidence(
            level,
            rng.choice([DriftKind.CONCEPT, DriftKind.COVARIATE]) if level else DriftKind.NONE,
            (SignalReport("performance", level, 3.0, 1.0, 2.0, change, change),),
            version=state.live if rng.random() < 0.9 else rng.choice(self.versions),
            rows=self.rows,
            labelled=self.rows // 2,
            regime_rows=rng.randrange(800),
            labels_missing=rng.random() < 0.1,
        )


@dataclass(frozen=True)
class Taken:
    """One event that was not illegal, and what it did."""

    before: State
    event: Event
    outcome: Step


def walk(seed: int) -> Iterator[Taken]:
    world = World(random.Random(seed))
    state = initial(SETTINGS, FIRST_VERSION)
    for _ in range(STEPS):
        event = world.event(state)
        try:
            outcome = step(state, event)
        except IllegalTransitionError:
            continue  # the state is frozen: it stands
        yield Taken(state, event, outcome)
        state = outcome.state


@pytest.fixture(scope="module")
def walks() -> list[list[Taken]]:
    return [list(walk(seed)) for seed in range(SEEDS)]


def test_invariants_hold_after_every_event(walks: list[list[Taken]]) -> None:
    for taken in (t for steps in walks for t in steps):
        before, state = taken.before, taken.outcome.state
        assert (state.run is not None) == (state.phase in WITH_RUN), taken
        assert state.previous != state.live, taken
        assert state.attempts >= 0, taken
        assert state.runs - before.runs in (0, 1), taken
        orders = {type(order) for order in state.outstanding}
        assert orders == ({ORDER[state.phase]} if state.phase in ORDER else set()), taken
        assert len(state.outstanding) <= 1, taken
        if state.run is not None:
            assert {order.run_id for order in state.outstanding} <= {state.run.run_id}, taken
            newest = state.run.run_id == f"run-{state.runs}"
            assert newest or state.run == state.proving, taken
        if state.phase == Phase.PROBATION:
            assert state.run == state.proving, taken
        if state.proving is not None:
            assert state.baseline is not None
            assert state.baseline.against is not None, taken
        assert (state.trial is not None) == (state.phase in TRIED), taken
        assert_assignment(state)
        assert state.baseline is not None, taken
        assert state.baseline.version == state.live, taken


def assert_assignment(state: State) -> None:
    """A candidate is held in a rollout and by the swap that ends it, and by nothing else."""
    held = state.assignment
    if state.trial is None:
        assert held.candidate is None or state.phase == Phase.SWAPPING
        return
    assert state.run is not None
    kind, share, _ = state.trial.stage
    assert kind == state.phase
    assert held.candidate == state.run.version == getattr(held, kind) != state.live
    assert held.share == share


def test_a_share_never_shrinks_within_a_rollout(walks: list[list[Taken]]) -> None:
    grown = 0
    for taken in (t for steps in walks for t in steps):
        before, state = taken.before, taken.outcome.state
        if before.phase == state.phase == Phase.CANARY and before.run == state.run:
            assert before.assignment.share <= state.assignment.share, taken
            grown += before.assignment.share < state.assignment.share
    assert grown > 10


def test_a_training_is_given_up_before_another_order_takes_its_place(
    walks: list[list[Taken]],
) -> None:
    for taken in (t for steps in walks for t in steps):
        ended = isinstance(taken.event, Trained | TrainFailed)
        if taken.before.phase == Phase.RETRAINING != taken.outcome.state.phase and not ended:
            (run,) = {order.run_id for order in taken.before.outstanding}
            told = [type(i).__name__ for i in taken.outcome.instructions if i.run_id == run]
            assert told[0] == "Cancel", taken


def test_stale_events_leave_the_state_as_it_was(walks: list[list[Taken]]) -> None:
    stale = [t for steps in walks for t in steps if t.outcome.ignored.startswith("stale: run")]
    assert len(stale) > 100
    assert all(t.outcome.state is t.before and not t.outcome.instructions for t in stale)


def test_illegal_events_leave_the_state_as_it_was() -> None:
    world, state, refused = World(random.Random(1)), initial(SETTINGS, FIRST_VERSION), 0
    for _ in range(STEPS):
        event, kept = world.event(state), replace(state)
        try:
            state = step(state, event).state
        except IllegalTransitionError:
            refused += 1
            assert state == kept, event
    assert refused > 100


def test_restart_gives_what_is_outstanding_again(walks: list[list[Taken]]) -> None:
    restarts = [t for steps in walks for t in steps if isinstance(t.event, Configured)]
    assert any(t.before.outstanding for t in restarts)
    for taken in restarts:
        assert set(taken.before.outstanding) <= set(taken.outcome.instructions)
        assert taken.outcome.state.phase == taken.before.phase


def test_transitions_walked_are_those_declared_and_all_of_them(walks: list[list[Taken]]) -> None:
    walked = {
        (t.before.phase, type(t.event), t.outcome.state.phase)
        for steps in walks
        for t in steps
        if (t.before.phase, t.before.run) != (t.outcome.state.phase, t.outcome.state.run)
    }
    declared = set(edges())
    assert not walked - declared, "taken, but not in TARGETS"
    assert not declared - walked, "in TARGETS, but never taken"


def test_journal_of_a_walk_replays_to_its_state(walks: list[list[Taken]]) -> None:
    for steps in walks[:3]:
        changed = [t for t in steps if t.outcome.state != t.before or t.outcome.instructions]
        state, story = recover([Codec.encode(t.event) for t in changed], SETTINGS)
        assert state == steps[-1].outcome.state
        assert story.entries
