"""The controller's shell without Ray: what becomes of it when the journal refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, cast

import pytest
from ray.actor import ActorHandle

from tests.helpers.recording import two_versions
from undrift.control import actor as module
from undrift.control.actor import ControllerActor
from undrift.control.settings import LifecycleSettings
from undrift.control.state import Phase
from undrift.control.story import recover
from undrift.errors import StoreError
from undrift.serve.settings import ServeSettings
from undrift.serve.swap import Abort, Commit, Load, Prepare, ReplicaStatus
from undrift.store.journal import Journal
from undrift.views import StatusView


class Absent:
    """A handle of an actor that never answers."""

    def __getattr__(self, name: str) -> Absent:
        return self

    def remote(self, *_: Any) -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_future()


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


Body = Callable[[ControllerActor], Coroutine[Any, Any, None]]


def controlling(root: Path, body: Body) -> None:
    async def run() -> None:
        absent = cast("ActorHandle[Any]", Absent())
        settings = ServeSettings(replicas=1)
        actor = ControllerActor(root, "m", LifecycleSettings(), settings, absent, absent)
        replica = asyncio.create_task(holding(actor))
        async with asyncio.timeout(60):
            await body(actor)
        replica.cancel()
        actor._loop.cancel()

    asyncio.run(run())


async def holding(actor: ControllerActor) -> None:
    """Do as a replica does."""
    actor.register("r")
    status = ReplicaStatus(1)
    while True:
        command = await actor.poll("r", status, {})
        if isinstance(command, Prepare):
            live = command.target.live
            status = ReplicaStatus(status.live_version, command.swap_id, live)
        elif isinstance(command, Commit):
            status = ReplicaStatus(status.prepared_version)
        elif isinstance(command, Load):
            status = ReplicaStatus(command.target.live)
        elif isinstance(command, Abort):
            status = ReplicaStatus(status.live_version)


async def until(actor: ControllerActor, wanted: Callable[[StatusView], bool]) -> StatusView:
    while not wanted(status := actor.status()):
        await asyncio.sleep(0.01)
    return status


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "ROUND_S", 0.02)
    monkeypatch.setattr("undrift.control.replicas.POLL_S", 0.05)
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


def events(root: Path) -> list[dict[str, Any]]:
    return Journal(root).read()
