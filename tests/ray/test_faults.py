"""Every process of a platform is killed or stopped under load, and the clock jumps.

Nothing acknowledged is lost, a replay decides what was decided live, and while there is a healthy
replica a client that opens a closed connection once more is answered.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers.support import eventually
from tests.ray import faults
from tests.ray.conftest import MODEL_CODE, SECTIONS
from tests.ray.faults import (
    BALANCER_MANAGER,
    CONTROLLER,
    MONITOR,
    REPLICA,
    TRAINER,
    WORKER,
    Load,
    load,
    replaced,
    stopped,
    whole,
)
from tests.ray.running import Running, alive, free_port, listening, one_error, project
from tests.ray.test_retraining_ray import begin, kept, made_by

pytestmark = [pytest.mark.ray, pytest.mark.slow]

STEPS = 400  # some 15 seconds, so that a fault comes before the end


def configured(starter: Path, folder: Path) -> Path:
    path = project(starter, folder, serve={"port": free_port(), "replicas": 2}, **SECTIONS)
    (folder / "model.py").write_text(MODEL_CODE, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def shared_by_faults(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Two replicas and a second version, for one fault after the other."""
    running = Running(configured(starter, tmp_path_factory.mktemp("faults") / "spirals"))
    try:
        running.await_ready()
        store = running.store
        store.add_version(
            store.state_dict(1), parent=1, reference=store.reference(1), metrics={}, plan=None
        )
        yield running
        faults.ends_clean(running)
    finally:
        running.kill_all()


@pytest.fixture
def platform(shared_by_faults: Running) -> Iterator[Running]:
    """The shared platform, watched anew: no drift, no candidate, nobody in training."""
    yield shared_by_faults
    client = shared_by_faults.client
    client.pause()
    client.promote(3 - whole(shared_by_faults))
    eventually(lambda: client.status().phase, 60, until=lambda phase: phase == "paused")
    client.resume()


def check(platform: Running, load: Load) -> None:
    faults.keeps_its_word(load, platform.config.model_state, platform.path.parent)
    faults.rows_in_order(platform.store)


@pytest.mark.parametrize(
    ("title", "times"),
    [(REPLICA, 1), (REPLICA, 2), (MONITOR, 1), (CONTROLLER, 1), (TRAINER, 1)],
)
def test_killed_process_is_replaced_and_no_request_fails(
    platform: Running, title: str, times: int
) -> None:
    with load(platform, f"kill {title} x{times}") as loaded:
        victims = platform.processes(title)[:times]
        assert len(victims) == times
        with loaded.measured():
            for victim in victims:
                replaced(platform, title, victim)
                whole(platform)
        faults.drifted(platform, loaded)
    assert loaded.traffic.failures == []
    check(platform, loaded)


@pytest.mark.parametrize("title", [REPLICA, MONITOR, CONTROLLER])
def test_process_that_stands_still_goes_on_and_no_request_fails(
    platform: Running, title: str
) -> None:
    with load(platform, f"stop {title}") as loaded:
        with loaded.measured():
            stopped(platform, title)
            whole(platform)
        faults.drifted(platform, loaded)
    assert loaded.traffic.failures == []
    check(platform, loaded)


def train(platform: Running, steps: int) -> str:
    """Begin a retraining once there are labels enough; returns its run."""
    eventually(lambda: platform.client.drift().labelled, until=lambda seen: seen >= 800)
    return begin(platform, steps=steps)


def leave(platform: Running) -> None:
    """Have the platform watch on, when a retraining is over, without its candidate."""
    eventually(lambda: platform.client.status().phase, until=lambda at: at != "retraining")
    platform.client.pause()
    platform.client.resume()


@pytest.mark.parametrize("fault", [f"kill {TRAINER}", f"kill {WORKER}", f"stop {TRAINER}"])
def test_retraining_outlives_a_fault_in_its_middle_and_no_request_fails(
    platform: Running, fault: str
) -> None:
    verb, title = fault.split()
    with load(platform, f"{fault} in training") as loaded:
        run_id = train(platform, STEPS)
        eventually(lambda: kept(platform, run_id), 60)
        with loaded.measured():
            if verb == "kill":
                replaced(platform, title, platform.processes(title)[-1])
            else:
                stopped(platform, title)
            made = made_by(platform, run_id)
            whole(platform)
        assert made.metrics["training"]["steps"] == STEPS
        leave(platform)
        faults.drifted(platform, loaded)
    assert loaded.traffic.failures == []
    check(platform, loaded)


def haproxies(platform: Running) -> list[int]:
    return [pid for pid, line in alive(platform.pid).items() if "haproxy -db" in line]


@pytest.mark.parametrize("what", ["HAProxy", BALANCER_MANAGER])
def test_killed_load_balancer_is_replaced(platform: Running, what: str) -> None:
    with load(platform, f"kill {what}", "back by itself") as loaded:
        (victim,) = before = haproxies(platform)
        if what == BALANCER_MANAGER:
            (victim,) = platform.processes(what)
        with loaded.measured():
            os.kill(victim, signal.SIGKILL)
            eventually(lambda: set(haproxies(platform)) - set(before), 120)
            whole(platform)
        faults.drifted(platform, loaded)
        lost = len(loaded.traffic.failures)
        loaded.flows()
        assert len(loaded.traffic.failures) == lost
        eventually(lambda: len(haproxies(platform)), until=lambda seen: seen == 1)
    check(platform, loaded)


def test_load_balancer_that_stands_still_goes_on(platform: Running) -> None:
    with load(platform, "stop HAProxy", "back by itself") as loaded:
        with loaded.measured():
            (victim,) = haproxies(platform)
            os.kill(victim, signal.SIGSTOP)
            time.sleep(faults.STOPPED_S)
            if victim in haproxies(platform):
                os.kill(victim, signal.SIGCONT)
            whole(platform)
        eventually(lambda: len(haproxies(platform)), until=lambda seen: seen == 1)
        faults.drifted(platform, loaded)
    check(platform, loaded)


@pytest.mark.parametrize("program", ["raylet", "gcs_server"])
def test_platform_without_its_ray_ends_with_one_sentence_and_starts_again(
    program: str, start: Callable[..., Running], starter: Path, tmp_path: Path
) -> None:
    first = start(configured(starter, tmp_path / "spirals")).await_ready()
    with load(first, f"kill {program}", "ends, can start again") as loaded:
        pids = first.processes()
        ports = {port for _, port in listening(pids)}
        (victim,) = [p for p, line in alive(first.pid).items() if f"/{program} " in line]
        begun = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        code = first.wait()
        loaded.back_s = time.monotonic() - begun
    faults.is_left_clean(first, pids, ports)
    assert code == 1
    one_error(first.said(), f"Ray's {program} has ended")
    goes_on(start, first, loaded)


def test_platform_killed_as_a_whole_goes_on_from_its_state(
    start: Callable[..., Running], starter: Path, tmp_path: Path
) -> None:
    first = start(configured(starter, tmp_path / "spirals")).await_ready()
    with load(first, "kill everything", "can start again") as loaded:
        pids = first.processes()
        ports = {port for _, port in listening(pids)}
        for pid in first.processes():
            os.kill(pid, signal.SIGKILL)
        first.wait()
    faults.is_left_clean(first, pids, ports)
    goes_on(start, first, loaded)


JUMPING = """\
import os
import time

wall, jump = time.time, os.environ["CLOCK_JUMP"]


def jumped():
    return wall() + os.stat(jump).st_size


time.time = jumped
"""


def test_clock_that_jumps_an_hour_ahead_and_back_loses_nothing_and_no_request_fails(
    start: Callable[..., Running],
    starter: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The clock of its Python code is as many seconds ahead as a file has bytes."""
    (tmp_path / "sitecustomize.py").write_text(JUMPING, encoding="utf-8")
    jump = tmp_path / "jump"
    jump.touch()
    before = filter(None, [os.environ.get("PYTHONPATH")])
    monkeypatch.setenv("CLOCK_JUMP", str(jump))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *before]))
    platform = start(configured(starter, tmp_path / "spirals")).await_ready()
    with load(platform, "clock ahead and back") as loaded:
        with loaded.measured():
            os.truncate(jump, 3600)
            loaded.flows()
            whole(platform)
            platform.client.pause()
            platform.client.resume()
            ahead = platform.store.predictions().at.max()
            os.truncate(jump, 0)
            loaded.flows()
            whole(platform)
        made_by(platform, train(platform, 20))
        leave(platform)
        faults.drifted(platform, loaded)
        assert ahead > platform.store.predictions().at[-1] + 3000, "it jumped"
    assert loaded.traffic.failures == []
    check(platform, loaded)
    faults.ends_clean(platform)


def goes_on(start: Callable[..., Running], first: Running, before: Load) -> None:
    """Start again on the state of a platform that was lost, and see that nothing else was."""
    begun = time.monotonic()
    again = start(first.path).await_ready()
    assert again.client.drift().rows == len(again.store.predictions())
    with load(again, "and start again") as loaded:
        whole(again)
        loaded.back_s = time.monotonic() - begun
        faults.drifted(again, loaded)
    assert loaded.traffic.failures == []
    for each in (before, loaded):
        check(again, each)
    faults.ends_clean(again)
