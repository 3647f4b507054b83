"""Starting and stopping an embedded Ray with Ray Serve, reachable from this machine only."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import sys
import time
from collections.abc import Mapping
from typing import Any

from undrift.dashboard.jobs import OWN_TOKEN, TOKEN_REFUSED
from undrift.errors import PlatformError
from undrift.host.haproxy import SocketFolder, find_binary
from undrift.host.logs import write_json
from undrift.host.process import ProcessFile
from undrift.serve.settings import ServeSettings
from undrift.store.bucket import Bucket
from undrift.store.place import Root
from undrift.train.environment import train_environment

NAMESPACE = "undrift"
RESTART_S = 1.0
OBJECT_STORE_BYTES = 256 * 2**20
_VITAL = ("raylet", "gcs_server")


def lasting(actor: type, logs: Mapping[str, str] | None = None, nice: int = 0) -> type:
    """Return an actor's class whose process ends if it fails to start again, so that Ray tries on.

    Ray gives an actor up for good whose constructor raises, also when it has been restarted: a
    store that is away at that moment would end it for ever. A first start fails as it is.

    Args:
        actor: The class.
        logs: What every entry of its log has, which is then one of JSON lines; None: text.
        nice: Niceness of its process.
    """

    class Lasting(actor):  # type: ignore[misc]
        def __init__(self, *given: Any) -> None:
            os.nice(nice)
            if logs is not None:
                write_json(**logs)
            try:
                super().__init__(*given)
            except Exception:
                import ray

                if not ray.get_runtime_context().was_current_actor_reconstructed:
                    raise
                logging.getLogger("undrift").exception("%s cannot start again yet", actor.__name__)
                time.sleep(RESTART_S)
                os._exit(1)

    Lasting.__name__ = Lasting.__qualname__ = actor.__name__
    Lasting.__doc__ = actor.__doc__
    return Lasting


def start(settings: ServeSettings) -> tuple[SocketFolder, str]:
    """Start Ray and Ray Serve's front end.

    Ray reads its environment when it is imported, so this must come before the first import.

    Args:
        settings: Where to listen.

    Returns:
        The run's folder, and a note for the user if something falls back; empty if nothing does.

    Raises:
        PlatformError: The port is in use, Ray was imported already or does not start, or HTTPS
            cannot be had.
    """
    folder = SocketFolder()
    claim_port(settings.host, settings.port)
    if "ray" in sys.modules and os.environ.get("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER") != "0":
        raise PlatformError("ray was imported before undrift.app.up; call up first")
    folder.create()
    binary = find_binary()
    if binary is not None:
        os.environ.update(folder.environment(binary, settings.silence_s, settings.tls_certificate))
    elif settings.tls_certificate is not None:
        raise PlatformError("no HAProxy binary: HTTPS needs it; leave serve.tls_certificate out")
    try:
        folder.create(start_ray(max(4, os.cpu_count() or 1)))
        _start_serve(settings)
    except BaseException as error:
        stop(folder)
        if "Address already in use" in str(error):
            raise PlatformError(_port_text(settings.host, settings.port)) from None
        if not isinstance(error, Exception) or isinstance(error, PlatformError):
            raise
        told = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise PlatformError(
            f"Ray did not start: {told} A machine that is very busy can be too slow for it: try "
            "again later"
        ) from error
    note = "" if binary else "no HAProxy binary: serving through Ray Serve's own, slower proxy"
    return folder, note


def join(address: str) -> str:
    """Join a running Ray cluster, and return the address by which it is known.

    Args:
        address: As ``ray.init`` takes it, such as ``auto`` or ``host:port``.

    Raises:
        PlatformError: It cannot be reached, or refuses the token.
    """
    if "://" in address:
        raise PlatformError(
            f"{address}: expected host:port of a Ray cluster of which this machine is a node, or "
            "auto; from elsewhere use `undrift submit --address http://HEAD:8265`"
        )
    os.environ.setdefault("RAY_WARN_BLOCKING_GET_INSIDE_ASYNC", "0")
    import ray
    from ray.exceptions import AuthenticationError

    try:
        ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level="error")
    except AuthenticationError:
        raise PlatformError(f"the Ray cluster at {address} {TOKEN_REFUSED}") from None
    except (ConnectionError, ValueError, RuntimeError) as error:
        told = str(error).strip().splitlines()
        raise PlatformError(f"cannot join a Ray cluster at {address}: {told[0]}") from None
    return str(ray.get_runtime_context().gcs_address)


def session() -> str:
    """Return what tells the cluster that was joined from another one of the same address."""
    import ray

    return str(ray.get_runtime_context().get_session_name())


def take(runfile: ProcessFile) -> Root:
    """Return the state, that of a bucket for the cluster that this process belongs to.

    Raises:
        PlatformError: Something else runs on it.
    """
    import ray

    if not isinstance(runfile.state, Bucket):
        runfile.check_free()
        return runfile.state
    runfile.session = session()
    runfile.lock(str(ray.get_runtime_context().gcs_address))
    return runfile.state


def front(settings: ServeSettings) -> tuple[ServeSettings, list[str]]:
    """Use the cluster's Ray Serve, or start it.

    Args:
        settings: Where to listen if Serve is not running yet.

    Returns:
        The settings with the address where Serve listens, and notes for the user.

    Raises:
        PlatformError: It has no HTTP proxy, or cannot listen there.
    """
    from ray import serve
    from ray.serve.context import _get_global_client

    client = _get_global_client(raise_if_no_controller_running=False)
    if client is None:
        try:
            _start_serve(settings)
        except Exception as error:
            serve.shutdown()  # nothing of it ran before
            raise PlatformError(
                f"Ray Serve cannot listen on {settings.host}:{settings.port} of the cluster: "
                f"{str(error).strip().splitlines()[-1]}"
            ) from None
        return settings, []
    host, port = client.http_config.host, client.http_config.port
    if not host:
        raise PlatformError("Ray Serve runs on this cluster without an HTTP proxy")
    if (host, port) == (settings.host, settings.port):
        return settings, []
    note = f"Ray Serve already listens on {host}:{port} here; serve.host and serve.port are unused"
    return settings.model_copy(update={"host": host, "port": port}), [note]


def routes() -> dict[str, str]:
    """Return where each application of the cluster's Ray Serve answers that answers at all."""
    from ray.serve.context import _get_global_client

    client = _get_global_client(raise_if_no_controller_running=False)
    found = client.get_serve_details()["applications"] if client is not None else {}
    return {name: one["route_prefix"] for name, one in found.items() if one["route_prefix"]}


def stop(folder: SocketFolder) -> None:
    """Stop Ray Serve and Ray, and whatever still runs from the folder."""
    import ray
    from ray import serve

    try:
        if ray.is_initialized():
            if not _ended():  # nobody would answer
                serve.shutdown()
            ray.shutdown()
    finally:
        folder.remove()


def check_running() -> None:
    """Check that the processes of Ray that this one started, and that nobody restarts, still run.

    Raises:
        PlatformError: One has ended, and with it the cluster.
    """
    ended = _ended()
    if ended:
        raise PlatformError(
            f"Ray's {' and '.join(ended)} has ended, perhaps killed for want of memory, and "
            "nothing runs without; what was acknowledged is kept: start again with `undrift up`"
        )


def _ended() -> list[str]:
    import ray._private.worker as ray_worker

    node = ray_worker._global_node
    ended = {kind for kind, _ in node.dead_processes()} if node is not None else set()
    return [kind for kind in _VITAL if kind in ended]


def claim_port(host: str, port: int) -> None:
    """End what dead runs left behind, and check that nothing listens on a port yet.

    Raises:
        PlatformError: Something does, or the host is not an address of this machine.
    """
    SocketFolder().reap()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            text = f"cannot listen on {host}:{port}: {error.strerror}"
            raise PlatformError(
                _port_text(host, port) if "in use" in str(error.strerror) else text
            ) from None


def _port_text(host: str, port: int) -> str:
    return f"port {port} on {host} is in use; set serve.port to a free one, or stop what uses it"


def _environment() -> dict[str, str]:
    token = os.environ.get("RAY_AUTH_TOKEN")
    return {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # makes 127.0.0.1 the address of the node
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token or secrets.token_hex(32),
        **({} if token else {OWN_TOKEN: "1"}),
        "RAY_task_events_report_interval_ms": "0",  # the GCS would keep 100,000; nobody reads them
        "RAY_worker_niceness": "0",  # training lowers its own priority, below serving
        **train_environment(),
    }


def start_ray(cpus: int) -> str:
    """Start Ray alone, with room for ``cpus`` tasks, and return its session folder.

    Ray reads its environment when it is imported, so this must come before the first import.
    """
    os.environ.update(_environment())
    import ray
    import ray._private.worker as ray_worker

    def quiet(*_: Any, **__: Any) -> None:
        """Keep Ray's remarks about processes that we end ourselves off the terminal."""

    ray_worker.print_to_stdstream = quiet
    context = ray.init(
        address="local",  # whatever RAY_ADDRESS says
        num_cpus=cpus,
        namespace=NAMESPACE,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
        object_store_memory=OBJECT_STORE_BYTES,
    )
    return str(context.address_info["session_dir"])


def _start_serve(settings: ServeSettings) -> None:
    from ray import serve

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    serve.start(
        http_options={"host": settings.host, "port": settings.port},
        logging_config={"log_level": "WARNING", "enable_access_log": False},
    )
