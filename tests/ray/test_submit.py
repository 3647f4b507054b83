"""Deployed by job on a Ray cluster that others use too, and removed from it again."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.helpers.objects import pointed_at, serving
from tests.helpers.support import eventually
from tests.ray.running import (
    PATIENCE_S,
    UNDRIFT,
    alive,
    environment,
    free_port,
    one_error,
    project,
)
from undrift.client import Client
from undrift.errors import PlatformError
from undrift.store import lease
from undrift.store.bucket import Bucket
from undrift.store.lease import holder_of
from undrift.train.environment import train_environment

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

BIN = Path(sys.executable).parent
FOREIGN = """\
from ray import serve


@serve.deployment(ray_actor_options={"num_cpus": 0})
class Foreign:
    def __call__(self, request):
        return "still here"


serve.start(http_options={"host": "127.0.0.1", "port": PORT})
serve.run(Foreign.bind(), name="foreign", route_prefix="/foreign")
"""


@dataclass
class Cluster:
    """A Ray head node that knows nothing of undrift, with a Serve application of others."""

    session: int
    dashboard: str
    url: str
    environment: dict[str, str]

    def undrift(self, *arguments: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*UNDRIFT, *arguments],
            cwd=cwd,
            env={**environment(), "RAY_AUTH_TOKEN": self.environment["RAY_AUTH_TOKEN"], **env},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )

    def foreign(self) -> str:
        return httpx.get(f"{self.url}/foreign", trust_env=False, timeout=30).text

    def actors(self) -> set[str]:
        """Return which classes of the control plane have a living actor."""
        lines = [line[5:] for line in alive(self.session).values() if line.startswith("ray::")]
        names = {"ControllerActor", "MonitorActor", "TrainerActor"}
        return names & {line.partition(".")[0].split()[0] for line in lines}


@pytest.fixture(scope="module")
def object_store() -> Iterator[str]:
    with serving() as url:
        yield url


@pytest.fixture(scope="module")
def cluster(object_store: str) -> Iterator[Cluster]:
    temp = Path(tempfile.mkdtemp(prefix="us-", dir="/tmp"))  # short: sockets lie in it
    dashboard, port, serve = free_port(), free_port(), free_port()
    env = {
        **environment(),
        "PATH": f"{BIN}:{os.environ['PATH']}",  # a job's `python` is the one of the cluster
        **train_environment(),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        **{f"AWS_{name}": "any" for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")},
        "AWS_ENDPOINT_URL": object_store,
    }
    arguments = {
        "node-ip-address": "127.0.0.1",
        "port": port,
        "dashboard-host": "127.0.0.1",
        "dashboard-port": dashboard,
        "dashboard-agent-listen-port": free_port(),  # other clusters of these tests have Ray's own
        "num-cpus": 4,
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
    found = Cluster(child.pid, f"http://127.0.0.1:{dashboard}", f"http://127.0.0.1:{serve}", env)
    headers = {"Authorization": f"Bearer {env['RAY_AUTH_TOKEN']}"}

    def up() -> bool:
        assert child.poll() is None, (temp / "log").read_text()
        with suppress(httpx.TransportError):
            url = f"{found.dashboard}/api/serve/applications/"
            return httpx.get(url, headers=headers, trust_env=False, timeout=30).is_success
        return False

    try:
        eventually(up)
        (temp / "foreign.py").write_text(FOREIGN.replace("PORT", str(serve)))
        done = subprocess.run(
            [sys.executable, temp / "foreign.py"],
            env={**env, "RAY_ADDRESS": f"127.0.0.1:{port}"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        yield found
    finally:
        while left := alive(child.pid):
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        child.wait()
        shutil.rmtree(temp, ignore_errors=True)


@pytest.fixture
def folder(starter: Path, tmp_path: Path) -> Path:
    lifecycle, train = {"mode": "off", "auto_rollback": False}, {"idle_s": 60.0}
    path = project(starter, tmp_path / "spirals", lifecycle=lifecycle, train=train)
    return path.parent


def test_platform_by_job_serves_retrains_swaps_and_leaves_others_alone(
    folder: Path, cluster: Cluster
) -> None:
    state, at = folder.parent / "shared", ("--address", cluster.dashboard)
    here = (*at, "--set", f"state={state}")
    kill_in_the_middle(cluster, folder, *here, "--set", "lifecycle.mode=suggest")
    eventually(lambda: (state / "run.json").exists())  # the job went on
    update = ("submit", "undrift.yaml", *here, "--json")
    done = cluster.undrift(*update, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "succeeded"
    assert f"ready at {cluster.url}/v2/models/spirals/infer" in done.stderr
    assert "serve.port are unused" in done.stderr
    assert cluster.foreign() == "still here"
    assert len(cluster.actors()) == 3
    with Client(cluster.url, "spirals", (state / "token").read_text().strip()) as client:
        assert client.status().mode == "off"
        x = np.random.default_rng(0).normal(size=(2000, 2))
        client.feedback(client.infer(x).ids, ["red" if a > b else "blue" for a, b in x])
        eventually(lambda: client.drift().labelled, until=lambda seen: seen == 2000)
        asked = ("--submit", "--method", "finetune", "--steps", "50", "--no-wait")
        done = cluster.undrift("retrain", *here, *asked, cwd=folder)
        assert done.returncode == 0, done.stderr
        eventually(lambda: len(client.versions()), until=lambda seen: seen == 2)
        eventually(
            lambda: client.status().phase, PATIENCE_S, until=lambda seen: seen != "retraining"
        )
        done = cluster.undrift("promote", "2", *here, "--submit", cwd=folder)
        assert done.returncode == 0, done.stderr
        eventually(lambda: loaded(client, 2))
        told = cluster.undrift("status", "--json", cwd=folder, UNDRIFT_URL=cluster.url)
        assert json.loads(told.stdout)["live_version"] == 2
        eventually(lambda: client.status().phase, until=lambda seen: seen != "swapping")
        own = ("promote", "--weights", "weights.safetensors", "--submit", "--no-wait")
        assert cluster.undrift(*own, *here, cwd=folder).returncode == 0
        brought = eventually(lambda: [e for e in client.events() if e.kind == "weights"])
        assert "weights.safetensors" in brought[-1].text
    done = cluster.undrift("down", *here, cwd=folder)
    assert done.returncode == 0, done.stderr
    eventually(lambda: not cluster.actors())
    assert httpx.get(f"{cluster.url}/healthz", trust_env=False).status_code == 404
    assert cluster.foreign() == "still here"


@pytest.mark.slow
def test_platform_by_job_keeps_the_lease_of_a_state_in_a_bucket(
    folder: Path,
    starter: Path,
    cluster: Cluster,
    object_store: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pointed_at(object_store, monkeypatch)
    state, local = Bucket("s3://state/job"), tmp_path / "local"
    sets = ("--set", f"state={state}", "--set", f"local={local}", "--set", "lifecycle.mode=suggest")
    at = ("--address", cluster.dashboard, *sets)
    for _ in range(2):  # first, and as an update
        done = cluster.undrift("submit", "undrift.yaml", *at, "--json", cwd=folder)
        assert done.returncode == 0, done.stderr
    holder = holder_of(state)
    assert holder.startswith("the Ray cluster at 127.0.0.1:")
    other = project(starter, tmp_path / "other", serve={"port": free_port()}, state=str(state))
    for _ in range(2):
        done = cluster.undrift("up", "--address", "local", cwd=other.parent)
        assert done.returncode == 1
        one_error(done.stderr, f"{holder} already runs on {state}")
        (controller,) = [p for p, t in alive(cluster.session).items() if "ControllerActor" in t]
        os.kill(controller, signal.SIGKILL)  # another takes up the lease
        eventually(lambda: len(cluster.actors()) == 3)
    with Client(cluster.url, "spirals", (local / "token").read_text().strip()) as client:
        eventually(lambda: loaded(client, 1))
        rows = np.zeros((5, 2))
        assert client.feedback(client.infer(rows).ids, ["red"] * 5)["accepted"] == 5
        said = f"another has taken {state} over, so nothing more is written to it"
        took_over(state)
        for _ in range(2):
            eventually(lambda: said in client.status().failures["controller"])
            eventually(lambda: cluster.actors(), until=lambda seen: len(seen) == 1)
            (controller,) = [p for p, t in alive(cluster.session).items() if "ControllerActor" in t]
            with pytest.raises(PlatformError, match="another has taken"):
                client.pause()
            os.kill(controller, signal.SIGKILL)
            eventually(lambda gone=controller: gone not in alive(cluster.session))
            eventually(lambda: answers(client))
        assert client.infer(rows).version == 1
        with pytest.raises(PlatformError):
            client.feedback(["late"], ["red"])
    done = cluster.undrift("down", *at, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert holder_of(state) == "another"


def took_over(state: Bucket) -> None:
    """Take a lease that is renewed all the time, as who finds its holder asleep does."""
    file = state / lease.LEASE_FILE
    while True:
        found = lease._read(file)
        assert found is not None
        if lease._put(state, "another", found[0]["epoch"], found[1]):
            return


def answers(client: Client) -> bool:
    try:
        client.status()
    except (PlatformError, httpx.TransportError):
        return False
    return True


def kill_in_the_middle(cluster: Cluster, folder: Path, *arguments: str) -> None:
    """Submit, and kill the submitting process when the cluster has the job."""
    child = subprocess.Popen(
        [*UNDRIFT, "submit", *arguments],
        cwd=folder,
        env={**environment(), "RAY_AUTH_TOKEN": cluster.environment["RAY_AUTH_TOKEN"]},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stderr is not None
    with child.stderr:
        said: list[str] = []
        while "Running entrypoint" not in "".join(said[-1:]):
            said.append(child.stderr.readline())
            assert said[-1], "".join(said)
        child.kill()
    child.wait()


def loaded(client: Client, version: int) -> bool:
    with suppress(PlatformError):
        return set(client.status().replicas.values()) == {version}
    return False


def test_wrong_token_is_told(folder: Path, cluster: Cluster) -> None:
    arguments = ("submit", "--address", cluster.dashboard, "--set", "state=/tmp/nowhere")
    done = cluster.undrift(*arguments, cwd=folder, RAY_AUTH_TOKEN="0" * 64)
    assert done.returncode == 1
    one_error(done.stderr, "refused the token", "RAY_AUTH_TOKEN_PATH")


def test_wrong_address_is_told(folder: Path, cluster: Cluster) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    done = cluster.undrift("submit", "--address", address, "--set", "state=/tmp/x", cwd=folder)
    assert done.returncode == 1
    one_error(done.stderr, f"no Ray dashboard answers at {address}")


def test_state_inside_the_project_is_refused(folder: Path, cluster: Cluster) -> None:
    done = cluster.undrift("submit", "--address", cluster.dashboard, cwd=folder)
    assert done.returncode == 1
    one_error(done.stderr, "state: expected an absolute path", "--set state=/mnt/undrift")


def test_missing_file_is_told(folder: Path, cluster: Cluster) -> None:
    done = cluster.undrift("submit", "none.yaml", "--address", cluster.dashboard, cwd=folder)
    assert done.returncode == 1
    one_error(done.stderr, "none.yaml: no such file")
