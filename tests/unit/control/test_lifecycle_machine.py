"""Lives with crashes: what the journal and its snapshot give back, held against a small model."""

from __future__ import annotations

import random
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.helpers.machines import lengths, run
from tests.unit.control.test_walk import OPERATORS, SETTINGS, World
from undrift.control import memory as module
from undrift.control import snapshot
from undrift.control.lifecycle import step
from undrift.control.memory import Memory
from undrift.control.state import Phase, Step
from undrift.control.story import FIRST_VERSION, recover
from undrift.errors import IllegalTransitionError
from undrift.events import (
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
    ResumeRequested,
    RollbackRequested,
    Swap,
    SwapFailed,
    Swapped,
    Tick,
)

MEMORY = Path("/dev/shm")  # no disk is needed: only processes die here
STAGES = (Phase.SHADOW, Phase.CANARY)
LATER = 10_000.0  # seconds; longer than any limit of the settings


@dataclass
class Model:
    """Which versions were live, and which one has yet to prove itself; told what was taken."""

    lives: list[int] = field(default_factory=lambda: [FIRST_VERSION])
    previous: int | None = None
    proving: bool = False
    paused: bool = False
    ordered: int = FIRST_VERSION
    back: bool = False  # the order was to go back
    tried: int | None = None

    def take(self, event: Event, outcome: Step) -> None:
        if isinstance(event, PauseRequested):
            self.paused = True
        elif isinstance(event, ResumeRequested):
            self.paused = False
        elif isinstance(event, Swapped):
            left = self.lives[-1]
            back = self.back or self.ordered == left
            self.lives.append(self.ordered)
            self.previous = None if back else left
            self.proving = not back and not self.paused
        elif isinstance(event, ProbationPassed | ProbationFailed):
            self.proving = False
        elif isinstance(event, Tick) and outcome.state.phase == Phase.HEALTHY:
            # No tick of a training or a cooldown ends in health while a probation is open.
            self.proving = False
        for order in outcome.instructions:
            if isinstance(order, Swap) and not isinstance(event, Configured):
                self.ordered = order.assignment.live
                self.back = isinstance(event, RollbackRequested | ProbationFailed)
        self.tried = self.now_tried(event, outcome)

    def now_tried(self, event: Event, outcome: Step) -> int | None:
        """Which version is tried beside the live one: from its first stage until it is no more."""
        tells = [o for o in outcome.instructions if isinstance(o, Notify)]
        begun = [o.detail["version"] for o in tells if o.kind in STAGES and o.detail]
        if begun:
            return int(begun[-1])
        if isinstance(event, ComparisonPassed):
            return self.tried
        done = isinstance(event, SwapFailed | Swapped | CandidateFailed | PauseRequested)
        taken_over = any(isinstance(o, Swap) for o in outcome.instructions)
        gone = any(o.kind == "failed" for o in tells)
        on_time = isinstance(event, Tick | Configured)
        return None if done or gone or (taken_over and not on_time) else self.tried


class Living(RuleBasedStateMachine):
    """The controller's door without its actor: step, journal, remember."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
        self.journal: list[dict[str, object]] = []  # what was acknowledged
        self.model = Model()
        self.last: Event | None = None
        self.start()

    def start(self) -> None:
        self.memory = Memory(Path(self.folder.name), SETTINGS)
        self.state, self.story = self.memory.recall()

    def deliver(self, event: Event, *, crash: bool = False) -> bool:
        """Take in an event as the controller does; tell whether it changed anything."""
        before, kept = self.state, replace(self.state)
        try:
            outcome = step(before, event)
        except IllegalTransitionError:
            assert self.state == kept
            return False
        self.last = event
        if outcome.state == before and not outcome.instructions:
            return False
        self.memory.record(event)
        self.journal.append(Codec.encode(event))
        self.model.take(event, outcome)
        if crash:
            self.start()
            return True
        if not isinstance(event, Configured):
            self.story.add(before, event, outcome.instructions)
        self.state = outcome.state
        self.memory.keep(self.state, self.story)
        return True

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.world = World(random.Random(seed))

    @rule(events=st.integers(1, 4), crash=st.sampled_from([False] * 4 + [True]))
    def happen(self, events: int, crash: bool) -> None:
        """Some things happen, and maybe the controller dies of the last."""
        for left in reversed(range(events)):
            for _ in range(40):  # until one is not ignored
                event = self.world.event(self.state)
                rare = type(event) in OPERATORS and self.world.rng.random() < 0.7
                if not rare and self.deliver(event, crash=crash and not left):
                    break

    @rule(version=st.sampled_from([None, 1, 2, 3]), at=st.sampled_from([0.0, 30.0]))
    def swap(self, version: int | None, at: float) -> None:
        """An operator wants a version, or the previous one, and the replicas take it at once."""
        self.world.at += at
        if version is None:
            self.deliver(RollbackRequested(at=self.world.at))
        else:
            self.deliver(PromoteRequested(at=self.world.at, version=version))
        if self.state.phase == Phase.SWAPPING:
            assert self.state.run is not None
            run_id, live = self.state.run.run_id, self.model.ordered
            self.deliver(Swapped(at=self.world.at, run_id=run_id, version=live))

    @rule(strategy=st.sampled_from(["shadow", "canary"]), good=st.sampled_from([True, True, False]))
    def roll_out(self, strategy: str, good: bool) -> None:
        """An operator wants a version by stages; it holds up in each, or in none."""
        version = self.world.versions[-1] if self.state.live == 1 else 1
        self.deliver(PromoteRequested(at=self.world.at, version=version, strategy=strategy))
        while self.state.trial is not None:
            assert self.state.run is not None
            about = {"at": self.world.at, "run_id": self.state.run.run_id}
            event = (
                ComparisonPassed(**about, step=self.state.trial.step)
                if good
                else CandidateFailed(**about, reason="worse")
            )
            assert self.deliver(event)

    @rule()
    def happen_again(self) -> None:
        if self.last is not None:
            self.deliver(self.last)

    @precondition(lambda self: self.state.proving is not None)
    @rule()
    def wait(self) -> None:
        """A probation ends with time, whatever else is going on."""
        at = self.state.not_before + LATER
        for order in self.state.outstanding:
            if isinstance(order, Swap):
                self.deliver(SwapFailed(at=at, run_id=order.run_id, reason="lost"))
        self.deliver(PauseRequested(at=at))
        self.deliver(ResumeRequested(at=at))
        if self.state.phase == Phase.PROBATION:
            assert self.state.run is not None
            self.deliver(Tick(at=self.state.run.started + LATER))
        assert self.state.proving is None

    @rule(by_snapshot=st.booleans())
    def restart(self, by_snapshot: bool) -> None:
        """Whatever it starts from, it knows the same, and orders again what has no outcome."""
        if not by_snapshot:
            (Path(self.folder.name) / "blobs" / "lifecycle.npz").unlink(missing_ok=True)
        before = self.state
        self.start()
        assert self.state == before
        policy = before.settings.model_dump()
        again = Configured(at=0.0, policy=policy, live_version=before.live)
        assert set(before.outstanding) <= set(step(self.state, again).instructions)

    @invariant()
    def nothing_acknowledged_is_lost(self) -> None:
        state, story = recover(self.journal, SETTINGS)
        assert state == self.state
        one, other = (snapshot.pack(self.state, s)["story"] for s in (story, self.story))
        assert one | {"entries": []} == other | {"entries": []}

    @invariant()
    def same_as_the_model(self) -> None:
        state, model = self.state, self.model
        assert state.live == model.lives[-1]
        assert state.previous == model.previous != state.live
        assert (state.proving is not None) == model.proving
        if state.proving is not None:
            assert state.proving.version == state.live
            assert state.baseline is not None
            assert state.baseline.against == state.previous
        assert state.phase != Phase.PROBATION or state.run == state.proving
        assert state.assignment.candidate == model.tried

    @invariant()
    def one_run(self) -> None:
        state = self.state
        assert len(state.outstanding) <= 1
        assert bool(state.outstanding) == (state.phase in (Phase.RETRAINING, Phase.SWAPPING))

    def teardown(self) -> None:
        self.folder.cleanup()


@lengths
def test_what_was_acknowledged_outlives_crashes(
    length: settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EVERY", 5)
    monkeypatch.setattr(module, "PAGE", 4)
    run(Living, settings(length, max_examples=length.max_examples // 4))
