"""One platform for the whole test session; tests put back what they change."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.helpers.objects import serving
from tests.ray.guest import Cluster, running_cluster
from tests.ray.running import Running, account, free_port, project, undrift

# Like the starter's model, but slow, so that swaps and requests overlap for sure.
MODEL_CODE = """\
import time

from torch import nn


class Slow(nn.Sequential):
    def forward(self, x):
        time.sleep(0.02)
        if self[4].bias[0] > 1e6 and x.any():
            raise RuntimeError("these weights are broken")
        if self[4].bias[1] > 1e6 and x.any():
            time.sleep(4)  # longer than a candidate is waited for
        return super().forward(x)


def build():
    return Slow(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3))
"""
SECTIONS = {
    "monitor": {"label_lag_rows": 1000, "join_window_rows": 20_000},
    "lifecycle": {"mode": "off", "auto_rollback": False},
    "train": {"idle_s": 60.0},
}


SPOILT = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Add to a failure what the platforms that still run say; the next test gets a fresh one."""
    report = yield
    if report.failed:
        item.session.stash[SPOILT] = True
        if told := account():
            report.sections.append(("the platforms", told))
    return report


@pytest.fixture(scope="session")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `undrift init` writes."""
    folder = tmp_path_factory.mktemp("starter") / "spirals"
    done = undrift("init", str(folder), cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    return folder


class Shared:
    """Two replicas behind the load balancer, for one test after the other until one fails."""

    def __init__(self, starter: Path, folders: pytest.TempPathFactory) -> None:
        self._starter, self._folders = starter, folders
        self._running: Running | None = None

    def get(self) -> Running:
        """Return the platform that runs, or start one."""
        if self._running is None:
            folder = self._folders.mktemp("shared") / "spirals"
            limits = {"max_body_bytes": 200_000, "max_queued_requests": 60, "request_timeout_s": 8}
            alone = {"answer": "model"}  # so that an answer can be computed again by its version
            every = {"tap": {"rows_per_s": None, "bytes_per_s": None}}  # also of a flood
            serve = {"port": free_port(), "replicas": 2, **limits, **alone, **every}
            path = project(self._starter, folder, serve=serve, **SECTIONS)
            (folder / "model.py").write_text(MODEL_CODE, encoding="utf-8")
            self._running = Running(path)
            self._running.await_ready()
        return self._running

    def end(self) -> None:
        """`undrift down` ends it, and must leave nothing."""
        running, self._running = self._running, None
        if running is None:
            return
        try:
            done = undrift("down", "--json", cwd=running.path.parent)
            assert done.returncode == 0, done.stderr
            assert running.is_gone()
            assert running.end(signal.SIGTERM) == 130
        finally:
            running.kill_all()

    def kill(self) -> None:
        """End what a failed test has left, however it is."""
        if self._running is not None:
            self._running.kill_all()
            self._running = None


@pytest.fixture(scope="session")
def shared(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    shared = Shared(starter, tmp_path_factory)
    try:
        yield shared
        shared.end()
    finally:
        shared.kill()


@pytest.fixture
def platform(shared: Shared, request: pytest.FixtureRequest) -> Running:
    """The shared platform; a fresh one if a test has failed since it was started."""
    if request.session.stash.get(SPOILT, False):
        request.session.stash[SPOILT] = False
        shared.kill()
    return shared.get()


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    """Return `Running` itself; what is left of those it started is killed afterwards."""
    begun: list[Running] = []

    def run(path: Path, detach: bool = False, model: str | None = None) -> Running:
        begun.append(Running(path, detach, model))
        return begun[-1]

    yield run
    for running in begun:
        running.kill_all()


@pytest.fixture
def http(platform: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=platform.url, timeout=60, trust_env=False) as client:
        yield client


@pytest.fixture
def same_replicas(platform: Running) -> Iterator[None]:
    """No request may cost a replica its life."""
    before = sorted(platform.client.status().replicas), sorted(platform.processes("ray::Serve"))
    assert len(before[0]) == 2
    yield
    assert (
        sorted(platform.client.status().replicas),
        sorted(platform.processes("ray::Serve")),
    ) == before


@pytest.fixture(scope="session")
def object_store() -> Iterator[str]:
    with serving() as url:
        yield url


@pytest.fixture(scope="session")
def cluster(object_store: str) -> Iterator[Cluster]:
    """A cluster of others, with a Serve application of theirs."""
    with running_cluster(object_store) as found:
        yield found
