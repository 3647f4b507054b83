"""Wiring: check everything, start Ray, place the actors, and hand back something to stop it all.

Nothing is started before the configuration, the model, its weights and the reference have been
found good, so a mistake there costs one message and no process.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from undrift import cluster
from undrift.client import Client
from undrift.config import Config
from undrift.errors import ConfigError, ModelError, PlatformError, UndriftError
from undrift.records import Reference
from undrift.runfile import RunFile

READY_TIMEOUT_S = 180.0
FIRST_RUN = "initial"

Say = Callable[[str], None]


@dataclass
class Handle:
    """A running platform.

    Attributes:
        url: Where it answers.
        token: What operators send as bearer token.
        actors: Ray handles of ``controller``, ``monitor`` and ``trainer``.
        notes: Remarks for the user, such as a fallback.
    """

    url: str
    token: str
    actors: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    _stopped: threading.Event = field(default_factory=threading.Event)

    def wait(self) -> None:
        """Return when a signal asks the platform to stop."""
        while not self._stopped.wait(0.5):
            pass


@contextmanager
def up(config: Config, say: Say = lambda _: None) -> Iterator[Handle]:
    """Run the platform embedded in this process, until the block ends.

    Args:
        config: The configuration.
        say: Called with one line for each stage of the start.

    Raises:
        UndriftError: Something is wrong with the input or the machine; nothing is left running.
    """
    runfile = RunFile(config.state)
    runfile.claim()
    previous = signal.getsignal(signal.SIGTERM)
    in_main = threading.current_thread() is threading.main_thread()
    if in_main:
        signal.signal(signal.SIGTERM, _interrupt)
    try:
        cluster.check_port(config.serve.host, config.serve.port)
        say("checking model, weights and reference")
        prepare_state(config)
        say("starting Ray")
        folder, note = cluster.start(config.serve)
        try:
            say("starting monitor, controller and replicas")
            handle = _place(config, runfile.token(create=True))
            handle.notes += [note] if note else []
            _await_ready(handle, config)
            runfile.claim(handle.url)
            yield handle
            say("stopping")
            _settle(handle)
        finally:
            cluster.stop(folder)
    finally:
        runfile.release()
        if in_main:
            signal.signal(signal.SIGTERM, previous)


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def prepare_state(config: Config) -> None:
    """Check the user's model and data, and store them as version 1 if the state is new.

    Raises:
        ConfigError: The reference does not fit the model.
        ModelError: The factory fails, or the weights do not fit.
        StoreError: The state folder cannot be used.
    """
    from undrift.model import check_state_dict, find_head, load_factory, load_safetensors, probe
    from undrift.store import Store
    from undrift.train.scoring import score

    section = config.model
    model = load_factory(section.factory, config.folder)()
    find_head(model, section.embedding)
    classes = probe(model, section.input_shape)
    if classes != section.class_count:
        raise ModelError(
            f"model.classes: the config says {section.class_count}, "
            f"{section.factory} returns {classes} logits"
        )
    state = load_safetensors(section.weights)
    check_state_dict(model, state)
    x, y = _load_reference(config)
    store = Store(config.state)
    if store.versions():
        check_state_dict(model, store.state_dict(store.versions()[-1].version))
        return
    model.load_state_dict(state)
    output, embedding = score(model, x, head=section.embedding)
    accuracy = float((output.argmax(1) == y).mean())
    reference = Reference(x, y, embedding, output, np.ones(len(y), np.bool_))
    store.add_version(
        state,
        parent=None,
        reference=reference,
        metrics={"reference_accuracy": accuracy, "reference_rows": len(y)},
        plan=None,
        run_id=FIRST_RUN,
    )


def _load_reference(config: Config) -> tuple[np.ndarray, np.ndarray]:
    path, shape = config.reference, tuple(config.model.input_shape)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            x, y = arrays["x"].astype(np.float32), arrays["y"].astype(np.int64)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"reference: {path} must be an .npz with arrays x and y: {error}") from None
    if x.shape[1:] != shape or y.shape != (len(x),):
        raise ConfigError(
            f"reference: {path} has x {x.shape} and y {y.shape}; "
            f"expected x (n, {', '.join(map(str, shape))}) and y (n,)"
        )
    if not np.isfinite(x).all():
        raise ConfigError(f"reference: {path} has values in x that are not finite")
    if len(y) == 0 or y.min() < 0 or y.max() >= config.model.class_count:
        raise ConfigError(
            f"reference: {path} must have labels from 0 to {config.model.class_count - 1}"
        )
    if len(y) < config.monitor.min_reference_rows:
        raise ConfigError(
            f"reference: {path} has {len(y)} rows; monitor.min_reference_rows asks for "
            f"{config.monitor.min_reference_rows}"
        )
    return x, y


def _place(config: Config, token: str) -> Handle:
    """Create the actors and the Serve application."""
    import ray
    from ray import serve
    from ray.serve.config import BackpressureConfig

    from undrift.controller import ControllerActor
    from undrift.monitor.actor import MonitorActor
    from undrift.serve.deployment import LOOPBACK, ModelReplica, ReplicaConfig
    from undrift.train.session import TrainerActor

    name = config.model.name

    def actor(role: str, cls: type, *args: Any) -> Any:
        return (
            ray.remote(cls)
            .options(
                name=f"{name}:{role}",
                namespace=cluster.NAMESPACE,
                lifetime="detached",
                num_cpus=0,
                max_restarts=-1,
                max_concurrency=1000,
            )
            .remote(*args)
        )

    folder = config.folder
    monitor = actor("monitor", MonitorActor, config.state, config.monitor, 1)
    trainer = actor("trainer", TrainerActor, config.state, config.train, config.model, folder)
    controller = actor("controller", ControllerActor, config, monitor, trainer)
    loopback = config.serve.host in LOOPBACK
    deployment = ModelReplica.options(
        num_replicas=config.serve.replicas,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=config.serve.max_queued_requests,
        max_queued_requests=config.serve.max_queued_requests,
        backpressure_config=BackpressureConfig(retry_after_s=1),
        health_check_period_s=2,
        graceful_shutdown_timeout_s=2,
    )
    application = deployment.bind(
        ReplicaConfig(config, folder, token, loopback_only=True), controller, monitor
    )
    serve.run(application, name=f"undrift-{name}", route_prefix="/", blocking=False)
    host = config.serve.host if loopback else "127.0.0.1"
    actors = {"controller": controller, "monitor": monitor, "trainer": trainer}
    return Handle(f"http://{host}:{config.serve.port}", token, actors)


def _await_ready(handle: Handle, config: Config) -> None:
    """Wait until every replica answers with the live version and the monitor reports."""
    client = Client(handle.url, config.model.name, handle.token)
    deadline = time.monotonic() + READY_TIMEOUT_S
    problem = "no answer yet"
    while time.monotonic() < deadline:
        try:
            status = client.status()
            client.drift()
            loaded = [v for v in status["replicas"].values() if v == status["live_version"]]
            if len(loaded) >= config.serve.replicas:
                return
            problem = f"{len(loaded)} of {config.serve.replicas} replicas have the live version"
        except UndriftError as error:
            problem = str(error)
        time.sleep(0.1)
    raise PlatformError(f"the platform was not ready within {READY_TIMEOUT_S:g} s: {problem}")


def _settle(handle: Handle) -> None:
    """Let the monitor make durable what it holds, and end a training session."""
    import ray

    calls = [handle.actors["monitor"].drain.remote(), handle.actors["trainer"].stop.remote()]
    ray.wait(calls, num_returns=len(calls), timeout=10)

