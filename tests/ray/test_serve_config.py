"""The Serve application of the RayService, deployed with `serve deploy` on a Ray of its own."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml

from tests.helpers.support import eventually
from tests.ray.running import PATIENCE_S, alive, environment, free_port, project, watched
from undrift.client import Client
from undrift.config import read_config
from undrift.errors import PlatformError
from undrift.host.haproxy import SocketFolder, find_binary
from undrift.serve.settings import ServeSettings
from undrift.train.environment import train_environment

pytestmark = pytest.mark.ray

RAYSERVICE = Path(__file__).parents[2] / "kuberay" / "base" / "rayservice.yaml"
BIN = Path(sys.executable).parent


@dataclass
class RayHead:
    """A Ray head node with a dashboard, in a session of its own, that knows nothing of undrift."""

    session: int
    dashboard: str
    environment: dict[str, str]

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
        answer = httpx.get(
            f"{self.dashboard}/api/serve/applications/",
            headers={"Authorization": f"Bearer {self.environment['RAY_AUTH_TOKEN']}"},
            trust_env=False,
            timeout=30,
        )
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


@pytest.fixture(scope="module")
def ray_head() -> Iterator[RayHead]:
    """Start Ray on loopback, with token authentication and HAProxy, as in the pods."""
    temp = Path(tempfile.mkdtemp(prefix="ud-", dir="/tmp"))  # short: sockets lie in it
    folder = SocketFolder(temp / "run")
    folder.create()
    binary = find_binary()
    assert binary is not None
    port, dashboard = free_port(), free_port()
    env = {
        **environment(),
        **folder.environment(binary, ServeSettings().silence_s),
        **train_environment(),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "UNDRIFT_TOKEN": "operator",
    }
    arguments = {
        "node-ip-address": "127.0.0.1",
        "port": port,
        "dashboard-host": "127.0.0.1",
        "dashboard-port": dashboard,
        "dashboard-agent-listen-port": free_port(),  # other clusters of these tests have Ray's own
        "num-cpus": 4,
        "resources": '{"control": 1, "serving": 1}',
        "object-store-memory": 256 * 2**20,
        "temp-dir": temp / "ray",
        "include-dashboard": "true",
    }
    command = [BIN / "ray", "start", "--head", "--block", "--disable-usage-stats"]
    command += [f"--{name}={value}" for name, value in arguments.items()]
    with (temp / "log").open("w") as log:
        child = subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    head = RayHead(child.pid, f"http://127.0.0.1:{dashboard}", env)

    def up() -> bool:
        assert child.poll() is None, (temp / "log").read_text()
        with suppress(httpx.TransportError):
            headers = {"Authorization": f"Bearer {env['RAY_AUTH_TOKEN']}"}
            url = f"{head.dashboard}/api/serve/applications/"
            return httpx.get(url, headers=headers, trust_env=False, timeout=30).is_success
        return False

    try:
        eventually(up)
        yield head
    finally:
        while left := alive(child.pid):
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, 9)
        child.wait()
        folder.remove()
        shutil.rmtree(temp, ignore_errors=True)


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


def test_serve_deploy_starts_the_whole_platform(
    starter: Path, tmp_path: Path, ray_head: RayHead
) -> None:
    path = project(starter, tmp_path / "spirals", lifecycle={"mode": "off"})
    port = free_port()
    config = serve_config(path, port)
    ray_head.deploy(config, tmp_path / "serve.yaml")
    eventually(
        lambda: ray_head.application()["status"], PATIENCE_S, until=lambda seen: seen == "RUNNING"
    )
    url = f"http://127.0.0.1:{port}"
    with Client(url, "spirals", "operator") as client, watched(client):
        eventually(lambda: loaded(client, 1))
        answer = client.infer([[0.3, -1.2]], "order-17")
        assert answer.version == 1
        assert client.feedback(["order-17"], ["green"])["accepted"] == 1
        assert httpx.get(f"{url}/-/healthz", trust_env=False).status_code == 200

        deployed = ray_head.application()
        first = ray_head.actors()
        assert len(first) == 3
        give_labelled_rows(client, 2000)
        eventually(lambda: client.drift().labelled, until=lambda seen: seen == 2001)
        client.retrain(method="finetune", steps=50)
        eventually(lambda: trained(client))
        client.promote(2)  # a swap is none of Serve's business
        eventually(lambda: loaded(client, 2))
        assert client.infer([[0.3, -1.2]]).version == 2
        assert changed(ray_head.application()) == changed(deployed)
        assert ray_head.actors() == first

        ray_head.deploy(config, tmp_path / "serve.yaml")  # the same again changes nothing
        eventually(
            lambda: ray_head.application()["status"],
            PATIENCE_S,
            until=lambda seen: seen == "RUNNING",
        )
        assert ray_head.actors() == first

        config["applications"][0]["args"]["config"]["lifecycle"]["mode"] = "suggest"
        ray_head.deploy(config, tmp_path / "serve.yaml")  # another policy: other actors, same state
        eventually(lambda: not set(first.values()) & set(ray_head.actors().values()))
        eventually(lambda: loaded(client, 2))
        eventually(
            lambda: ray_head.application()["status"],
            PATIENCE_S,
            until=lambda seen: seen == "RUNNING",
        )
        assert client.infer([[0.3, -1.2]]).version == 2
        assert client.status().mode == "suggest"
        assert [v.version for v in client.versions()] == [1, 2]


def give_labelled_rows(client: Client, rows: int) -> None:
    x = np.random.default_rng(0).normal(size=(rows, 2))
    client.feedback(client.infer(x).ids, ["red" if a > b else "blue" for a, b in x])


def trained(client: Client) -> bool:
    """The candidate is there, and so is its verdict; one that forgets is rejected."""
    return len(client.versions()) == 2 and client.status().phase != "retraining"


def loaded(client: Client, version: int) -> bool:
    with suppress(PlatformError):
        replicas = client.status().replicas.values()
        return bool(replicas) and set(replicas) == {version}
    return False


def changed(application: dict[str, Any]) -> tuple[Any, ...]:
    """What would be another if Serve had touched the application."""
    replicas = application["deployments"]["model"]["replicas"]
    return application["last_deployed_time_s"], [r["replica_id"] for r in replicas]
