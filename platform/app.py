"""Wiring: check everything, start Ray, place the actors, and hand back something to stop it all.

Nothing is started before the configuration, the model, its weights and the reference have been
found good, so a mistake there costs one message and no process.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from undrift.client import Client, own_certificate
from undrift.config import CONFIG_NAME, Config, load_config, parse_config
from undrift.errors import PlatformError, StoreError, UndriftError
from undrift.host import cluster
from undrift.host.handle import Handle
from undrift.host.interrupt import Interrupt
from undrift.host.process import ProcessFile
from undrift.host.renewal import Renewal
from undrift.records import Reference
from undrift.serve.certificate import check_certificate, refuse_certificate
from undrift.serve.tokens import TOKENS_FILE, digest, read_tokens
from undrift.settings import Section
from undrift.store.bucket import Bucket
from undrift.store.lease import LEASE_S
from undrift.store.place import Root

READY_TIMEOUT_S = 180.0
FIRST_RUN = "initial"
ROLES = ("controller", "monitor", "trainer")
RETIRE_TIMEOUT_S = 30.0

Say = Callable[[str], None]


@contextmanager
def up(config: Config, say: Say = lambda _: None) -> Iterator[Handle]:
    """Run the platform embedded in this process, until the block ends.

    Args:
        config: The configuration.
        say: Called with one line for each stage of the start.

    Raises:
        UndriftError: Something is wrong with the input or the machine; nothing is left running.
    """
    runfile = ProcessFile.of(config)
    if isinstance(config.root, Bucket):
        say(f"asking for {config.state}, which takes {LEASE_S:g} s if its last holder was killed")
    runfile.claim()
    interrupt = Interrupt()
    interrupt.install()
    try:
        cluster.claim_port(config.serve.host, config.serve.port)
        say("checking model, weights and reference")
        root = config.model_in(runfile.state)
        prepare_state(config, root)
        say("starting Ray")
        folder, note = cluster.start(config.serve)
        try:
            interrupt.install()  # Ray has put its own in place
            interrupt.check()
            say("starting monitor, controller and replicas")
            handle = place(config, runfile.token(create=True), interrupt, root)
            handle.keeper = runfile.keeper
            handle.renewal = Renewal(folder.path, config.serve)
            handle.notes += [note] if note else []
            await_ready(handle, config)
            runfile.claim(handle.url)
            interrupt.check()
            yield handle
            say("stopping")
            _settle(handle.actors)
        finally:
            cluster.stop(folder)
    finally:
        runfile.release()
        interrupt.restore()


def prepare_state(config: Config, root: Root | None = None) -> None:
    """Check the user's model and data, and store them as version 1 if the state is new.

    Args:
        config: The configuration.
        root: The model's folder of the state, with the right to write to it; None: the configured.

    Raises:
        ConfigError: The reference does not fit the model.
        ModelError: The factory fails, or the weights do not fit.
        StoreError: The state folder cannot be used.
    """
    from undrift.control.memory import Memory
    from undrift.control.offline import check_readable, check_task, way_out
    from undrift.model.artifacts import load_inputs
    from undrift.model.network import check_state_dict, load_weights
    from undrift.store.journal import REARMINGS, Journal
    from undrift.store.root import check_layout
    from undrift.store.store import Store
    from undrift.train.objective import objective_for
    from undrift.train.scoring import score

    inputs = load_inputs(*config.artifacts)
    model = inputs.factory()
    ProcessFile.of(config).make_folder()
    read_tokens(config.machine / TOKENS_FILE)
    check_certificate(config.serve)
    check_layout(config.root, config.model_state)
    root = root or config.model_state
    store, memory = Store(root), Memory(root, config.lifecycle)
    torn = store.mend() + memory.mend() + Journal(root, REARMINGS).mend()
    for entry in torn:
        logging.getLogger("undrift").warning(
            "set aside as %s: unfinished when the power went; nothing of it was acknowledged", entry
        )
    if store.version_numbers():
        state, _ = memory.recall()
        try:
            check_readable(store, state.live)
            weights = store.state_dict(state.live)
        except StoreError as error:
            raise StoreError(f"{error}\n{way_out(store, state)}") from error
        check_state_dict(model, weights)
        check_task(store, state.live, numbers=config.model.is_regression)
        return
    load_weights(model, inputs.weights)
    objective = objective_for(inputs.y)
    output, embedding = score(model, inputs.x, objective=objective, head=config.model.embedding)
    recent = np.ones(len(inputs.y), dtype=np.bool_)
    quality = objective.quality(output, inputs.y)
    store.add_version(
        inputs.weights,
        parent=None,
        reference=Reference(inputs.x, inputs.y, embedding, output, recent, inputs.row),
        metrics={f"reference_{objective.measure}": quality, "reference_rows": len(recent)},
        plan=None,
        run_id=FIRST_RUN,
    )


class BuildArgs(Section):
    """The ``args`` of the application in Serve's configuration."""

    config: Path | dict[str, Any]
    """The YAML file, or what it would say."""

    folder: Path = Path()
    """Where relative paths start and the model is imported from, if `config` is no file."""

    set: tuple[str, ...] = ()
    """What to set instead, each as `section.key=value`."""

    control: dict[str, float] = Field(default_factory=dict)
    """Ray resources that each of the three actors of the control plane reserves, to place it."""

    def load(self) -> Config:
        """Return the configuration."""
        if isinstance(self.config, Path):
            return load_config(self.config, self.set)
        return parse_config(self.config, self.folder.absolute() / CONFIG_NAME, self.set)


def build(args: dict[str, Any]) -> Any:
    """Return the whole platform as one Serve application, for ``serve deploy`` and RayService.

    Ray Serve calls it again when its arguments change. The actors are then replaced; the new ones
    take up where the state says that the old ones were.

    Args:
        args: The fields of `BuildArgs`.

    Raises:
        UndriftError: Something is wrong with the input, or another platform runs on the state.
    """
    wanted = BuildArgs.model_validate(args)
    config = wanted.load()
    refuse_certificate(config.serve, "here TLS is for what stands before Ray Serve")
    runfile = ProcessFile.of(config)
    try:
        root = config.model_in(cluster.take(runfile))
        prepare_state(config, root)
        actors = _start_actors(config, wanted.control, root, detached=True)
    finally:
        runfile.unlock()
    loopback = config.serve.is_loopback
    operator = _operator(config.machine, wanted.control)
    return _bind(config, actors, operator, root, loopback_only=loopback)


def _operator(folder: Path, resources: dict[str, float]) -> str:
    """Return the digest of the operator's token, as the node with ``resources`` knows it.

    On Kubernetes that is the head, where no code of the user runs: no other pod has the token.
    """
    import ray
    from ray.exceptions import RayTaskError

    look = ray.remote(_digest_here).options(num_cpus=0, resources=resources)
    try:
        return str(ray.get(look.remote(folder)))
    except RayTaskError as error:
        raise error.cause from None


def _digest_here(folder: Path) -> str:
    return digest(ProcessFile(folder).token(create=True))


def place(
    config: Config, token: str, interrupt: Interrupt, root: Root, *, detached: bool = False
) -> Handle:
    """Create the actors and run the Serve application.

    Args:
        config: The configuration.
        token: The operator's token.
        interrupt: The signals that ask it to stop.
        root: The model's folder of the state, with the right to write to it.
        detached: Whether it outlives this process.
    """
    actors = _start_actors(config, {}, root, detached=detached)
    application = _bind(config, actors, digest(token), root, loopback_only=True)
    _run_application(application, application_name(config.model.name))
    host = config.serve.host if config.serve.is_loopback else "127.0.0.1"
    return Handle(f"{config.serve.scheme}://{host}:{config.serve.port}", token, actors, interrupt)


def _start_actors(
    config: Config, resources: dict[str, float], state: Root, *, detached: bool
) -> dict[str, Any]:
    """Create the three actors of the control plane, instead of those that there may be."""
    import ray

    from undrift.control.actor import ControllerActor
    from undrift.monitor.actor import MonitorActor
    from undrift.train.actor import TrainerActor

    retire(config.model.name)

    def actor(role: str, cls: type, *args: Any) -> Any:
        return (
            ray.remote(cluster.lasting(cls))
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
        TrainerActor,
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


def _bind(
    config: Config, actors: dict[str, Any], operator: str, state: Root, *, loopback_only: bool
) -> Any:
    """Return the Serve application of the replicas, who know the digest of the operator's token."""
    from undrift.serve.replica import ModelReplica, ReplicaConfig

    replica: Any = ModelReplica  # a class to the type checker, a Serve deployment at run time
    deployment = replica.options(
        **config.serve.scaling(),
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=100_000,  # the replica itself refuses what is too much
        logging_config={"log_level": "WARNING", "enable_access_log": False},
        health_check_period_s=2,
        graceful_shutdown_timeout_s=2,
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


def retire(model: str) -> None:
    """End the actors that an earlier build left; the monitor first makes durable what it holds."""
    import ray

    found = {}
    for role in ROLES:
        with suppress(ValueError):  # there is none
            found[role] = ray.get_actor(_actor_name(model, role), namespace=cluster.NAMESPACE)
    if "controller" in found:
        ray.kill(found["controller"])
    _settle(found)
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


def _run_application(application: Any, name: str) -> None:
    from ray import serve
    from ray.serve.exceptions import RayServeException

    try:
        serve.run(application, name=name, route_prefix="/", blocking=False)
    except (RuntimeError, RayServeException) as error:
        found = serve.status().applications.get(name)
        deployments = found.deployments.values() if found else ()
        told = " ".join(d.message for d in deployments).strip().splitlines()
        raise PlatformError(f"the replicas did not start: {told[-1] if told else error}") from error


def await_ready(handle: Handle, config: Config) -> None:
    """Wait until every replica answers with the live version and the monitor reports."""
    reads = config.serve.token_to_read
    client = Client(
        handle.url,
        config.model.name,
        handle.token,
        token_to_read=reads,
        trust=own_certificate(config),
    )
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
        handle.check()
        _check_alive(handle)
        time.sleep(0.1)
    raise PlatformError(f"the platform was not ready within {READY_TIMEOUT_S:g} s: {problem}")


def _check_alive(handle: Handle) -> None:
    """Raise PlatformError if an actor could not be created; it would never become ready."""
    import ray

    for role, actor in handle.actors.items():
        try:
            ray.get(actor.__ray_ready__.remote(), timeout=READY_TIMEOUT_S)
        except ray.exceptions.ActorDiedError as error:
            cause = str(error).strip().splitlines()[-1]
            raise PlatformError(f"the {role} did not start: {cause}") from error


def _settle(actors: dict[str, Any]) -> None:
    """Let the monitor make durable what it holds, and end a training session."""
    import ray

    calls = [actors["monitor"].drain.remote()] if "monitor" in actors else []
    calls += [actors["trainer"].stop.remote()] if "trainer" in actors else []
    if calls:
        ray.wait(calls, num_returns=len(calls), timeout=10)
