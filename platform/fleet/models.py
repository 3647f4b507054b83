"""One model among several: checked in a process of its own, started, awaited and ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from ray import serve
from ray.exceptions import GetTimeoutError, RayError, RayTaskError
from ray.serve.api import RunTarget
from ray.serve.exceptions import RayServeException

from undrift.actors import (
    READY_TIMEOUT_S,
    application_name,
    await_ready,
    bind,
    check_alive,
    retire,
    start_actors,
    trouble,
)
from undrift.app import prepare_state
from undrift.config import Config
from undrift.errors import PlatformError, UndriftError
from undrift.host.handle import Handle
from undrift.ids import new_id
from undrift.serve.tokens import digest

_ENDED = ("DEPLOY_FAILED", "UNHEALTHY")
_LOOK_S = 0.5


@dataclass
class Placed:
    """A model that was started.

    Attributes:
        config: What it was started with.
        actors: Its control plane.
        route: Where it answers.
        version: Of its Serve application.
    """

    config: Config
    actors: dict[str, Any]
    route: str
    version: str


class Checking:
    """A model's files are read, and its state prepared, in a process that ends with it.

    Two models may each have a module of one name, and a module can end the process that reads it.

    Args:
        config: The model's.
        handle: The platform.
        mend: Whether nothing writes to its state.
    """

    def __init__(self, config: Config, handle: Handle, *, mend: bool) -> None:
        task: Any = ray.remote(num_cpus=0, max_calls=1, max_retries=0)(prepare_state)
        root = config.model_in(handle.runfile.state)
        self._call, self._check = task.remote(config, root, mend=mend), handle.check

    def end(self) -> None:
        """Wait for it.

        Raises:
            UndriftError: The model cannot be served.
        """
        deadline = time.monotonic() + READY_TIMEOUT_S
        while True:
            self._check()
            try:
                ray.get(self._call, timeout=_LOOK_S)
                return
            except GetTimeoutError:
                if time.monotonic() > deadline:
                    ray.cancel(self._call, force=True)
                    raise PlatformError(
                        f"reading the model took longer than {READY_TIMEOUT_S:g} s"
                    ) from None
            except RayTaskError as error:
                cause = error.cause
                if isinstance(cause, UndriftError | OSError):
                    raise PlatformError(str(cause)) from None
                raise PlatformError(f"the model cannot be read: {cause!r}") from error
            except RayError as error:
                told = str(error).strip().splitlines()[0]
                raise PlatformError(f"the process that read the model ended: {told}") from None


def start(config: Config, handle: Handle, route: str) -> Placed:
    """Start a model that was checked; `await_model` says whether it answers.

    Raises:
        PlatformError: It does not start.
    """
    root = config.model_in(handle.runfile.state)
    actors = start_actors(config, {}, root, detached=False)
    placed = Placed(config, actors, route, new_id())
    run(placed, handle)
    return placed


def run(placed: Placed, handle: Handle) -> None:
    """Have Ray Serve run a model at its route; nothing is replaced if only the route is new."""
    config = placed.config
    application = bind(
        config,
        placed.actors,
        digest(handle.token),
        config.model_in(handle.runfile.state),
        loopback_only=True,
        version=placed.version,
    )
    run_at(application, application_name(config.model.name), placed.route)


def run_at(application: Any, name: str, route: str) -> None:
    """Have Ray Serve run an application; returns at once.

    Raises:
        PlatformError: It refuses.
    """
    try:
        serve.run_many(
            [RunTarget(application, name=name, route_prefix=route)],
            wait_for_ingress_deployment_creation=False,
            wait_for_applications_running=False,
        )
    except (RuntimeError, RayServeException) as error:
        raise PlatformError(f"Ray Serve does not run {name}: {error}") from error


def await_model(placed: Placed, handle: Handle) -> None:
    """Wait until a model answers.

    Raises:
        PlatformError: It does not.
    """
    name, looked = application_name(placed.config.model.name), 0.0

    def check() -> None:
        nonlocal looked
        handle.check()
        check_alive(placed.actors)
        if time.monotonic() > looked + _LOOK_S:
            check_application(name)
            looked = time.monotonic()

    await_ready(handle.url, handle.token, placed.config, check)


def await_application(name: str, check: Callable[[], None]) -> None:
    """Wait until Ray Serve says that an application runs.

    Raises:
        PlatformError: It does not.
    """
    deadline = time.monotonic() + READY_TIMEOUT_S
    while serve.status().applications[name].status != "RUNNING":
        check_application(name)
        check()
        if time.monotonic() > deadline:
            raise PlatformError(f"{name} did not start within {READY_TIMEOUT_S:g} s")
        time.sleep(0.1)


def check_application(name: str) -> None:
    """Raise PlatformError if Ray Serve has given an application up."""
    found = serve.status().applications.get(name)
    if found is not None and found.status in _ENDED:
        raise PlatformError(f"the replicas did not start: {trouble(name) or found.message}")


def end(name: str) -> None:
    """End a model: its requests first, then its control plane; its state stays."""
    if application_name(name) in serve.status().applications:
        serve.delete(application_name(name))
    retire(name)
