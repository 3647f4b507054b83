"""The controller's actor in this process, without Ray, and a replica that obeys it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from ray.actor import ActorHandle

from undrift.control.actor import ControllerActor
from undrift.control.settings import LifecycleSettings
from undrift.serve.settings import ServeSettings
from undrift.serve.swap import Abort, Commit, Load, Prepare, ReplicaStatus
from undrift.views import StatusView

Body = Callable[[ControllerActor], Coroutine[Any, Any, None]]


class Absent:
    """A handle of an actor that never answers."""

    def __getattr__(self, name: str) -> Absent:
        return self

    def remote(self, *_: Any) -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_future()


class Here:
    """A handle of an actor that lives in this process."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=partial(_called, getattr(self._actor, name)))


async def _called(method: Callable[..., Any], *args: Any) -> Any:
    found = method(*args)
    return await found if inspect.isawaitable(found) else found


def controlling(
    root: Path,
    body: Body,
    policy: LifecycleSettings | None = None,
    monitor: Callable[[], Any] = Absent,
    serve: ServeSettings | None = None,
    *,
    held: bool = True,
) -> None:
    """Run a controller until ``body`` is done.

    Args:
        root: The model's folder of the state.
        body: What to do with the controller.
        policy: The lifecycle section of the configuration.
        monitor: Makes the handle of the monitor.
        serve: The serve section of the configuration.
        held: Whether there is a replica, which does as it is told.
    """

    async def run() -> None:
        actor = ControllerActor(
            root,
            "m",
            policy or LifecycleSettings(),
            serve or ServeSettings(replicas=1),
            cast("ActorHandle[Any]", monitor()),
            cast("ActorHandle[Any]", Absent()),
        )
        replica = asyncio.create_task(holding(actor) if held else asyncio.sleep(0))
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
    """Wait for a status, and return it."""
    while not wanted(status := actor.status()):
        await asyncio.sleep(0.01)
    return status
