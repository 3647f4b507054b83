"""The actors and the Serve application of one model: started, awaited and ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from undrift.client import Client, own_certificate
from undrift.config import Config
from undrift.errors import PlatformError, UndriftError
from undrift.host import cluster
from undrift.serve.tokens import TOKENS_FILE
from undrift.store.place import Root

READY_TIMEOUT_S = 180.0
ROLES = ("controller", "monitor", "trainer")
BEHIND = {"monitor": 5}  # niceness: where cores are short, whoever asks the model goes first
RETIRE_TIMEOUT_S = 30.0
SURGE = 25  # percent of replicas, one at least, that are started before old ones stop


def start_actors(
    config: Config, resources: dict[str, float], state: Root, *, detached: bool
) -> dict[str, Any]:
    """Create the three actors of the control plane, instead of those that there may be."""
    import ray

    from undrift.control.actor import ControllerActor
    from undrift.monitor.actor import MonitorActor
    from undrift.train.actor import TrainerActor
    from undrift.train.away import AwayTrainer

    retire(config.model.name, leave=True)

    def actor(role: str, cls: type, *args: Any) -> Any:
        logs = {"model": config.model.name, "role": role} if config.logs == "json" else None
        return (
            ray.remote(cluster.lasting(cls, logs, BEHIND.get(role, 0)))
            .options(
                name=_actor_name(config.model.name, role),
                namespace=cluster.NAMESPACE,
                lifetime="detached",
                num_cpus=0,
                resources=resources,
                max_restarts=-1,
                max_concurrency=1000,
            )
            .remote(*args)
        )

    names = config.model.class_names
    kept = config.retention, config.train.rows_read
    monitor = actor("monitor", MonitorActor, state, config.monitor, 1, names, *kept)
    trainer = actor(
        "trainer",
        AwayTrainer if config.train.address else TrainerActor,
        state,
        config.train,
        config.model,
        config.folder,
        config.monitor.min_reference_rows,
        config.serve.mixes,
    )
    name, limits = config.model.name, config.retention
    given = state, name, config.lifecycle, config.serve, monitor, trainer, limits, detached
    controller = actor("controller", ControllerActor, *given)
    return {"controller": controller, "monitor": monitor, "trainer": trainer}


def bind(
    config: Config,
    actors: dict[str, Any],
    operator: str,
    state: Root,
    *,
    loopback_only: bool,
    version: str | None = None,
) -> Any:
    """Return the Serve application of the replicas of a model.

    Args:
        config: The configuration.
        actors: Its control plane.
        operator: Digest of the operator's token.
        state: The model's folder of the state.
        loopback_only: Whether replicas listen on loopback alone.
        version: Under the same one it is given another route without a replica being replaced.
    """
    from undrift.serve.replica import ModelReplica, ReplicaConfig

    replica: Any = ModelReplica  # a class to the type checker, a Serve deployment at run time
    deployment = replica.options(
        _internal=version is not None,
        **({} if version is None else {"version": version, "max_surge_percent": SURGE}),
        **config.serve.scaling(),
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=100_000,  # the replica itself refuses what is too much
        logging_config={
            "log_level": "WARNING",
            "enable_access_log": False,
            "encoding": config.logs.upper(),
        },
        health_check_period_s=2,
        graceful_shutdown_timeout_s=config.serve.silence_s,  # who is being answered is answered
    )
    given = ReplicaConfig(
        config.model,
        config.serve,
        state,
        config.folder,
        operator,
        config.machine / TOKENS_FILE,
        loopback_only,
    )
    return deployment.bind(given, actors["controller"], actors["monitor"])


def retire(model: str, *, leave: bool = False) -> None:
    """End the actors that an earlier build left; the monitor first makes durable what it holds.

    Args:
        model: The model's name.
        leave: Whether a job in another cluster goes on, for the trainer that comes.
    """
    import ray

    found = {}
    for role in ROLES:
        with suppress(ValueError):  # there is none
            found[role] = ray.get_actor(_actor_name(model, role), namespace=cluster.NAMESPACE)
    if "controller" in found:
        ray.kill(found["controller"])
    settle(found, leave=leave)
    for actor in found.values():
        ray.kill(actor)
    deadline = time.monotonic() + RETIRE_TIMEOUT_S
    for role in found:
        with suppress(ValueError):
            while ray.get_actor(_actor_name(model, role), namespace=cluster.NAMESPACE):
                if time.monotonic() > deadline:
                    raise PlatformError(f"the {role} of {model} does not end")
                time.sleep(0.05)


def application_name(model: str) -> str:
    """Return the name of a model's Serve application."""
    return f"undrift-{model}"


def _actor_name(model: str, role: str) -> str:
    return f"{model}:{role}"


def route_of(model: str) -> str:
    """Return the route of a model that does not answer at ``/``."""
    return f"/v2/models/{model}"


def run_application(application: Any, name: str, route: str) -> None:
    """Run the application of the only model at a route, and wait until it runs.

    Raises:
        PlatformError: The replicas do not start.
    """
    from ray import serve
    from ray.serve.exceptions import RayServeException

    try:
        serve.run(application, name=name, route_prefix=route, blocking=False)
    except (RuntimeError, RayServeException) as error:
        told = trouble(name)
        raise PlatformError(f"the replicas did not start: {told or error}") from error


def trouble(name: str) -> str:
    """Return what Ray Serve says of an application that does not run; empty if nothing."""
    from ray import serve

    found = serve.status().applications.get(name)
    deployments = found.deployments.values() if found else ()
    told = " ".join(d.message for d in deployments).strip().splitlines()
    return told[-1] if told else ""


def await_ready(url: str, token: str, config: Config, check: Callable[[], None]) -> None:
    """Wait until every replica answers with the live version and the monitor reports.

    Args:
        url: Where the platform answers.
        token: The operator's.
        config: The model's.
        check: Raises if there is no more cause to wait.

    Raises:
        PlatformError: It does not become ready.
    """
    reads = config.serve.token_to_read
    trust = own_certificate(config)
    client = Client(url, config.model.name, token, token_to_read=reads, trust=trust)
    deadline = time.monotonic() + READY_TIMEOUT_S
    problem = "no answer yet"
    while time.monotonic() < deadline:
        try:
            status = client.status()
            client.drift()
            loaded = [v for v in status.replicas.values() if v == status.live_version]
            if len(loaded) >= config.serve.replicas:
                return
            problem = f"{len(loaded)} of {config.serve.replicas} replicas have the live version"
        except UndriftError as error:
            problem = str(error)
        check()
        time.sleep(0.1)
    raise PlatformError(f"the platform was not ready within {READY_TIMEOUT_S:g} s: {problem}")


def check_alive(actors: dict[str, Any]) -> None:
    """Raise PlatformError if an actor could not be created; it would never become ready."""
    import ray

    for role, actor in actors.items():
        try:
            ray.get(actor.__ray_ready__.remote(), timeout=READY_TIMEOUT_S)
        except ray.exceptions.ActorDiedError as error:
            cause = str(error).strip().splitlines()[-1]
            raise PlatformError(f"the {role} did not start: {cause}") from error


def settle(actors: dict[str, Any], *, leave: bool = False) -> None:
    """Let the monitor make durable what it holds, and end a training session.

    Args:
        actors: Those that there are, by role.
        leave: Whether a job in another cluster goes on.
    """
    import ray

    calls = [actors["monitor"].drain.remote()] if "monitor" in actors else []
    calls += [actors["trainer"].stop.remote(leave)] if "trainer" in actors else []
    if calls:
        ray.wait(calls, num_returns=len(calls), timeout=10)
