"""What is done to a platform under load, and what must hold afterwards."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from tests.helpers.support import eventually
from tests.ray.running import Running, listening, settled, undrift
from tests.ray.traffic import Labeller, Traffic
from undrift.errors import PlatformError
from undrift.store.store import Store

REPLICA, BALANCER_MANAGER = "ray::ServeReplica", "ray::HAProxyManager"
MONITOR, CONTROLLER = "ray::MonitorActor", "ray::ControllerActor"
TRAINER, WORKER = "ray::TrainerActor", "ray::RayTrainWorker"
FIGURES = "FAULTS_JSON"
STOPPED_S = 10.0
PAUSE_S = 0.05


class Load:
    """Clients that ask and one that labels, all slowed down, while something is done.

    Attributes:
        traffic: Those who ask.
        labeller: Who labels.
    """

    def __init__(self, running: Running, name: str, asked: str) -> None:
        self._name, self._asked = name, asked
        ids = re.sub(r"\W+", "-", f"{name}-{time.time_ns()}")
        self.traffic = Traffic(running.url, ids, clients=3, pause_s=PAUSE_S)
        self.labeller = Labeller(running.url, self.traffic)
        self.back_s = 0.0

    def flows(self) -> None:
        """Wait until requests and labels that are sent from now on are answered."""
        now = time.monotonic()
        eventually(lambda: len(self.traffic.since(now)), 120, until=lambda seen: seen >= 20)
        stored = len(self.labeller.acknowledged)
        eventually(
            lambda: len(self.labeller.acknowledged), 120, until=lambda seen: seen >= stored + 100
        )

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Measure how long it takes until the block is done and all flows again."""
        begun = time.monotonic()
        yield
        self.flows()
        self.back_s = time.monotonic() - begun

    def tell(self) -> None:
        """Print what clients saw, and add it to the file that the page is made from."""
        traffic, labeller = self.traffic, self.labeller
        waits = [a.received - a.sent for a in traffic.answers]
        seen = {
            "fault": self._name,
            "asked": self._asked,
            "requests": len(traffic.answers) + len(traffic.failures),
            "raw": traffic.raw,
            "failed": len(traffic.failures),
            "longest_s": round(max(waits), 1),
            "back_s": round(self.back_s, 1),
            "labels": len(labeller.acknowledged),
            "refused": len(labeller.refused),
        }
        line = json.dumps(seen) + "\n"
        sys.stdout.write(line)
        if path := os.environ.get(FIGURES):
            with Path(path).open("a", encoding="utf-8") as file:
                file.write(line)


@contextmanager
def load(running: Running, name: str, asked: str = "no request fails") -> Iterator[Load]:
    """Put a platform under load while the block runs, then tell what was seen."""
    loaded = Load(running, name, asked)
    with loaded.traffic, loaded.labeller:
        loaded.flows()
        yield loaded
    loaded.tell()


def replaced(running: Running, title: str, victim: int) -> int:
    """Kill a process, wait until another has taken its place, and return that."""
    before = set(running.processes(title))
    assert victim in before
    os.kill(victim, signal.SIGKILL)
    return eventually(lambda: set(running.processes(title)) - before, 120).pop()


def anonymous(pid: int) -> int:
    """Return the bytes of a process's memory that no file stands behind."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
    (line,) = [line for line in text.splitlines() if line.startswith("Anonymous:")]
    return 1024 * int(line.split()[1])


def stopped(running: Running, title: str) -> None:
    """Let a process stand still for a while."""
    victim = running.processes(title)[-1]
    os.kill(victim, signal.SIGSTOP)
    try:
        time.sleep(STOPPED_S)
    finally:
        with suppress(ProcessLookupError):  # somebody may have lost patience with it
            os.kill(victim, signal.SIGCONT)


def whole(running: Running) -> int:
    """Wait until the monitor answers and all replicas have the live version; returns that."""

    def live() -> int | None:
        with suppress(PlatformError, httpx.TransportError):
            running.client.drift()
            version = running.client.status().live_version
            return version if settled(running, version)() else None
        return None

    return eventually(live, 120)


def drifted(running: Running, load: Load) -> None:
    """Label wrongly until the platform decides that there is drift."""
    load.labeller.turn = 1
    eventually(lambda: running.client.status().phase, 60, until=lambda seen: seen == "drift")


def keeps_its_word(load: Load, state: Path, project: Path) -> None:
    """Check that every acknowledged label is stored, and that a replay decides the same."""
    assert load.labeller.wrong == []
    stored = set(Store(state).labels().ids)
    assert [i for i in load.labeller.acknowledged if i not in stored] == []
    done = undrift("replay", "--json", cwd=project)
    assert done.returncode == 0, done.stderr
    decisions = json.loads(done.stdout)["totals"]["decisions"]
    assert decisions["same"] == decisions["live"] >= 1


def rows_in_order(store: Store) -> None:
    """Check that rows are numbered without a gap, and none is stored twice."""
    rows = store.predictions()
    assert rows.row.tolist() == list(range(len(rows)))
    assert len(set(rows.ids)) == len(rows.ids)


def zombies(pids: list[int]) -> list[str]:
    """Return what the system says of those processes that ended and that nobody waited for."""
    found = []
    for pid in pids:
        with suppress(OSError):
            text = (Path("/proc") / str(pid) / "stat").read_text(encoding="utf-8")
            if text.rpartition(")")[2].split()[0] == "Z":
                found.append(text)
    return found


def ends_clean(running: Running, expected: int = 130) -> None:
    """End a platform with `undrift down`; it must leave no process and hold no port."""
    pids = running.processes()
    ports = {port for _, port in listening(pids)}
    assert running.config.serve.port in ports
    done = undrift("down", "--json", cwd=running.path.parent)
    assert done.returncode == 0, done.stderr
    assert running.end(signal.SIGTERM) == expected
    is_left_clean(running, pids, ports)


def is_left_clean(running: Running, pids: list[int], ports: set[int]) -> None:
    """Check that of a platform that has ended no process is left, and no port is held."""
    eventually(lambda: running.processes(), 30, until=lambda left: not left)
    eventually(lambda: zombies(pids), 30, until=lambda left: not left)
    everybody = [int(proc.name) for proc in Path("/proc").glob("[0-9]*")]
    assert ports & {port for _, port in listening(everybody)} == set()
