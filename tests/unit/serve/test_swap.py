from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from undrift.records import Assignment
from undrift.serve.settings import SwapSettings
from undrift.serve.swap import (
    Abort,
    Command,
    Commit,
    Done,
    Failed,
    Hold,
    Load,
    Pending,
    Prepare,
    ReplicaStatus,
    SwapCoordinator,
    Target,
)

SETTINGS = SwapSettings(lease_s=5, start_grace_s=30, prepare_timeout_s=20)
V1, V2, V3 = (Target(Assignment(v), (f"hash{v}",)) for v in (1, 2, 3))


@dataclass
class Replica:
    """Obeys commands as a replica does, with the outcome of loading chosen by the test."""

    id: str
    status: ReplicaStatus = field(default_factory=lambda: ReplicaStatus(1))
    target: Target | None = None  # being prepared, or loaded

    def obey(self, command: Command | None) -> None:
        match command:
            case Prepare(swap_id, target):
                self.target = target
                self.status = ReplicaStatus(self.status.live_version, swap_id)
            case Commit():
                assert self.status.prepared_version is not None
                self.status = ReplicaStatus(self.status.prepared_version)
            case Abort(swap_id):
                assert swap_id == self.status.swap_id
                self.target = None
                self.status = ReplicaStatus(self.status.live_version)
            case Load(target):
                self.target = None
                self.status = ReplicaStatus(target.live)

    def finish(self, error: str = "") -> None:
        assert self.target is not None
        version = None if error else self.target.live
        self.status = replace(self.status, prepared_version=version, error=error)
        self.target = None


def coordinator(live: Target = V1) -> SwapCoordinator:
    return SwapCoordinator(live, SETTINGS)


def poll(c: SwapCoordinator, r: Replica, now: float) -> Command | None:
    command = c.poll(r.id, r.status, now)
    r.obey(command)
    return command


def test_all_prepare_before_any_commits() -> None:
    c, a, b = coordinator(), Replica("a"), Replica("b")
    assert (poll(c, a, 0), poll(c, b, 0), c.outcome(0)) == (None, None, None)
    c.begin("s", V2, 1)
    assert poll(c, a, 1) == Prepare("s", V2)
    assert poll(c, b, 1) == Prepare("s", V2)
    a.finish()
    assert poll(c, a, 2) is None
    assert poll(c, b, 2) is None
    assert c.outcome(2) == Pending("s", ("b",))
    b.finish()
    assert poll(c, b, 3) == Commit("s")
    assert poll(c, a, 3) == Commit("s")
    assert c.outcome(3) == Pending("s", ("a", "b"))
    assert (poll(c, a, 4), poll(c, b, 4)) == (None, None)
    assert c.outcome(4) == Done("s", Assignment(2))
    assert c.target == V2
    assert c.versions(4) == {"a": 2, "b": 2}


def test_error_of_one_replica_aborts_all() -> None:
    c, a, b = coordinator(), Replica("a"), Replica("b")
    poll(c, a, 0)
    poll(c, b, 0)
    c.begin("s", V2, 0)
    poll(c, a, 1)
    poll(c, b, 1)
    a.finish()
    b.finish(error="head.bias is missing")
    assert poll(c, a, 2) is None
    assert poll(c, b, 2) == Abort("s")
    assert c.outcome(2) == Failed("s", "replica b: head.bias is missing")
    assert poll(c, a, 3) == Abort("s")
    assert (poll(c, a, 4), poll(c, b, 4)) == (None, None)
    assert c.versions(4) == {"a": 1, "b": 1}


def test_no_replica_at_all_waits_then_fails() -> None:
    c = coordinator()
    c.begin("s", V2, 0)
    assert c.outcome(19) == Pending("s", ())
    assert c.outcome(20) == Failed("s", "no replica answered within 20 s")


def test_slow_replica_fails_the_swap_at_the_deadline() -> None:
    c, a = coordinator(), Replica("a")
    c.begin("s", V2, 0)
    for now in range(20):
        poll(c, a, now)
    assert c.outcome(20) == Failed("s", "a not ready within 20 s")
    assert poll(c, a, 20) == Abort("s")


def test_silent_replica_is_left_out_after_its_lease() -> None:
    c, a, b = coordinator(), Replica("a"), Replica("b")
    poll(c, b, 0)
    c.begin("s", V2, 0)
    poll(c, a, 0)
    a.finish()
    assert poll(c, a, 4) is None
    assert poll(c, a, 5) == Commit("s")
    poll(c, a, 6)
    assert c.outcome(6) == Done("s", Assignment(2))
    assert poll(c, b, 7) == Load(V2)


def test_registered_replica_is_waited_for_once_it_has_reported() -> None:
    c, a = coordinator(), Replica("a")
    c.begin("s", V2, 0)
    poll(c, a, 0)
    new = Replica("new", ReplicaStatus(None))
    c.register("new", 0)
    assert poll(c, new, 1) == Load(V1)
    assert poll(c, new, 1) == Prepare("s", V2)
    a.finish()
    assert poll(c, a, 2) is None
    assert c.outcome(2) == Pending("s", ("new",))


def test_registering_again_does_not_forget_what_was_reported() -> None:
    c, a = coordinator(), Replica("a")
    poll(c, a, 0)
    c.register("a", 1)
    assert c.versions(1) == {"a": 1}


def test_replica_joining_after_the_decision_reaches_the_target_before_done() -> None:
    c, a = coordinator(), Replica("a")
    c.begin("s", V2, 0)
    poll(c, a, 0)
    a.finish()
    assert poll(c, a, 1) == Commit("s")
    new = Replica("new", ReplicaStatus(None))
    assert poll(c, new, 1) == Load(V2)
    poll(c, a, 2)
    assert c.outcome(2) == Pending("s", ("new",))
    poll(c, new, 2)
    assert c.outcome(2) == Done("s", Assignment(2))


def test_decided_swap_is_never_given_up() -> None:
    c, a, b = coordinator(), Replica("a"), Replica("b")
    poll(c, b, 0)
    c.begin("s", V2, 0)
    poll(c, a, 0)
    poll(c, b, 0)
    a.finish()
    b.finish()
    poll(c, a, 1)
    assert poll(c, b, 1) == Commit("s")
    assert c.outcome(1_000) == Pending("s", ())  # all died; the next one to come decides
    assert poll(c, Replica("c", ReplicaStatus(None)), 1_001) == Load(V2)


def test_newer_swap_overtakes_the_older() -> None:
    c, a = coordinator(), Replica("a")
    c.begin("s", V2, 0)
    poll(c, a, 0)
    a.finish()
    c.begin("t", V3, 1)
    assert poll(c, a, 1) == Abort("s")
    assert poll(c, a, 1) == Prepare("t", V3)
    a.finish()
    assert poll(c, a, 2) == Commit("t")
    poll(c, a, 2)
    assert c.outcome(2) == Done("t", Assignment(3))


def test_newer_swap_carries_on_from_a_decided_one() -> None:
    c, a, b = coordinator(), Replica("a"), Replica("b")
    poll(c, b, 0)
    c.begin("s", V2, 0)
    poll(c, a, 0)
    poll(c, b, 0)
    a.finish()
    b.finish()
    poll(c, a, 1)
    assert poll(c, b, 1) == Commit("s")
    c.begin("t", V3, 1)
    assert poll(c, a, 2) == Abort("s")
    assert poll(c, a, 2) == Load(V2)
    assert poll(c, a, 2) == Prepare("t", V3)
    assert poll(c, b, 2) == Prepare("t", V3)


def test_swap_back_waits_for_replicas_that_were_just_told_to_flip() -> None:
    c, a = coordinator(), Replica("a")
    c.begin("s", V2, 0)
    poll(c, a, 0)
    a.finish()
    assert poll(c, a, 1) == Commit("s")
    c.begin("t", V1, 1)
    assert c.outcome(1) == Pending("t", ("a",))
    assert poll(c, a, 1) == Prepare("t", V1)


def test_beginning_a_swap_again_does_nothing() -> None:
    c, a = coordinator(), Replica("a")
    c.begin("s", V2, 0)
    poll(c, a, 0)
    c.begin("s", V2, 19)
    assert isinstance(c.outcome(20), Failed)
    c.begin("s", V2, 20)
    assert isinstance(c.outcome(20), Failed)


def test_swap_to_the_live_version_is_done_at_once() -> None:
    c, a = coordinator(), Replica("a")
    poll(c, a, 0)
    c.begin("s", V1, 0)
    assert c.outcome(0) == Done("s", Assignment(1))


@pytest.mark.parametrize("live", [None, 2, 7])
def test_replica_on_another_version_is_told_to_load(live: int | None) -> None:
    assert coordinator().poll("a", ReplicaStatus(live), 0) == Load(V1)


def test_restarted_coordinator_clears_what_was_prepared_and_converges() -> None:
    c = coordinator()
    a = Replica("a", ReplicaStatus(1, "s", prepared_version=2))
    b = Replica("b", ReplicaStatus(2))
    assert poll(c, a, 0) == Abort("s")
    assert poll(c, a, 0) is None
    assert poll(c, b, 0) == Load(V1)


def test_restarted_coordinator_finishes_the_swap_that_it_begins_again() -> None:
    c = SwapCoordinator(V1, SETTINGS, expected=2, patience=5)
    c.begin("s", V2, 0)
    a = Replica("a", ReplicaStatus(1, "s", prepared_version=2))
    b = Replica("b", ReplicaStatus(2))
    assert poll(c, b, 0) is None
    assert poll(c, a, 0) == Commit("s")
    poll(c, a, 1)
    assert c.outcome(1) == Done("s", Assignment(2))


@pytest.mark.parametrize("all_polled", [True, False])
def test_restarted_coordinator_waits_for_all_replicas_or_one_lease(all_polled: bool) -> None:
    c = SwapCoordinator(V1, SETTINGS, expected=2, patience=5)
    c.begin("s", V2, 0)
    a = Replica("a", ReplicaStatus(2))
    poll(c, a, 4)
    assert isinstance(c.outcome(4), Pending)
    last, now = (Replica("b", ReplicaStatus(2)), 4) if all_polled else (a, 5)
    poll(c, last, now)
    assert c.outcome(now) == Done("s", Assignment(2))


def test_restarted_coordinator_lets_a_decided_swap_stand_though_a_newcomer_fails() -> None:
    c = SwapCoordinator(V1, SETTINGS, expected=1, patience=5)
    c.begin("s", V2, 0)
    new = Replica("new", ReplicaStatus(None))
    assert poll(c, new, 0) == Load(V1)
    assert poll(c, new, 0) == Prepare("s", V2)
    new.finish("disk full")
    assert poll(c, new, 1) is None
    assert c.outcome(1) == Pending("s", ("new",))
    assert poll(c, Replica("a", ReplicaStatus(2, committed="s")), 2) is None
    assert (c.decided, c.target) == ("s", V2)
    assert poll(c, new, 3) == Abort("s")
    assert poll(c, new, 3) == Load(V2)


def test_restarted_coordinator_gives_a_swap_up_once_it_has_heard_all() -> None:
    c = SwapCoordinator(V1, SETTINGS, expected=1, patience=5)
    c.begin("s", V2, 0)
    a = Replica("a", ReplicaStatus(1, "s", error="disk full"))
    assert poll(c, a, 4) is None
    assert poll(c, a, 5) == Abort("s")
    assert c.outcome(5) == Failed("s", "replica a: disk full")


BESIDE = Target(Assignment(1, canary=2, share=0.1), ("hash1", "hash2"), "run-7")


def holding(target: Target = BESIDE) -> ReplicaStatus:
    return ReplicaStatus(1, trial=target.trial, assignment=target.assignment)


def test_every_replica_is_told_what_to_hold_beside_until_it_says_that_it_does() -> None:
    swaps = coordinator()
    assert swaps.poll("a", ReplicaStatus(1), 0.0) is None
    swaps.hold(BESIDE)
    assert swaps.poll("a", ReplicaStatus(1), 1.0) == Hold(BESIDE)
    assert swaps.poll("b", ReplicaStatus(None), 1.0) == Load(BESIDE), "the live version first"
    assert swaps.poll("b", ReplicaStatus(1), 1.0) == Hold(BESIDE)
    assert swaps.poll("a", holding(), 2.0) is None
    more = replace(BESIDE, assignment=Assignment(1, canary=2, share=0.5))
    swaps.hold(more)
    assert swaps.poll("a", holding(), 3.0) == Hold(more)
    swaps.hold(V1)
    assert swaps.poll("a", holding(more), 4.0) == Hold(V1)
    assert swaps.poll("a", holding(V1), 5.0) is None


def test_what_a_replica_says_is_wrong_is_heard_of_this_rollout_alone() -> None:
    swaps = coordinator(BESIDE)
    swaps.poll("a", holding(), 0.0)
    assert swaps.fault("run-7") == ""
    swaps.poll("b", replace(holding(), fault="it answered NaN"), 0.0)
    assert swaps.fault("run-7") == "replica b: it answered NaN"
    assert swaps.fault("run-8") == ""


def test_what_was_tried_is_let_go_before_another_version_is_prepared() -> None:
    swaps = coordinator(BESIDE)
    swaps.begin("s", V3, 0.0)
    swaps.hold(V1)
    assert swaps.poll("a", holding(), 0.0) == Hold(V1)
    assert swaps.poll("a", holding(V1), 1.0) == Prepare("s", V3)


def test_nothing_is_held_beside_a_live_version_that_is_being_left_for_good() -> None:
    swaps = coordinator()
    swaps.begin("s", V2, 0.0)
    assert swaps.poll("a", ReplicaStatus(1), 0.0) == Prepare("s", V2)
    assert swaps.poll("a", ReplicaStatus(1, "s", 2), 1.0) == Commit("s")
    swaps.hold(BESIDE)
    assert swaps.poll("a", ReplicaStatus(2, committed="s"), 2.0) is None
    assert swaps.target == V2
