"""What a replica does as the controller commands, and tells when it fails, without Ray."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from ray.actor import ActorHandle
from ray.exceptions import RaySystemError

from tests.helpers.controlling import Here
from tests.helpers.streams import Stream
from undrift.errors import StoreError
from undrift.records import Assignment
from undrift.serve import follower as module
from undrift.serve.candidate import Candidate
from undrift.serve.follower import Follower, check_running
from undrift.serve.metrics import Snapshot
from undrift.serve.settings import ServeSettings, SwapSettings
from undrift.serve.slots import DoubleBuffer
from undrift.serve.swap import Command, Done, Failed, ReplicaStatus, SwapCoordinator, Target
from undrift.store.store import Store

PROBE = np.zeros((2, 2), np.float32)


class Picky(torch.nn.Sequential):
    """A model that cannot digest the probe, once it is told so."""

    broken = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if Picky.broken:
            raise RuntimeError("CUDA out of memory")
        found: torch.Tensor = super().forward(x)
        return found


def build() -> torch.nn.Module:
    return Picky(torch.nn.Linear(2, 2))


class Forgetful(DoubleBuffer):
    """Has dropped what it prepared by the time of the first commit of version 2."""

    forgets = True

    def commit(self, version: int) -> None:
        if version == 2 and self.forgets:
            self.forgets = False
            self.abort()
        super().commit(version)


class Controller:
    """A swap coordinator that is polled; `troubles` are raised first, one at a poll."""

    def __init__(self, store: Store, *troubles: Exception) -> None:
        self.hashes = {m.version: m.hash for m in store.versions()}
        self.swaps = SwapCoordinator(self.target(1), SwapSettings())
        self.troubles = list(troubles)
        self.told: set[str] = set()  # errors of the replica
        self.committed: set[str] = set()  # swaps that it says it has carried out
        self.now = 0.0
        self.status = ReplicaStatus(None)

    def target(self, version: int) -> Target:
        return Target(Assignment(version), (self.hashes[version],))

    def register(self, replica: str) -> None:
        self.swaps.register(replica, self.now)

    async def poll(self, replica: str, status: ReplicaStatus, _: Snapshot) -> Command | None:
        await asyncio.sleep(0)
        if self.troubles:
            raise self.troubles.pop(0)
        self.told.add(status.error)
        self.status = status
        self.committed.add(status.committed)
        return self.swaps.poll(replica, status, self.now)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(module, "RETRY_S", 0.001)
    monkeypatch.setattr(Picky, "broken", False)
    store = Store(tmp_path)
    for seed in (0, 1):
        store.add_version(
            build().state_dict(),
            parent=None,
            reference=Stream(seed).reference(200),
            metrics={},
            plan=None,
        )
    return store


def follow(
    store: Store, controller: Controller, *steps: Callable[[Follower, DoubleBuffer], bool]
) -> None:
    """Let a replica follow until each step was seen, one after the other; it must not end."""

    async def run() -> None:
        models = Forgetful(build)
        handle = cast("ActorHandle[Any]", Here(controller))
        follower = Follower("r", handle, models, store, PROBE, Candidate(models, 2.0))
        task = asyncio.create_task(follower.run(dict), name="following")
        async with asyncio.timeout(30):
            for step in steps:
                while not step(follower, models):
                    await asyncio.sleep(0.001)
                    check_running([task])

    asyncio.run(run())


def loaded(_: Follower, models: DoubleBuffer) -> bool:
    return models.version == 1


def test_live_version_that_the_model_itself_refuses_is_told_counted_and_tried_again(
    store: Store,
) -> None:
    controller, Picky.broken = Controller(store), True

    def mended(follower: Follower, models: DoubleBuffer) -> bool:
        Picky.broken = Picky.broken and follower.failures < 3
        return models.version == 1 and follower.failures == 0

    follow(store, controller, mended)
    said = "RuntimeError: CUDA out of memory (test_follower.py, line 41)"
    assert controller.told == {"", f"Picky fails on input of shape [2, 2]: {said}"}


def test_swap_fails_with_what_the_model_said(store: Store) -> None:
    controller = Controller(store)

    def refused(_: Follower, models: DoubleBuffer) -> bool:
        Picky.broken = True
        controller.swaps.begin("s", controller.target(2), controller.now)
        outcome = controller.swaps.outcome(controller.now)
        return isinstance(outcome, Failed) and "CUDA out of memory" in outcome.reason

    def goes_on(follower: Follower, models: DoubleBuffer) -> bool:
        return models.version == 1 and follower.failures == 0 and not follower.error

    follow(store, controller, loaded, refused, goes_on)


def test_commit_that_fails_is_told_and_the_version_is_loaded(store: Store) -> None:
    controller = Controller(store)

    def swapped(_: Follower, models: DoubleBuffer) -> bool:
        controller.swaps.begin("s", controller.target(2), controller.now)
        return models.version == 2

    def swapped_back(_: Follower, models: DoubleBuffer) -> bool:
        controller.swaps.begin("t", controller.target(1), controller.now)
        return "t" in controller.committed

    follow(store, controller, loaded, swapped, swapped_back)
    assert controller.told == {"", "version 2 is not prepared (prepared: None, live: 1)"}
    assert controller.committed == {"", "t"}


def beside(controller: Controller, trial: str = "run-7") -> Target:
    held = Assignment(1, canary=2, share=0.5)
    return Target(held, (controller.hashes[1], controller.hashes[2]), trial)


def trying(controller: Controller) -> Callable[[Follower, DoubleBuffer], bool]:
    def step(follower: Follower, models: DoubleBuffer) -> bool:
        controller.swaps.hold(beside(controller))
        return controller.status.assignment == beside(controller).assignment

    return step


def test_version_that_is_tried_is_loaded_beside_and_taken_up_by_the_swap(store: Store) -> None:
    controller, slots = Controller(store), []

    def swapped(follower: Follower, models: DoubleBuffer) -> bool:
        assert isinstance(models, Forgetful)
        models.forgets = False
        slots.append(follower._candidate.loaded("run-7", 2) or slots[0])
        shutil.rmtree(store.weights_path(1).parent.parent / "2", ignore_errors=True)
        controller.swaps.begin("s", controller.target(2), controller.now)
        return models.version == 2 and controller.status.trial == ""

    follow(store, controller, loaded, trying(controller), swapped)
    assert slots[0] is not None
    assert (slots[0].version, slots[0].hash) == (2, controller.hashes[2])
    assert controller.status.assignment == Assignment(2)
    assert controller.told == {""}, "it was read once, and is gone by now"


@pytest.mark.parametrize("how", ["truncated", "no room"])
def test_version_that_cannot_be_loaded_is_a_fault_and_the_live_one_answers_on(
    store: Store, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    controller = Controller(store)
    if how == "truncated":
        path = store.weights_path(2)
        path.write_bytes(path.read_bytes()[:40])
    else:
        monkeypatch.setattr("undrift.serve.room.COPIES", 10**12)

    def told(follower: Follower, models: DoubleBuffer) -> bool:
        return bool(controller.swaps.fault("run-7")) and models.version == 1

    follow(store, controller, loaded, trying(controller), told)
    expected = {"truncated": "is damaged", "no room": "memory are left: it is not loaded"}[how]
    assert "it cannot be loaded" in controller.status.fault
    assert expected in controller.status.fault
    assert controller.told == {""}, "nothing is wrong with the live version"


def test_version_that_was_called_off_cannot_be_swapped_in_by_the_same_rollout(
    store: Store,
) -> None:
    controller = Controller(store)

    def refused(follower: Follower, models: DoubleBuffer) -> bool:
        slot = follower._candidate.loaded("run-7", 2)
        assert slot is not None
        follower._candidate.call_off(slot, "it answered NaN")
        controller.swaps.begin("s", controller.target(2), controller.now)
        outcome = controller.swaps.outcome(controller.now)
        assert not isinstance(outcome, Done)
        return isinstance(outcome, Failed) and "was called off: it answered NaN" in outcome.reason

    follow(store, controller, loaded, trying(controller), refused)


def test_controller_that_fails_in_whatever_way_is_polled_again(store: Store) -> None:
    follow(store, Controller(store, RaySystemError("the object store is full")), loaded)


def test_task_that_has_ended_is_named_with_its_cause(store: Store) -> None:
    controller = Controller(store, ValueError("nobody thought of this"))
    with pytest.raises(StoreError, match=r"following has ended: ValueError\('nobody thought"):
        follow(store, controller, loaded)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray Serve's, as it is imported
def test_replica_that_has_lost_a_task_or_cannot_load_fails_its_health_check() -> None:
    from undrift.serve.replica import ModelReplica

    check = ModelReplica.func_or_class.check_health

    async def run() -> None:
        ending, going = (asyncio.create_task(asyncio.sleep(s), name="delivery") for s in (0, 60))
        replica = SimpleNamespace(
            _background=(ending, going),
            _follower=SimpleNamespace(failures=0, error="torn"),
            _settings=ServeSettings(),
        )
        await check(replica)
        replica._settings = ServeSettings(max_replica_bytes=2**28)  # PyTorch alone takes more
        with pytest.raises(StoreError, match="max_replica_bytes allows 268"):
            await check(replica)
        replica._settings = ServeSettings()
        replica._follower.failures = 3
        with pytest.raises(StoreError, match="cannot load the live version: torn"):
            await check(replica)
        replica._follower.failures = 0
        await ending
        with pytest.raises(StoreError, match="delivery has ended"):
            await check(replica)
        going.cancel()

    asyncio.run(run())
