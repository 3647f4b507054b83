from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from undrift.control.replicas import Replicas
from undrift.records import Assignment
from undrift.serve.settings import SwapSettings
from undrift.serve.swap import (
    Commit,
    Done,
    Failed,
    Load,
    Pending,
    Prepare,
    ReplicaStatus,
    SwapCoordinator,
    Target,
)

V1, V2, V3 = (Target(Assignment(v), (f"hash{v}",)) for v in (1, 2, 3))
OLD = ReplicaStatus(1)
READY = ReplicaStatus(1, "s", 2)
LEAVING = ReplicaStatus(1, leaving=True)


def two_members() -> SwapCoordinator:
    c = SwapCoordinator(V1, SwapSettings(lease_s=5, start_grace_s=30, prepare_timeout_s=20))
    c.poll("a", OLD, 0)
    c.poll("b", OLD, 0)
    return c


def test_swap_is_neither_decided_nor_given_up_while_another_may_be_asked_for() -> None:
    c = two_members()
    c.begin("s", V2, 0)
    c.undecided = True
    for now in (1, 25):
        c.poll("b", READY, now)
        assert c.poll("a", READY, now) is None
    assert (c.outcome(25), c.decided, c.target) == (Pending("s", ()), "", V1)
    c.undecided = False
    assert c.poll("a", READY, 25) == Commit("s")
    assert c.decided == "s"


def test_replica_that_cannot_load_the_live_version_is_brought_to_the_next() -> None:
    c = SwapCoordinator(V1, SwapSettings())
    empty, damaged = ReplicaStatus(None), ReplicaStatus(None, error="weights of 1 are damaged")
    assert c.poll("a", empty, 0) == Load(V1)
    assert c.poll("a", damaged, 1) == Load(V1)
    c.begin("s", V2, 1)
    assert c.poll("a", damaged, 1) == Prepare("s", V2)
    assert c.poll("a", ReplicaStatus(None, "s"), 1) is None
    assert c.poll("a", ReplicaStatus(None, "s", 2), 2) == Commit("s")
    c.poll("a", ReplicaStatus(2), 2)
    assert c.outcome(2) == Done("s", Assignment(2))


def test_replicas_that_never_report_hold_up_no_swap() -> None:
    c = SwapCoordinator(V1, SwapSettings())
    c.begin("s", V2, 0)
    for n in range(5):  # one that dies while it starts, again and again
        c.register(f"new-{n}", 0)
    assert c.poll("a", READY, 1) == Commit("s")
    c.poll("a", ReplicaStatus(2), 1)
    assert c.outcome(1) == Done("s", Assignment(2))
    assert c.poll("new-4", ReplicaStatus(None), 2) == Load(V2)


def test_no_lease_runs_while_nobody_could_be_heard() -> None:
    c = two_members()
    c.begin("s", V2, 0)
    c.extend(10)
    assert c.poll("a", READY, 12) is None
    assert c.outcome(12) == Pending("s", ("b",))


def test_process_that_was_late_lets_no_lease_run_out() -> None:
    async def run() -> None:
        settings = SwapSettings(lease_s=0.5)
        replicas = Replicas(SwapCoordinator(V1, settings), lambda: None)
        replicas.register("b")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(replicas.poll("b", OLD, {}), 0.01)
        time.sleep(2.0)  # the whole process stands still
        assert replicas.versions() == {"b": 1}
        while replicas.versions():  # and when it runs again, leases do
            await asyncio.sleep(0.01)

    asyncio.run(run())


def test_replica_that_prepares_is_not_held_until_its_next_poll(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("undrift.control.replicas.POLL_S", 600.0)

    async def run() -> None:
        replicas = Replicas(SwapCoordinator(V1, SwapSettings()), lambda: None)
        replicas.begin("s", V2)
        async with asyncio.timeout(60):
            for _ in range(3):
                assert await replicas.poll("a", ReplicaStatus(1, "s"), {}) is None
            assert await replicas.poll("a", READY, {}) == Commit("s")

    asyncio.run(run())


def test_replica_that_leaves_is_not_waited_for_while_preparing() -> None:
    c = two_members()
    c.begin("s", V2, 0)
    assert c.poll("b", OLD, 0) == Prepare("s", V2)
    assert c.poll("a", READY, 1) is None
    assert c.outcome(1) == Pending("s", ("b",))
    assert c.poll("b", LEAVING, 1) is None
    assert c.target == V2
    assert c.poll("a", READY, 1) == Commit("s")
    c.poll("a", ReplicaStatus(2), 1)
    assert c.outcome(1) == Done("s", Assignment(2))


def test_replica_that_leaves_is_not_waited_for_while_committing() -> None:
    c = two_members()
    c.begin("s", V2, 0)
    c.poll("a", READY, 1)
    assert c.poll("b", READY, 1) == Commit("s")
    c.poll("a", ReplicaStatus(2), 1)
    assert c.outcome(1) == Pending("s", ("b",))
    c.poll("b", LEAVING, 1)
    assert c.outcome(1) == Done("s", Assignment(2))


def test_older_poll_of_a_replica_that_left_does_not_bring_it_back() -> None:
    c = two_members()
    c.poll("b", LEAVING, 1)
    assert c.poll("b", OLD, 2) is None
    assert c.versions(2) == {"a": 1}


def test_last_replica_that_leaves_does_not_decide_a_swap() -> None:
    c = two_members()
    c.begin("s", V2, 0)
    c.poll("a", LEAVING, 1)
    c.poll("b", LEAVING, 1)
    assert c.target == V1
    assert isinstance(c.outcome(20), Failed)
