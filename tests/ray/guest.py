"""A Ray cluster of others, on which the platform is a guest."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.ray.nodes import BIN, RayHead, ray_head
from tests.ray.running import PATIENCE_S, UNDRIFT, environment, free_port

FOREIGN = """\
from ray import serve


@serve.deployment(ray_actor_options={"num_cpus": 0})
class Foreign:
    def __call__(self, request):
        return "still here"


serve.start(http_options={"host": "127.0.0.1", "port": PORT})
serve.run(Foreign.bind(), name="foreign", route_prefix="/foreign")
"""


@dataclass(frozen=True)
class Cluster(RayHead):
    """A Ray head node that knows nothing of undrift, with a Serve application of others."""

    url: str

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


@contextmanager
def running_cluster(object_store: str) -> Iterator[Cluster]:
    """Start the cluster and the application of others on it, and leave nothing behind."""
    serve = free_port()
    env = {
        "PATH": f"{BIN}:{os.environ['PATH']}",  # a job's `python` is the one of the cluster
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        **{f"AWS_{name}": "any" for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")},
        "AWS_ENDPOINT_URL": object_store,
    }
    with ray_head("127.0.0.1", cpus=4, env=env) as head:
        script = head.temp / "foreign.py"
        script.write_text(FOREIGN.replace("PORT", str(serve)), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, script],
            env={**head.environment, "RAY_ADDRESS": head.address},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        yield Cluster(**vars(head), url=f"http://127.0.0.1:{serve}")
