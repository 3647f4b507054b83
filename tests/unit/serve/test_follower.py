"""What a replica does as the controller commands, and tells when it fails, without Ray."""

from __future__ import annotations

import asyncio
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
from undrift.serve.follower import Follower, check_running
from undrift.serve.metrics import Snapshot
from undrift.serve.settings import SwapSettings
from undrift.serve.slots import DoubleBuffer
from undrift.serve.swap import Command, Failed, ReplicaStatus, SwapCoordinator, Target
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

    def target(self, version: int) -> Target:
        return Target(Assignment(version), (self.hashes[version],))

    def register(self, replica: str) -> None:
        self.swaps.register(replica, self.now)

    async def poll(self, replica: str, status: ReplicaStatus, _: Snapshot) -> Command | None:
        await asyncio.sleep(0)
        if self.troubles:
            raise self.troubles.pop(0)
        self.told.add(status.error)
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
        follower = Follower("r", handle, models, store, PROBE)
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
    said = "RuntimeError: CUDA out of memory (test_follower.py, line 39)"
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
            _background=(ending, going), _follower=SimpleNamespace(failures=0, error="torn")
        )
        await check(replica)
        replica._follower.failures = 3
        with pytest.raises(StoreError, match="cannot load the live version: torn"):
            await check(replica)
        replica._follower.failures = 0
        await ending
        with pytest.raises(StoreError, match="delivery has ended"):
            await check(replica)
        going.cancel()

    asyncio.run(run())
