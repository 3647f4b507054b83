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
from undrift.errors import PlatformError, UndriftError
from undrift.records import Reference
from undrift.runfile import RunFile

READY_TIMEOUT_S = 180.0
FIRST_RUN = "initial"

Say = Callable[[str], None]


class Interrupt:
    """Turns SIGINT and SIGTERM into KeyboardInterrupt, and keeps them in mind.

    A signal may strike while a library runs a callback and swallows what it raises; `check` then
    raises it again.
    """

    def __init__(self) -> None:
        self._asked = False
        self._previous: dict[signal.Signals, Any] = {}

    def install(self) -> None:
        """Take over both signals, in the main thread; again after others have done so."""
        if threading.current_thread() is not threading.main_thread():
            return
        for sign in (signal.SIGINT, signal.SIGTERM):
            before = self._previous.setdefault(sign, signal.getsignal(sign))
            if before != signal.SIG_IGN:  # as for a background job of a shell: so be it
                signal.signal(sign, self._strike)

    def restore(self) -> None:
        """Give the signals back."""
        for sign, handler in self._previous.items():
            signal.signal(sign, handler)

    def check(self) -> None:
        """Raise KeyboardInterrupt if one of the signals came."""
        if self._asked:
            raise KeyboardInterrupt

    def _strike(self, *_: Any) -> None:
        self._asked = True
        raise KeyboardInterrupt


@dataclass
class Handle:
    """A running platform.

    Attributes:
        url: Where it answers.
        token: What operators send as bearer token.
        actors: Ray handles of ``controller``, ``monitor`` and ``trainer``.
        interrupt: The signals that ask it to stop.
        notes: Remarks for the user, such as a fallback.
    """

    url: str
    token: str
    actors: dict[str, Any]
    interrupt: Interrupt
    notes: list[str] = field(default_factory=list)

    def wait(self) -> None:
        """Wait for a signal that asks the platform to stop.

        Raises:
            KeyboardInterrupt: It came.
        """
        while True:
            self.interrupt.check()
            time.sleep(0.2)


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
    interrupt = Interrupt()
    interrupt.install()
    try:
        cluster.claim_port(config.serve.host, config.serve.port)
        say("checking model, weights and reference")
        prepare_state(config)
        say("starting Ray")
        folder, note = cluster.start(config.serve)
        try:
            interrupt.install()  # Ray has put its own in place
            interrupt.check()
            say("starting monitor, controller and replicas")
            handle = _place(config, runfile.token(create=True), interrupt)
            handle.notes += [note] if note else []
            _await_ready(handle, config)
            runfile.claim(handle.url)
            interrupt.check()
            yield handle
            say("stopping")
            _settle(handle)
        finally:
            cluster.stop(folder)
    finally:
        runfile.release()
        interrupt.restore()


def prepare_state(config: Config) -> None:
    """Check the user's model and data, and store them as version 1 if the state is new.

    Raises:
        ConfigError: The reference does not fit the model.
        ModelError: The factory fails, or the weights do not fit.
        StoreError: The state folder cannot be used.
    """
    from undrift.inputs import load_inputs
    from undrift.journal import Journal
    from undrift.model import check_state_dict, load_weights
    from undrift.store import Store
    from undrift.story import replay
    from undrift.train.scoring import score

    inputs = load_inputs(config)
    model = inputs.factory()
    store = Store(config.state)
    if store.versions():
        live = replay(Journal(config.state).read(), config.lifecycle)[0].live
        check_state_dict(model, store.state_dict(live))
        return
    load_weights(model, inputs.weights)
    output, embedding = score(model, inputs.x, head=config.model.embedding)
    right = output.argmax(1) == inputs.y
    store.add_version(
        inputs.weights,
        parent=None,
        reference=Reference(inputs.x, inputs.y, embedding, output, np.ones_like(right), inputs.row),
        metrics={"reference_accuracy": float(right.mean()), "reference_rows": len(right)},
        plan=None,
        run_id=FIRST_RUN,
    )


def _place(config: Config, token: str, interrupt: Interrupt) -> Handle:
    """Create the actors and the Serve application."""
    import ray
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
    names = config.model.class_names
    monitor = actor("monitor", MonitorActor, config.state, config.monitor, 1, names)
    reference_rows = config.monitor.min_reference_rows
    trainer = actor(
        "trainer", TrainerActor, config.state, config.train, config.model, folder, reference_rows
    )
    controller = actor("controller", ControllerActor, config, monitor, trainer)
    loopback = config.serve.host in LOOPBACK
    replica: Any = ModelReplica  # a class to the type checker, a Serve deployment at run time
    deployment = replica.options(
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
    _run_application(application, f"undrift-{name}")
    host = config.serve.host if loopback else "127.0.0.1"
    actors = {"controller": controller, "monitor": monitor, "trainer": trainer}
    return Handle(f"http://{host}:{config.serve.port}", token, actors, interrupt)


def _run_application(application: Any, name: str) -> None:
    from ray import serve

    try:
        serve.run(application, name=name, route_prefix="/", blocking=False)
    except RuntimeError as error:
        deployments = serve.status().applications[name].deployments.values()
        told = " ".join(d.message for d in deployments).strip().splitlines()
        raise PlatformError(f"the replicas did not start: {told[-1] if told else error}") from error


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
        _check_alive(handle)
        handle.interrupt.check()
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


def _settle(handle: Handle) -> None:
    """Let the monitor make durable what it holds, and end a training session."""
    import ray

    calls = [handle.actors["monitor"].drain.remote(), handle.actors["trainer"].stop.remote()]
    ray.wait(calls, num_returns=len(calls), timeout=10)
