"""Start, stop, sudden death and the start after it: nothing of ours is left behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.support import eventually
from tests.ray.asking import ROW
from tests.ray.running import (
    Running,
    alive,
    exposed,
    free_port,
    listening,
    one_error,
    project,
    settled,
    undrift,
)

pytestmark = pytest.mark.ray


def test_every_listening_socket_is_on_loopback(platform: Running) -> None:
    assert ("127.0.0.1", platform.config.serve.port) in listening(platform.processes())
    assert exposed(platform) == set()


def test_replica_runs_on_the_fast_loop_and_the_fast_parser(platform: Running) -> None:
    replicas = platform.processes("ray::ServeReplica")
    assert replicas
    for replica in replicas:
        maps = Path(f"/proc/{replica}/maps").read_text(encoding="utf-8")
        assert "/uvloop/loop." in maps
        assert "/httptools/parser/parser." in maps


def test_ray_keeps_no_record_of_each_call(platform: Running) -> None:
    """Its GCS would grow by some MiB a minute, up to 100,000 calls."""
    (gcs,) = [pid for pid, line in alive(platform.pid).items() if "/gcs_server " in line]
    told = Path(f"/proc/{gcs}/environ").read_bytes().split(b"\0")
    assert b"RAY_task_events_report_interval_ms=0" in told


def test_second_up_on_the_same_state_is_refused_and_the_first_runs_on(platform: Running) -> None:
    done = undrift("up", cwd=platform.path.parent)
    assert done.returncode == 1
    one_error(done.stderr, f"process {platform.pid} already runs on", "undrift down")
    done = undrift("up", "-d", cwd=platform.path.parent)
    assert done.returncode == 1
    one_error(done.stderr, f"process {platform.pid} already runs on", "undrift down")
    assert platform.client.infer(ROW).version == platform.client.status().live_version


def test_second_up_on_the_same_port_is_refused_and_the_first_runs_on(
    platform: Running, starter: Path, tmp_path: Path
) -> None:
    port = platform.config.serve.port
    path = project(starter, tmp_path / "other", serve={"port": port})
    done = undrift("up", cwd=path.parent)
    assert done.returncode == 1
    one_error(done.stderr, f"port {port} on 127.0.0.1 is in use; set serve.port to a free one")
    assert not (path.parent / "state" / "run.json").exists()
    assert platform.client.infer(ROW).version == platform.client.status().live_version


def test_start_after_a_kill_ends_the_orphans_and_serves_the_live_version(
    start: Callable[..., Running], starter: Path, tmp_path: Path
) -> None:
    path = project(starter, tmp_path / "killed", serve={"port": free_port()})
    first = start(path, detach=True).await_ready()
    assert first.client.infer(ROW).version == 1
    state, reference = first.store.state_dict(1), first.store.reference(1)
    for _ in range(2):
        first.store.add_version(state, parent=1, reference=reference, metrics={}, plan=None)
    damaged = first.store.weights_path(3)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    first.client.promote(2)
    eventually(settled(first, 2))
    os.kill(first.pid, signal.SIGKILL)

    second = start(path).await_ready()
    assert alive(first.pid) == {}
    assert second.client.status().live_version == 2
    assert second.client.infer(ROW).version == 2

    assert second.end(signal.SIGINT) == 130
    assert second.is_gone()
    assert not (path.parent / "state" / "run.json").exists()
    assert "Traceback" not in second.said()
    assert undrift("down", cwd=path.parent).stdout.startswith("nothing runs on")


def test_interrupted_start_leaves_nothing(
    start: Callable[..., Running], starter: Path, tmp_path: Path
) -> None:
    path = project(starter, tmp_path / "hasty", serve={"port": free_port()})
    running = start(path)
    eventually(
        lambda: running.said(),
        until=lambda seen: "starting monitor, controller and replicas" in seen,
    )
    assert running.end(signal.SIGINT) in (130, -signal.SIGINT)  # a shell says 130 for both
    assert running.is_gone()
    assert not (path.parent / "state" / "run.json").exists()
    assert "Traceback" not in running.said()
