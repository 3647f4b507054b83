"""A Ray cluster of others, on which the platform is a guest."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.helpers.support import eventually
from tests.ray.running import PATIENCE_S, UNDRIFT, alive, environment, free_port
from undrift.train.environment import train_environment

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
            timeout=2 * PATIENCE_S,  # a job has to start twice what a verb does
        )

    def foreign(self) -> str:
        return httpx.get(f"{self.url}/foreign", trust_env=False, timeout=30).text

    def actors(self) -> set[str]:
        """Return which classes of the control plane have a living actor."""
        lines = [line[5:] for line in alive(self.session).values() if line.startswith("ray::")]
        names = {"ControllerActor", "MonitorActor", "TrainerActor"}
        return names & {line.partition(".")[0].split()[0] for line in lines}


@contextmanager
def running_cluster(object_store: str) -> Iterator[Cluster]:
    """Start the cluster and the application of others on it, and leave nothing behind."""
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
