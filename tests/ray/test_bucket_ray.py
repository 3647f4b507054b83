"""A platform whose state lies in a bucket: it outlives the machine, and has one writer."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.helpers.objects import pointed_at, serving
from tests.helpers.support import eventually
from tests.ray.asking import ROW
from tests.ray.running import (
    Running,
    alive,
    free_port,
    one_error,
    project,
    settled,
    undrift,
)
from undrift.errors import UndriftError
from undrift.store.journal import Journal

pytestmark = pytest.mark.ray


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return the URL of an empty place on an S3 server."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    with serving() as url:
        pointed_at(url, monkeypatch)
        yield "s3://state/one"


@pytest.fixture
def platform_on(starter: Path, tmp_path: Path, state: str) -> Callable[[str], Path]:
    """Return a function that makes a project of a name, with a folder of its own, on the state."""

    def make(name: str) -> Path:
        serve = {"port": free_port(), "replicas": 1}
        lifecycle = {"mode": "suggest", "auto_rollback": False}
        local = str(tmp_path / f"{name}.local")
        parts = {"serve": serve, "lifecycle": lifecycle, "state": state, "local": local}
        return project(starter, tmp_path / name, **parts)

    return make


def ask(running: Running, rows: int, name: str) -> None:
    """Ask and label some reference rows, and wait until the monitor has joined them."""
    data = np.load(running.config.reference)
    before = running.client.drift().labelled
    answer = running.client.infer(data["x"][:rows], name)
    told = running.client.feedback(answer.ids, data["y"][:rows].tolist())
    assert told == {"accepted": rows, "rejected": []}
    eventually(lambda: running.client.drift().labelled, until=lambda seen: seen >= before + rows)


@pytest.mark.slow
def test_platform_goes_on_from_the_bucket_alone(
    start: Callable[..., Running], platform_on: Callable[[str], Path], tmp_path: Path
) -> None:
    first = start(platform_on("first")).await_ready()
    ask(first, 300, "a")
    first.client.retrain(steps=50)
    made = eventually(first.store.version_numbers, until=lambda seen: seen == [1, 2])[-1]
    eventually(lambda: first.client.status().run, until=lambda run: run is None or run.version)
    first.client.promote(made)
    eventually(settled(first, made))
    assert first.client.infer(ROW).version == made

    other = platform_on("second")
    done = undrift("up", cwd=other.parent)
    assert done.returncode == 1
    one_error(done.stderr, f"process {first.pid} on ", "already runs on s3://state/one")

    events = first.client.events()
    assert first.end(signal.SIGINT) == 130
    assert not list(tmp_path.glob("first/state*"))
    shutil.rmtree(tmp_path / "first.local")

    again = start(other).await_ready()
    status = again.client.status()
    assert status.live_version == made
    assert [e for e in again.client.events() if e.seq <= events[-1].seq] == list(events)
    assert again.client.infer(ROW).version == made
    assert again.client.drift().labelled == 300
    ask(again, 50, "b")
    assert again.end(signal.SIGINT) == 130
    assert len(again.store.labels()) == 350


@pytest.mark.slow
def test_state_goes_from_a_killed_and_from_a_sleeping_platform_to_the_next(
    start: Callable[..., Running], platform_on: Callable[[str], Path]
) -> None:
    killed = start(platform_on("killed")).await_ready()
    ask(killed, 50, "killed")
    for pid in alive(killed.pid):
        os.kill(pid, signal.SIGKILL)

    asleep = start(platform_on("asleep")).await_ready()
    assert asleep.client.drift().labelled == 50
    ask(asleep, 50, "asleep")
    for pid in alive(asleep.pid):
        os.kill(pid, signal.SIGSTOP)

    awake = start(platform_on("awake")).await_ready()
    ask(awake, 50, "awake")
    before = Journal(awake.config.model_state).read()
    for pid in alive(asleep.pid):
        os.kill(pid, signal.SIGCONT)
    with pytest.raises((UndriftError, httpx.HTTPError)):
        ask(asleep, 10, "stale")
    assert asleep.wait() == 1
    one_error(asleep.said(), "has taken s3://state/one over, so nothing more is written to it")
    ask(awake, 50, "after")
    assert Journal(awake.config.model_state).read()[: len(before)] == before
    names = {id_.partition(":")[0] for id_ in awake.store.labels().ids}
    assert names == {"killed", "asleep", "awake", "after"}
    done = undrift("doctor", cwd=awake.path.parent)
    assert (done.returncode, f"process {awake.pid}" in done.stdout) == (0, True), done.stdout
    assert awake.end(signal.SIGINT) == 130
    done = undrift("replay", "--json", cwd=awake.path.parent)
    assert done.returncode == 0, done.stderr
