"""Replicas that join, leave, die, fail and answer late, and a coordinator that is started anew."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from torch import nn

from tests.helpers.machines import lengths, run
from undrift.errors import ModelError, SwapError
from undrift.records import Assignment
from undrift.serve.settings import SwapSettings
from undrift.serve.slots import DoubleBuffer
from undrift.serve.swap import (
    Abort,
    Command,
    Commit,
    Done,
    Failed,
    Hold,
    Load,
    Outcome,
    Pending,
    Prepare,
    ReplicaStatus,
    SwapCoordinator,
    Target,
)

SETTINGS = SwapSettings(lease_s=5, start_grace_s=30, prepare_timeout_s=20)
ROWS = np.zeros((1, 2), np.float32)


def target(version: int) -> Target:
    return Target(Assignment(version), (f"hash{version}",))


class Member:
    """A replica: the real slots, and commands carried out as `serve.follower` does."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.buffer = DoubleBuffer(self.build, max_slowdown=1e9)
        self.swap_id = self.committed = self.error = self.trial = ""
        self.held: Assignment | None = None
        self.loading: Prepare | Load | None = None
        self.aborted = False  # while it was loading
        self.seen = 0  # newest decision that it has carried out
        self.asked: ReplicaStatus | None = None  # by the poll before, which may still be open

    def build(self) -> nn.Module:
        if self.aborted:
            self.buffer.abort()  # comes in the middle of the loading
        return nn.Sequential(nn.Linear(2, 2))

    def status(self) -> ReplicaStatus:
        buffer = self.buffer
        return ReplicaStatus(
            buffer.version,
            self.swap_id,
            buffer.prepared,
            self.error,
            committed=self.committed,
            trial=self.trial,
            assignment=self.held,
        )

    def obey(self, command: Command | None) -> None:
        match command:
            case Prepare() | Load():
                if self.loading is None:
                    self.loading, self.aborted, self.error = command, False, ""
                    self.swap_id = command.swap_id if isinstance(command, Prepare) else ""
            case Commit():
                version = self.buffer.prepared
                assert version is not None
                self.buffer.commit(version)
                self.committed, self.swap_id = command.swap_id, ""
                self.trial, self.held = "", Assignment(version)
            case Hold(target):
                assert target.live == self.buffer.version
                assert not self.swap_id
                self.trial, self.held = target.trial, target.assignment
            case Abort():
                self.buffer.abort()
                self.swap_id, self.error, self.aborted = "", "", True

    def finish(self, *, sound: bool) -> None:
        """End the loading that is under way."""
        command, self.loading = self.loading, None
        assert command is not None
        act = self.buffer.prepare if isinstance(command, Prepare) else self.buffer.load
        fill = 1.0 if sound else float("nan")
        weights = {"0.weight": torch.full((2, 2), fill), "0.bias": torch.zeros(2)}
        try:
            act(command.target.live, command.target.live_hash, weights, ROWS)
        except (ModelError, SwapError) as error:
            self.error = str(error)
        if self.aborted:
            assert self.buffer.prepared is None


@dataclass
class Known:
    """What the controller's journal holds, and what was decided for good."""

    live: int = 1
    order: tuple[str, int] | None = None
    decided: list[tuple[str, int]] = field(default_factory=lambda: [("", 1)])


class Swapping(RuleBasedStateMachine):
    """Members, the coordinator and the journal that it is started anew from."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.joined, self.runs, self.trials = 0.0, 0, 0, 0
        self.members: list[Member] = []
        self.heard: set[str] = set()  # by this coordinator
        self.known = Known()
        self.ended: Outcome | None = None

    @initialize(count=st.integers(1, 3))
    def begin(self, count: int) -> None:
        self.coordinator = SwapCoordinator(target(1), SETTINGS)
        for _ in range(count):
            self.join()
            member = self.members[-1]
            member.obey(Load(target(1)))
            member.finish(sound=True)
            self.poll(0, lost=False)
            self.members.insert(0, self.members.pop())

    def member(self, index: int) -> Member | None:
        return self.members[index % len(self.members)] if self.members else None

    @rule()
    def join(self) -> None:
        if len(self.members) < 4:
            self.joined += 1
            self.members.append(Member(f"r{self.joined}"))
            self.coordinator.register(self.members[-1].name, self.now)

    @rule(index=st.integers(0, 3), lost=st.sampled_from([False, False, False, True]))
    def poll(self, index: int, lost: bool) -> None:
        member = self.member(index)
        if member is not None:
            member.asked = member.status()
            command = self.ask(member, member.asked)
            if not lost:
                self.obey(member, command)

    @rule(first=st.integers(0, 3), unsound=st.sampled_from([None, None, -1, 0]))
    def all_go_on(self, first: int, unsound: int | None) -> None:
        """Each ends its loading and polls, in any order; one may fail."""
        bad = None if unsound is None or not self.members else unsound % len(self.members)
        for index in range(first, first + len(self.members)):
            self.finish(index, sound=index % len(self.members) != bad)
            self.poll(index, lost=False)

    @rule(index=st.integers(0, 3))
    def older_poll_is_answered(self, index: int) -> None:
        """A poll that its replica no longer waits for is looked at again."""
        member = self.member(index)
        if member is not None and member.asked is not None:
            self.ask(member, member.asked)

    @rule(index=st.integers(0, 3), sound=st.sampled_from([True, True, True, False]))
    def finish(self, index: int, sound: bool) -> None:
        member = self.member(index)
        if member is not None and member.loading is not None:
            decided = len(self.known.decided)
            load = member.loading
            member.finish(sound=sound)
            if isinstance(load, Load) and load.target.live == self.known.decided[-1][1] and sound:
                member.seen = decided

    @rule(index=st.integers(0, 3))
    def die(self, index: int) -> None:
        if self.members:
            self.members.pop(index % len(self.members))

    @rule(index=st.integers(0, 3))
    def leave(self, index: int) -> None:
        if self.members:
            member = self.members.pop(index % len(self.members))
            status = member.status()
            assert self.ask(member, replace(status, leaving=True)) is None
            assert self.ask(member, status) is None  # an older poll
            assert member.name not in self.coordinator.versions(self.now)

    @rule(seconds=st.sampled_from([0.5, 2.0, 6.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.known.order is None or self.runs % 2 == 0)
    @rule(version=st.integers(1, 4))
    def order(self, version: int) -> None:
        """Order a swap; what is decided is recorded first, as the controller does."""
        self.settle()
        if self.coordinator.decided:
            assert self.known.order is not None
            self.known.live, self.known.order = self.known.order[1], None
        self.runs += 1
        self.known.order = (f"run-{self.runs}", version)
        self.coordinator.begin(self.known.order[0], target(version), self.now)
        self.watch()

    @rule(tried=st.booleans(), late=st.booleans())
    def hold(self, tried: bool, late: bool) -> None:
        """The controller would have a version tried beside the live one, as it knows that."""
        live = self.known.live if late else self.coordinator.target.live
        self.trials += 1
        beside = Target(
            Assignment(live, shadow=9, share=0.5), (f"hash{live}", "hash9"), f"trial-{self.trials}"
        )
        self.coordinator.hold(beside if tried else target(live))

    @rule()
    def settle(self) -> None:
        """Record the end of a swap."""
        outcome, order = self.coordinator.outcome(self.now), self.known.order
        self.watch()
        if order is None or isinstance(outcome, Pending):
            return
        assert isinstance(outcome, Done | Failed)
        assert outcome.swap_id == order[0]
        if isinstance(outcome, Done):
            self.known.live = order[1]
        self.known.order = None

    @rule(expected=st.integers(1, 4), newcomer=st.sampled_from([None, True, False]))
    def restart_the_coordinator(self, expected: int, newcomer: bool | None) -> None:
        """Begin from the journal; with ``newcomer``, one is heard first, and is sound or not."""
        seen = max((m.seen for m in self.members), default=0)
        order, known = self.known.order, self.known
        if order == known.decided[-1] and seen < len(known.decided):
            known.decided.pop()  # whoever has carried it out has died: nobody knows of it
        self.heard.clear()
        self.coordinator = SwapCoordinator(
            target(known.live), SETTINGS, expected, patience=self.now + SETTINGS.lease_s
        )
        for member in self.members:
            member.asked = None
        if order is not None:
            self.coordinator.begin(order[0], target(order[1]), self.now)
        if newcomer is not None and len(self.members) < 4:
            self.join()
            for sound in (True, newcomer):
                self.poll(-1, lost=False)
                self.finish(-1, sound=sound)
            self.poll(-1, lost=False)

    def ask(self, member: Member, status: ReplicaStatus) -> Command | None:
        self.heard.add(member.name)
        command = self.coordinator.poll(member.name, status, self.now)
        self.watch()
        return command

    def obey(self, member: Member, command: Command | None) -> None:
        member.obey(command)
        if isinstance(command, Commit):
            assert command.swap_id == self.known.decided[-1][0]
            member.seen = len(self.known.decided)

    def watch(self) -> None:
        """Notice a decision; every member that was heard must have been ready for it."""
        coordinator, known = self.coordinator, self.known
        outcome, order = coordinator.outcome(self.now), known.order
        if isinstance(outcome, Done) and outcome != self.ended:
            reported = set(coordinator.versions(self.now).values()) - {None}
            assert reported <= {outcome.assignment.live}
        self.ended = outcome
        if order is None or order == known.decided[-1] or coordinator.target.live != order[1]:
            return
        if not (coordinator.decided == order[0] or coordinator.outcome(self.now) == _done(order)):
            return
        members = coordinator.versions(self.now)
        for member in self.members:
            if member.name in members and member.name in self.heard:
                assert order[1] in (member.buffer.version, member.buffer.prepared), member.name
        known.decided.append(order)
        for member in self.members:
            if member.buffer.version == order[1]:
                member.seen = len(known.decided)

    @invariant()
    def what_is_decided_stands(self) -> None:
        decided = self.known.decided
        for member in self.members:
            version = member.buffer.version
            assert version is None or version in {v for _, v in decided} | {self.known.live}
            if version is not None and member.seen == len(decided):
                assert member.buffer.predict(ROWS).version == decided[-1][1], member.name

    def teardown(self) -> None:
        """Let all faults end: no swap is stuck, and all answer with one version."""
        if not hasattr(self, "coordinator"):
            return
        if not self.members:
            self.join()
        for _ in range(30):
            for index, member in enumerate(self.members):
                if member.loading is not None:
                    self.finish(index, sound=True)
                self.poll(index, lost=False)
                self.what_is_decided_stands()
            self.settle()
            self.now += 1
        assert self.known.order is None
        assert self.known.live == self.known.decided[-1][1] == self.coordinator.target.live
        for member in self.members:
            status = member.status()
            assert (status.swap_id, status.prepared_version) == ("", None)
            assert member.buffer.predict(ROWS).version == self.known.live
            wanted = self.coordinator.target
            held = member.held or Assignment(self.known.live)
            assert (member.trial, held) == (wanted.trial, wanted.assignment)


def _done(order: tuple[str, int]) -> Done:
    return Done(order[0], Assignment(order[1]))


@lengths
def test_decided_swaps_stand_and_no_swap_is_stuck(length: settings) -> None:
    run(Swapping, length)
