"""A Ray cluster that knows nothing of undrift: a head, and nodes that join it and may be lost."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.helpers.support import eventually
from tests.ray.running import PATIENCE_S, alive, environment, free_port, look
from undrift.config import read_config
from undrift.host.haproxy import SocketFolder, find_binary
from undrift.serve.settings import ServeSettings
from undrift.train.environment import train_environment

BIN = Path(sys.executable).parent
RAYSERVICE = Path(__file__).parents[2] / "kuberay" / "base" / "rayservice.yaml"
ADDRESS = "127.0.0.2"  # on loopback, but unlike 127.0.0.1 an address that others may join
_OBJECT_STORE = 256 * 2**20


@dataclass(frozen=True)
class Node:
    """A Ray node, whose processes are one session."""

    session: int

    def processes(self, title: str = "") -> list[int]:
        """Return the living processes whose command line begins with ``title``."""
        return [pid for pid, line in alive(self.session).items() if line.startswith(title)]

    def lose(self) -> None:
        """Kill every process of the node at once, as a machine that loses its power does."""
        while left := alive(self.session):
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, 9)


@dataclass(frozen=True)
class RayHead(Node):
    """The head, with a dashboard."""

    address: str
    dashboard: str
    environment: dict[str, str]
    temp: Path
    _closing: ExitStack = field(kw_only=True)

    def joined(self, cpus: int) -> Node:
        """Start another node with so many CPUs, and wait for it; it goes when the head goes."""
        arguments, before = {"address": self.address, "num-cpus": cpus}, self._nodes()
        node = self._closing.enter_context(_started(arguments, self.environment, self.temp))
        eventually(self._nodes, 60, until=lambda seen: seen == before + 1)
        return node

    def deploy(self, config: dict[str, Any], path: Path) -> None:
        """Run `serve deploy` to its end."""
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        done = subprocess.run(
            [BIN / "serve", "deploy", path, "--address", self.dashboard],
            env=self.environment,
            cwd=path.parent,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
        assert done.returncode == 0, done.stderr

    def application(self) -> dict[str, Any]:
        """Return what Serve tells of the one application, as KubeRay's operator asks for it."""
        answer = self._ask("/api/serve/applications/")
        told: dict[str, Any] = answer.json()["applications"]["undrift"]
        assert told["status"] != "DEPLOY_FAILED", told["message"]
        return told

    def actors(self) -> dict[str, int]:
        """Return the process ids of the control plane by the class of the actor."""
        names = ("ControllerActor", "MonitorActor", "TrainerActor")
        found = {}
        for pid, line in alive(self.session).items():
            if (
                line.startswith("ray::")
                and (role := line[5:].partition(".")[0].split()[0]) in names
            ):
                found[role] = pid
        return found

    def is_up(self) -> bool:
        """Tell whether the dashboard answers."""
        assert alive(self.session), [log.read_text() for log in self.temp.glob("log-*")]
        with suppress(httpx.TransportError):
            return self._ask("/api/serve/applications/").is_success
        return False

    def _nodes(self) -> int:
        answer = self._ask("/nodes?view=summary")
        states = [node["raylet"].get("state") for node in answer.json()["data"]["summary"]]
        return states.count("ALIVE")

    def _ask(self, path: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.environment['RAY_AUTH_TOKEN']}"}
        return look(f"{self.dashboard}{path}", headers)


@contextmanager
def pod_head(cpus: int) -> Iterator[RayHead]:
    """Start Ray with HAProxy and the resources of the head, as in the pods; others may join."""
    with temporary() as temp:
        folder = SocketFolder(temp)
        folder.create()
        binary = find_binary()
        assert binary is not None
        env = folder.environment(binary, ServeSettings().silence_s)
        env |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1", "UNDRIFT_TOKEN": "operator"}
        try:
            resources = {"resources": '{"control": 1, "serving": 1}'}
            with ray_head(ADDRESS, cpus, env, **resources) as head:
                yield head
        finally:
            folder.remove()


@contextmanager
def ray_head(address: str, cpus: int, env: dict[str, str], **more: Any) -> Iterator[RayHead]:
    """Start Ray with a dashboard and a token, and leave nothing behind.

    Args:
        address: Where, on loopback.
        cpus: How many it believes to have.
        env: What its processes find in their environment beside what is usual.
        more: Further arguments of `ray start`.
    """
    port, dashboard = free_port(), free_port()
    env = {
        **environment(),
        **train_environment(),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        **env,
    }
    with temporary() as temp:
        arguments = {
            "port": port,
            "dashboard-host": "127.0.0.1",
            "dashboard-port": dashboard,
            "ray-client-server-port": free_port(),  # two clusters would both have Ray's own
            "node-ip-address": address,
            "num-cpus": cpus,
            "temp-dir": temp / "ray",
            "include-dashboard": "true",
        }
        with _started(arguments | more, env, temp, "--head") as node, ExitStack() as nodes:
            urls = f"{address}:{port}", f"http://127.0.0.1:{dashboard}"
            head = RayHead(node.session, *urls, env, temp, _closing=nodes)
            eventually(head.is_up)
            yield head


@contextmanager
def temporary() -> Iterator[Path]:
    """Return a folder with a short path, for sockets lie in it."""
    with tempfile.TemporaryDirectory(
        prefix="ud-", dir="/tmp", ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder)


@contextmanager
def _started(
    arguments: dict[str, Any], env: dict[str, str], temp: Path, *flags: str
) -> Iterator[Node]:
    everywhere = {
        "node-ip-address": ADDRESS,
        "dashboard-agent-listen-port": free_port(),  # other clusters of these tests have Ray's own
        "object-store-memory": _OBJECT_STORE,
    }
    command = [BIN / "ray", "start", *flags, "--block", "--disable-usage-stats"]
    command += [f"--{name}={value}" for name, value in (everywhere | arguments).items()]
    with (temp / f"log-{free_port()}").open("w") as log:
        child = subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    node = Node(child.pid)
    try:
        yield node
    finally:
        node.lose()
        child.wait()


def serve_config(path: Path, port: int) -> dict[str, Any]:
    """Return the RayService's own Serve configuration, with this machine's paths and addresses."""
    service = yaml.safe_load(RAYSERVICE.read_text(encoding="utf-8"))
    config: dict[str, Any] = yaml.safe_load(service["spec"]["serveConfigV2"])
    config["http_options"] |= {"host": "127.0.0.1", "port": port}
    args = config["applications"][0]["args"]
    state = path.parent / "elsewhere"
    args |= {"config": read_config(path), "folder": str(path.parent)}
    args["set"] = [f"state={state}", "serve.host=127.0.0.1", f"serve.port={port}"]
    return config
