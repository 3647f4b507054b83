"""Every alert of the run-book is made to fire, on a platform that a real Prometheus scrapes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.alerts_page import FIGURES
from tests.helpers.prometheus import firing, rules, scraping
from tests.helpers.support import eventually
from tests.ray.faults import MONITOR
from tests.ray.running import Running, free_port, project, settled, undrift

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

SECTIONS = {
    "monitor": {"label_lag_rows": 1000},
    "lifecycle": {"mode": "off", "auto_rollback": False},
}
TAP = {"max_rows": 3000}


class Platform:
    """What is done to a platform so that an alert fires, in words and in deed."""

    def __init__(self, running: Running) -> None:
        self._running, self._client = running, running.client
        with np.load(running.config.reference) as data:
            self._x, self._y = data["x"], data["y"]
        self._sent = 0

    def swap_fails(self) -> None:
        """a version with a weight that is not a number is promoted"""
        self._client.promote(self._version(torch.nan))

    def goes_back(self) -> None:
        """a version is promoted, and `undrift rollback`"""
        good = self._version(0.01)
        self._client.promote(good)
        eventually(settled(self._running, good))
        self._client.rollback()
        eventually(settled(self._running, 1))

    def training_fails(self) -> None:
        """`undrift retrain` before there is a label"""
        self._ask(10)
        self._client.retrain()

    def inputs_move(self) -> None:
        """requests far from the reference, without labels"""
        self._ask(600, moved=3.0)

    def labels_stay_away(self) -> None:
        """1,000 rows, which is `label_lag_rows`, without labels"""
        self._ask(1500)

    def labels_turn(self) -> None:
        """every class is labelled as the next one"""
        index = np.arange(600) % len(self._y)
        for part in np.split(index, 6):
            ids = self._ask(len(part), at=part)
            self._client.feedback(ids, ((self._y[part] + 1) % 3).tolist())

    def monitor_stands_still(self) -> None:
        """the monitor is stopped (`SIGSTOP`) while twice as many rows come as the tap holds"""
        (pid,) = self._running.processes(MONITOR)
        os.kill(pid, signal.SIGSTOP)
        try:
            self._ask(2 * TAP["max_rows"])
        finally:
            os.kill(pid, signal.SIGCONT)

    def disk_refuses(self) -> None:
        """a file lies where the folder of the predictions was, while 10 rows come"""
        folder = self._running.config.model_state / "tables" / "predictions"
        folder.rename(folder.with_name("away"))
        folder.touch()
        try:
            self._ask(10)
            eventually(lambda: self._client.status().failures["monitor"])
        finally:
            folder.unlink()
            folder.with_name("away").rename(folder)

    def disk_fills(self) -> None:
        """a file leaves 2% free of the disk of the state, which is one of 256 MiB"""
        folder = self._running.config.model_state
        disk = shutil.disk_usage(folder)
        (folder.parent / "filler").write_bytes(bytes(disk.free - disk.total // 50))

    def platform_ends(self) -> None:
        """`undrift down`"""
        assert undrift("down", cwd=self._running.path.parent).returncode == 0

    def _ask(self, rows: int, moved: float = 0.0, at: np.ndarray | None = None) -> list[str]:
        ids: list[str] = []
        for start in range(0, rows, 100):
            index = np.arange(start, min(start + 100, rows)) % len(self._x) if at is None else at
            self._sent += 1
            ids += self._client.infer(self._x[index] + moved, f"alert-{self._sent}").ids
        return ids

    def _version(self, bias: float) -> int:
        store = self._running.store
        state = {name: tensor.clone() for name, tensor in store.state_dict(1).items()}
        (name,) = (name for name, tensor in state.items() if tensor.shape == (3,))
        state[name][0] += bias
        reference = store.reference(1)
        made = store.add_version(state, parent=1, reference=reference, metrics={}, plan=None)
        return made.version


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 256 MiB, which only root may."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False).returncode:
        pytest.skip("no disk can be mounted; root can")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_every_alert_fires_when_it_should(
    starter: Path, tmp_path: Path, disk: Path, start: Callable[..., Running]
) -> None:
    serve = {"port": free_port(), "replicas": 1, "tap": TAP}
    sections = {"serve": serve, "state": str(disk / "state"), **SECTIONS}
    path = project(starter, tmp_path / "spirals", **sections)
    running = start(path).await_ready()
    platform = Platform(running)
    deeds = {
        platform.training_fails: ("UndriftTrainingFailed",),
        platform.swap_fails: ("UndriftSwapFailed",),
        platform.goes_back: ("UndriftRollback",),
        platform.inputs_move: ("UndriftWarningStands",),
        platform.labels_stay_away: ("UndriftLabelsMissing",),
        platform.labels_turn: ("UndriftDrift", "UndriftLeadUnanswered"),
        platform.monitor_stands_still: ("UndriftTapDrops",),
        platform.disk_refuses: ("UndriftLostRows",),
        platform.disk_fills: ("UndriftStateSoonFull",),
        platform.platform_ends: ("UndriftSilent",),
    }
    waits = {rule["alert"]: rule.get("for", "0") for rule in rules()}
    assert {alert for alerts in deeds.values() for alert in alerts} == waits.keys()
    (tmp_path / "prometheus").mkdir()
    with scraping(running.url, tmp_path / "prometheus") as prometheus:
        for deed, alerts in deeds.items():
            assert not firing(prometheus) & set(alerts)
            begun = time.monotonic()
            deed()
            for alert in alerts:
                eventually(lambda a=alert: a in firing(prometheus), 120)
                told = {"alert": alert, "how": deed.__doc__, "waits": waits[alert]}
                note({**told, "seconds": round(time.monotonic() - begun, 1)})


def note(seen: dict[str, object]) -> None:
    """Add to the file that the page is made from."""
    if file := os.environ.get(FIGURES):
        with Path(file).open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(seen) + "\n")
