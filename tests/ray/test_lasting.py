"""An actor that cannot start again is tried until it can, one that cannot start at all is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.ray.running import environment

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SCRIPT = """
import os, signal, sys, time
from pathlib import Path

import ray

from undrift.host.cluster import lasting

LIVES = Path(sys.argv[1])


class Actor:
    def __init__(self, refuses):
        with LIVES.open("a") as file:
            file.write("x")
        if len(LIVES.read_text()) in refuses:
            raise ValueError("the state cannot be read")

    async def pid(self):
        return os.getpid()


def begun(refuses):
    LIVES.unlink(missing_ok=True)
    given = {"max_restarts": -1, "num_cpus": 0, "lifetime": "detached"}
    return ray.remote(lasting(Actor)).options(**given).remote(refuses)


ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
actor = begun((2, 3))
os.kill(ray.get(actor.pid.remote()), signal.SIGKILL)
while True:
    try:
        ray.get(actor.pid.remote())
        break
    except ray.exceptions.ActorUnavailableError:
        time.sleep(0.1)
print("told:", len(LIVES.read_text()), "lives")
try:
    ray.get(begun((1,)).pid.remote())
except ray.exceptions.ActorDiedError as error:
    print("told:", str(error).splitlines()[-1], len(LIVES.read_text()))
"""


def test_actor_is_started_until_it_can_read_the_state_again(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "lives")],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    said = [line for line in done.stdout.splitlines() if line.startswith("told:")]
    wanted = ["told: 4 lives", "told: ValueError: the state cannot be read 1"]
    assert said == wanted, done.stdout + done.stderr  # Ray has its say among them
