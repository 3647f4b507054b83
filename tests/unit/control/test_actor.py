"""The controller's shell without Ray: what becomes of it when something else fails."""

from __future__ import annotations

import asyncio
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.helpers.controlling import Here, controlling, until
from tests.helpers.recording import SETTINGS, two_versions
from undrift.control import actor as module
from undrift.control.actor import ControllerActor
from undrift.control.settings import LifecycleSettings, RolloutSettings
from undrift.control.state import Phase
from undrift.control.story import recover
from undrift.errors import RequestError, StoreError
from undrift.events import Codec, ProbationFailed, PromoteRequested
from undrift.evidence import RolloutView
from undrift.monitor.actor import MonitorActor
from undrift.records import Assignment
from undrift.serve.metrics import ReplicaMetrics
from undrift.serve.swap import Commit, Hold, ReplicaStatus
from undrift.store.journal import Journal


class Refusing:
    """Lets the journal refuse an event of one kind, some times, before or after it is written."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, kind: str, *, times: int = 1, written: bool = False
    ) -> None:
        self.left, append = times, Journal.append

        def refusing(journal: Journal, event: dict[str, Any], at: float) -> int:
            if event["type"] != kind or self.left == 0:
                return append(journal, event, at)
            self.left -= 1
            if written:
                append(journal, event, at)
            raise StoreError("cannot append to the table: No space left on device")

        monkeypatch.setattr(Journal, "append", refusing)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "ROUND_S", 0.02)
    monkeypatch.setattr("undrift.control.replicas.POLL_S", 0.05)
    monkeypatch.setattr("undrift.control.shelf.LOOK_S", 0.05)
    two_versions(tmp_path / "state")
    return tmp_path / "state"


def test_swap_is_told_again_until_the_journal_takes_it(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing = Refusing(monkeypatch, "Swapped", times=3)

    async def body(actor: ControllerActor) -> None:
        await actor.request("promote", {"version": 2})
        status = await until(actor, lambda s: s.phase != "swapping")
        assert (status.phase, status.live_version, refusing.left) == ("probation", 2, 0)

    controlling(root, body)


def test_start_with_a_journal_that_refuses_is_told_and_tried_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing = Refusing(monkeypatch, "Configured", times=3)

    async def body(actor: ControllerActor) -> None:
        status = await until(actor, lambda s: s.failures["controller"] != "")
        assert "No space left" in status.failures["controller"]
        await until(actor, lambda s: refusing.left == 0 and not s.failures["controller"])
        await actor.request("promote", {"version": 2})
        await until(actor, lambda s: s.phase == "probation")

    controlling(root, body)


def test_order_that_comes_twice_under_one_key_is_carried_out_once(root: Path) -> None:
    async def body(actor: ControllerActor) -> None:
        await actor.request("promote", {"version": 2})
        await until(actor, lambda s: s.phase == "probation")
        await asyncio.gather(*(actor.request("rollback", {}, "k") for _ in range(2)))
        status = await until(actor, lambda s: s.phase != "swapping")
        assert status.live_version == 1  # the second, as an order of its own, calls the first off

    controlling(root, body)


@pytest.mark.parametrize("written", [False, True])
def test_event_of_which_the_outcome_is_unknown_is_looked_up_before_the_next(
    root: Path, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    Refusing(monkeypatch, "PauseRequested", written=written)

    async def body(actor: ControllerActor) -> None:
        await until(actor, lambda s: s.failures["controller"] == "" and len(events(root)) == 1)
        with pytest.raises(StoreError):
            await actor.request("pause", {})
        if written:  # the pause holds: to resume is possible, and to pause is not
            await actor.request("resume", {})
        else:
            await actor.request("pause", {})
        live, _ = recover(Journal(root).read(), LifecycleSettings())
        assert actor.status().phase == live.phase.value
        assert live.phase == (Phase.HEALTHY if written else Phase.PAUSED)

    controlling(root, body)


def test_part_that_fails_is_told_and_logged_once_and_time_passes_all_the_same(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reference = root / "versions" / "2" / "reference.safetensors"
    kept = shutil.copy(reference, root / "kept")
    reference.write_bytes(b"damaged")

    async def body(actor: ControllerActor) -> None:
        await actor.request("promote", {"version": 2})
        await until(actor, lambda s: "re-arming: StoreError" in s.failures["controller"])
        status = await until(actor, lambda s: s.phase == "healthy")
        assert "re-arming: StoreError" in status.failures["controller"]
        assert status.counts["promoted"] == 1
        shutil.copy(kept, reference)
        await until(actor, lambda s: s.failures["controller"] == "")

    with caplog.at_level(logging.WARNING, "undrift"):
        policy = LifecycleSettings(probation_timeout_s=0.3)
        controlling(root, body, policy, lambda: Here(MonitorActor(root, SETTINGS, 1)))
    assert len([r for r in caplog.messages if r.startswith("re-arming")]) == 1


def test_version_that_cannot_be_read_is_refused_before_anything_is_recorded(root: Path) -> None:
    async def body(actor: ControllerActor) -> None:
        await until(actor, lambda s: len(events(root)) == 1)
        (root / "versions" / "2" / "model.safetensors").write_bytes(b"damaged")
        with pytest.raises(
            RequestError, match=r"version 2 cannot be served.*is damaged"
        ) as refused:
            await actor.request("promote", {"version": 2})
        assert refused.value.status == 409
        assert (actor.status().phase, len(events(root))) == ("healthy", 1)
        shutil.rmtree(root / "versions" / "2")
        with pytest.raises(RequestError, match="no version 2"):
            await actor.request("promote", {"version": 2})

    controlling(root, body)


def left_swapping(root: Path) -> None:
    """Leave a journal that ends with an order to swap."""
    Journal(root).append(Codec.encode(PromoteRequested(at=1.0, version=2)), at=1.0)


def test_swap_to_a_version_that_is_gone_has_failed_and_others_go_on(root: Path) -> None:
    left_swapping(root)
    shutil.rmtree(root / "versions" / "2")

    async def body(actor: ControllerActor) -> None:
        status = await until(actor, lambda s: s.phase == "healthy")
        assert "no model version 2" in status.events[-1].text
        await until(actor, lambda s: s.replicas == {"r": 1} and s.failures["controller"] == "")

    controlling(root, body)


def test_rollback_to_a_version_that_is_gone_leaves_the_live_one(root: Path) -> None:
    async def body(actor: ControllerActor) -> None:
        await actor.request("promote", {"version": 2})
        status = await until(actor, lambda s: s.phase == "probation")
        assert status.run is not None
        shutil.rmtree(root / "versions" / "1")
        await actor._deliver(ProbationFailed(at=1.0, run_id=status.run.run_id))
        status = await until(actor, lambda s: s.phase != "swapping")
        assert (status.phase, status.live_version) == ("healthy", 2)
        assert "no model version 1" in status.events[-1].text

    controlling(root, body)


def test_controller_starts_though_the_live_version_is_gone_and_leaves_it(root: Path) -> None:
    shutil.rmtree(root / "versions" / "1")

    async def body(actor: ControllerActor) -> None:
        assert "no model version 1" in actor.status().failures["controller"]
        await actor.request("promote", {"version": 2})
        await until(actor, lambda s: s.live_version == 2 and s.failures["controller"] == "")

    controlling(root, body)


def test_run_has_another_id_though_the_journal_lost_its_beginning(root: Path) -> None:
    seen = []

    async def body(actor: ControllerActor) -> None:
        await until(actor, lambda s: len(events(root)) == 1)
        run = (await actor.request("promote", {"version": 2})).run
        assert run is not None
        replayed, _ = recover(events(root), LifecycleSettings())
        assert replayed.run is not None
        assert replayed.run.run_id == run.run_id
        seen.append(run.run_id)

    for _ in range(2):
        controlling(root, body, held=False)
        shutil.rmtree(root / "tables")
    assert all(name.startswith("run-1.") for name in seen)
    assert seen[0] != seen[1]


def test_decision_stands_for_the_lifecycle_too_when_the_next_swap_fails(root: Path) -> None:
    two_versions(root)

    async def body(actor: ControllerActor) -> None:
        async def poll(status: ReplicaStatus) -> object:
            return await actor.poll("r", status, {})

        await until(actor, lambda s: len(events(root)) == 1)
        await poll(ReplicaStatus(1))
        first = (await actor.request("promote", {"version": 2})).run
        assert first is not None
        prepared = ReplicaStatus(1, first.run_id, prepared_version=2)
        assert await poll(prepared) == Commit(first.run_id)  # decided, and slow to follow
        status = await actor.request("promote", {"version": 3})
        assert (status.phase, status.live_version) == ("swapping", 2)
        assert status.run is not None
        await poll(ReplicaStatus(2))
        await poll(ReplicaStatus(2, status.run.run_id, error="out of memory"))
        status = await until(actor, lambda s: s.phase != "swapping")
        assert (status.live_version, status.replicas) == (2, {"r": 2})
        assert recover(events(root), LifecycleSettings())[0].live == 2

    controlling(root, body, held=False)


def events(root: Path) -> list[dict[str, Any]]:
    return Journal(root).read()


def counts(page: bytes) -> dict[str, float]:
    """Return the number of requests by version."""
    families = {f.name: f for f in text_string_to_metric_families(page.decode())}
    return {s.labels["version"]: s.value for s in families["undrift_requests"].samples}


def test_counts_of_replicas_that_left_are_summed_without_a_scrape_and_end_with_their_version(
    root: Path,
) -> None:
    metrics = ReplicaMetrics("m")
    for version in (1, 9):
        metrics.request(version, 200, 0.001)
    metrics.tap(offered=3, dropped=1)
    metrics.left_out(4)

    async def body(actor: ControllerActor) -> None:
        assert actor.status().answered_rows == 0
        for name in ("a", "b"):
            await actor.poll(name, ReplicaStatus(1, leaving=True), metrics.snapshot())
        await actor.poll("r", ReplicaStatus(1), {})
        while {"a", "b"} & actor._replicas._metrics.keys():
            await asyncio.sleep(0.01)
        assert counts(actor.metrics()) == {"1": 2}
        status = actor.status()
        assert (status.answered_rows, status.watched_rows) == (14, 6)
        await actor.request("promote", {"version": 2})
        await until(actor, lambda s: s.live_version == 2)
        assert counts(actor.metrics()) == {"1": 2}  # the version before

    controlling(root, body)


def test_damaged_version_is_told_and_only_asking_for_it_fails(root: Path) -> None:
    (root / "versions" / "2" / "manifest.json").write_bytes(b"{")

    async def body(actor: ControllerActor) -> None:
        status = await until(actor, lambda s: "version 2: " in s.failures["controller"])
        assert "undrift doctor" in status.failures["controller"]
        one, two = await actor.versions()
        assert (one.damage, two.version, two.hash) == ("", 2, "")
        assert "manifest.json is damaged" in two.damage
        assert (await actor.audit("1")).version == 1
        with pytest.raises(RequestError, match=r"version 2 cannot be read: .*is damaged"):
            await actor.audit("2")

    controlling(root, body)


@pytest.mark.parametrize("folded", [False, True])
def test_order_is_not_carried_out_again_after_a_restart(
    root: Path, monkeypatch: pytest.MonkeyPatch, folded: bool
) -> None:
    monkeypatch.setattr("undrift.control.memory.EVERY", 1 if folded else 500)

    async def first(actor: ControllerActor) -> None:
        await actor.request("promote", {"version": 2}, "k")
        await until(actor, lambda s: s.phase == "probation")

    async def second(actor: ControllerActor) -> None:
        assert (await actor.request("promote", {"version": 2}, "k")).phase == "probation"
        with pytest.raises(RequestError, match="already"):
            await actor.request("promote", {"version": 2}, "l")

    controlling(root, first)
    controlling(root, second)
    assert [e["type"] for e in events(root)].count("PromoteRequested") == 1


def test_order_that_was_recorded_though_that_failed_is_not_carried_out_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Refusing(monkeypatch, "PromoteRequested", written=True)

    async def body(actor: ControllerActor) -> None:
        with pytest.raises(StoreError):
            await actor.request("promote", {"version": 2}, "k")
        await actor.request("promote", {"version": 2}, "k")
        await until(actor, lambda s: s.phase == "probation")

    controlling(root, body)
    assert [e["type"] for e in events(root)].count("PromoteRequested") == 1


def trying(root: Path, *, fault: str = "") -> list[Any]:
    """Return what a rollout of version 2 comes to at a replica that does as it is told."""
    policy = LifecycleSettings(rollout=RolloutSettings(shadow_rows=5, canary_steps=(0.5,)))
    seen: list[Any] = []

    async def replica(actor: ControllerActor) -> None:
        status = ReplicaStatus(1)
        while True:
            command = await actor.poll("r", status, {})
            if isinstance(command, Hold):
                seen.append(command.target.assignment)
                trial = command.target.trial
                told = fault if trial else ""
                held = command.target.assignment
                status = ReplicaStatus(1, trial=trial, assignment=held, fault=told)
            await asyncio.sleep(0.01)

    async def body(actor: ControllerActor) -> None:
        task = asyncio.create_task(replica(actor))
        await until(actor, lambda s: s.replicas == {"r": 1})
        await actor.request("promote", {"version": 2, "strategy": "shadow"})
        if fault:
            await until(actor, lambda s: s.phase == "healthy")
        else:
            await until(actor, lambda s: s.rollout is not None and len(seen) > 0)
            seen.append(actor.status())
        await asyncio.sleep(0.1)
        task.cancel()

    controlling(root, body, policy, held=False)
    return seen


def test_rollout_is_shown_and_outlives_a_restart_of_the_controller(root: Path) -> None:
    held, status = trying(root)
    assert held == Assignment(1, shadow=2, share=1.0)
    assert (status.phase, status.live_version) == ("shadow", 1)
    assert status.rollout == RolloutView(
        version=2,
        stage="shadow",
        share=1.0,
        step=1,
        steps=2,
        since=status.rollout.since,
        wanted=5,
        next="canary",
    )

    async def body(actor: ControllerActor) -> None:
        assert actor.status().rollout == status.rollout
        command = await actor.poll("r", ReplicaStatus(1), {})
        assert isinstance(command, Hold)
        assert command.target.assignment == held

    controlling(root, body, held=False)


def test_fault_that_a_replica_tells_calls_the_version_off_and_it_is_let_go(root: Path) -> None:
    held, let_go = trying(root, fault="it gives answers that are not finite")
    assert (held.shadow, let_go) == (2, Assignment(1))
    _, story = recover(events(root), LifecycleSettings())
    assert "replica r: it gives answers that are not finite" in story.entries[-1].text
