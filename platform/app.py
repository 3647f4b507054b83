"""Wiring: check everything, start Ray, place the actors, and hand back something to stop it all.

Nothing is started before the configuration, the model, its weights and the reference have been
found good, so a mistake there costs one message and no process.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from undrift.actors import (
    application_name,
    await_ready,
    bind,
    check_alive,
    run_application,
    settle,
    start_actors,
)
from undrift.config import CONFIG_NAME, Config, load_config, parse_config
from undrift.errors import StoreError
from undrift.host import cluster
from undrift.host.handle import Handle
from undrift.host.interrupt import Interrupt
from undrift.host.process import ProcessFile
from undrift.host.renewal import Renewal
from undrift.ids import new_id
from undrift.records import Reference
from undrift.serve.certificate import check_certificate, refuse_certificate
from undrift.serve.tokens import TOKENS_FILE, digest, read_tokens
from undrift.settings import Section
from undrift.store.bucket import Bucket
from undrift.store.lease import LEASE_S
from undrift.store.place import Root

FIRST_RUN = "initial"

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
    check = partial(_prepare_in, config)
    with hosting(config, say, check) as handle:
        handle.interrupt.check()
        say("starting monitor, controller and replicas")
        place(config, handle)
        ready(config, handle)
        yield handle
        say("stopping")
        settle(handle.actors)


def _prepare_in(config: Config, state: Root) -> None:
    prepare_state(config, config.model_in(state))


@contextmanager
def hosting(config: Config, say: Say, check: Callable[[Root], None]) -> Iterator[Handle]:
    """Claim the state, and run Ray and Ray Serve's front end until the block ends.

    Args:
        config: The configuration; what is one model's in it does not count.
        say: Called with one line for each stage of the start.
        check: Called with the state, with the right to write to it, before anything is started.

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
        check(runfile.state)
        say("starting Ray")
        folder, note = cluster.start(config.serve)
        try:
            interrupt.install()  # Ray has put its own in place
            token = runfile.token(create=True)
            handle = Handle(url_of(config), token, runfile, {}, interrupt)
            handle.keeper, handle.folder = runfile.keeper, folder.path
            handle.renewal = Renewal(folder.path, config.serve)
            handle.notes += [note] if note else []
            yield handle
        finally:
            cluster.stop(folder)
    finally:
        runfile.release()
        interrupt.restore()


def url_of(config: Config) -> str:
    """Return where this machine reaches the platform."""
    host = config.serve.host if config.serve.is_loopback else "127.0.0.1"
    return f"{config.serve.scheme}://{host}:{config.serve.port}"


def place(config: Config, handle: Handle, *, detached: bool = False, route: str = "/") -> None:
    """Create the actors of the only model and run its Serve application.

    Args:
        config: The configuration.
        handle: The platform; it gets the actors.
        detached: Whether they outlive this process.
        route: Where the application answers.
    """
    root = config.model_in(handle.runfile.state)
    handle.actors = start_actors(config, {}, root, detached=detached)
    handle.version = new_id()
    application = bind(
        config,
        handle.actors,
        digest(handle.token),
        root,
        loopback_only=True,
        version=handle.version,
    )
    run_application(application, application_name(config.model.name), route)


def ready(config: Config, handle: Handle, cluster_address: str = "") -> None:
    """Wait until the only model answers, and record that it does.

    Args:
        config: The configuration.
        handle: The platform.
        cluster_address: The Ray cluster on which it was deployed.
    """

    def check() -> None:
        handle.check()
        check_alive(handle.actors)

    await_ready(handle.url, handle.token, config, check)
    handle.runfile.claim(handle.url, cluster_address)
    handle.interrupt.check()


def prepare_state(config: Config, root: Root | None = None, *, mend: bool = True) -> None:
    """Check the user's model and data, and store them as version 1 if the state is new.

    Args:
        config: The configuration.
        root: The model's folder of the state, with the right to write to it; None: the configured.
        mend: Whether to set aside what is unfinished; not where actors write to the state.

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
    check_shared(config)
    check_layout(config.root, config.model_state)
    root = root or config.model_state
    store, memory = Store(root), Memory(root, config.lifecycle)
    torn = store.mend() + memory.mend() + Journal(root, REARMINGS).mend() if mend else []
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


def check_shared(config: Config) -> None:
    """Check what the models of a platform share, and make its folders.

    Raises:
        ConfigError: The certificate cannot be used.
        StoreError: The state folder cannot be used.
    """
    ProcessFile.of(config).make_folder()
    read_tokens(config.machine / TOKENS_FILE)
    check_certificate(config.serve)


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
        actors = start_actors(config, wanted.control, root, detached=True)
    finally:
        runfile.unlock()
    loopback = config.serve.is_loopback
    operator = _operator(config.machine, wanted.control)
    return bind(config, actors, operator, root, loopback_only=loopback)


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
