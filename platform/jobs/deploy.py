"""Deploying on a Ray cluster that runs already, and removing from it what was deployed.

Nothing here starts or stops Ray, and nothing touches a Serve application that is not ours. What is
deployed outlives the process that deployed it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from undrift.actors import application_name, retire, route_of
from undrift.app import Say, place, prepare_state, ready, url_of
from undrift.config import Config
from undrift.errors import ConfigError, PlatformError
from undrift.host import cluster
from undrift.host.handle import Handle
from undrift.host.interrupt import Interrupt
from undrift.host.process import ProcessFile
from undrift.serve.certificate import refuse_certificate
from undrift.store.place import Root

_COPIES = "working_dir_files"  # where Ray unpacks the working directory of a job


@dataclass(frozen=True, slots=True)
class Deployed:
    """A platform on a running cluster.

    Attributes:
        url: Where it answers, seen from the node that deployed it.
        cluster: Address of the cluster.
        notes: Remarks for the user.
    """

    url: str
    cluster: str
    notes: tuple[str, ...]


def deploy(config: Config, address: str, say: Say = lambda _: None) -> Deployed:
    """Deploy the platform on a running Ray cluster, or update it there.

    Args:
        config: The configuration; its paths must hold on every node.
        address: The cluster, as ``host:port`` or ``auto``.
        say: Called with one line for each stage.

    Raises:
        UndriftError: Something is wrong with the input or the cluster; a first deployment leaves
            nothing behind then.
    """
    import ray
    from ray import serve

    check_state(config.root)
    refuse_certificate(config.serve, "here TLS is for what stands before Ray Serve")
    runfile, name = ProcessFile.of(config), application_name(config.model.name)
    say("joining the Ray cluster")
    here = cluster.join(address)
    try:
        runfile.session = cluster.session()
        runfile.lock(here)
        known = runfile.running() is not None
        if not known and name in serve.status().applications:
            raise PlatformError(
                f"the cluster has a Serve application {name} that works on another state folder; "
                "set model.name to another name, or remove that one first"
            )
        say("checking model, weights and reference")
        root = config.model_in(runfile.state)
        prepare_state(config, root, mend=not known)
        settings, notes = cluster.front(config.serve)
        config = config.model_copy(update={"serve": settings})
        cpus = ray.cluster_resources().get("CPU", 0)
        if cpus < config.train.workers and not config.train.address:
            notes.append(
                f"the cluster has {cpus:g} CPUs, a retraining asks for {config.train.workers}: it "
                "waits until there are so many"
            )
        say("starting monitor, controller and replicas")
        try:
            token = runfile.token(create=True)
            handle = Handle(url_of(config), token, runfile, {}, Interrupt())
            route, told = _route(config.model.name)
            notes += told
            place(config, handle, detached=True, route=route)
            ready(config, handle, here)
        except BaseException:
            if not known:
                _remove(config.model.name)
            raise
    finally:
        runfile.unlock()
        ray.shutdown()
    return Deployed(handle.url, here, tuple(notes))


def remove(config: Config, address: str) -> None:
    """Remove the platform from a cluster: its Serve application and its actors, nothing else.

    Raises:
        PlatformError: The cluster cannot be reached.
    """
    import ray

    here = cluster.join(address)
    try:
        _remove(config.model.name)
        runfile = ProcessFile.of(config)
        runfile.session = cluster.session()
        runfile.release(here)
    finally:
        ray.shutdown()


def _route(model: str) -> tuple[str, list[str]]:
    """Return where a model answers: where it does already, else at ``/`` unless others do there."""
    routes = cluster.routes()
    if (own := routes.get(application_name(model))) is not None:
        return own, []
    others = [name for name, route in routes.items() if route == "/"]
    if not others:
        return "/", []
    route = route_of(model)
    told = f"{others[0]} answers at / of this cluster: everything of {model} is under {route}"
    return route, [told]


def check_state(state: Root) -> None:
    """Check that the state folder is not in a job's copy of the project.

    Raises:
        ConfigError: It is, and would be lost.
    """
    if isinstance(state, Path) and _COPIES in state.parts:
        raise ConfigError(
            f"state: got {state}, which Ray deletes after the job; set an absolute path that all "
            "nodes of the cluster share, as --set state=/mnt/undrift"
        )


def _remove(model: str) -> None:
    from ray import serve

    if application_name(model) in serve.status().applications:
        serve.delete(application_name(model))
    retire(model)
