"""One life of a platform, from drift to a new version, in its logs, webhooks and dashboard."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.dashboard_page import FIGURES, named
from tests.helpers.prometheus import over, panels, query, scraping
from tests.helpers.receiver import Receiver
from tests.helpers.support import eventually
from tests.ray.running import Running, alive, free_port, project

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]
RAY_WRITES = (":job_id:", ":actor_name:", ":task_name:")  # first, into each log


@dataclass
class Life:
    """What was seen of a platform from its start to a new version, and after its end."""

    receiver: Receiver
    logs: dict[str, list[str]]
    panels: list[dict[str, Any]]


def lived(running: Running) -> None:
    """Ask and label, at first right, then every class as the next one, until version 2 is live."""
    with np.load(running.config.reference) as data:
        x, y = data["x"], data["y"]
    sent = 0

    def ask(turned: int) -> int:
        nonlocal sent
        part = np.arange(sent, sent + 50) % len(x)
        ids = running.client.infer(x[part], f"row-{sent}").ids
        running.client.feedback(ids, ((y[part] + turned) % 3).tolist())
        sent += 50
        return running.client.status().live_version

    for _ in range(10):
        ask(0)
        time.sleep(0.2)
    eventually(lambda: ask(1), until=lambda version: version == 2)
    for _ in range(10):
        ask(1)
        time.sleep(0.2)


def logs_of(session: int) -> Path:
    """Return where Ray keeps the logs of the platform's processes."""
    (raylet,) = [line for line in alive(session).values() if "/raylet --" in line]
    word = next(word for word in raylet.split() if word.startswith("--session_dir="))
    return Path(word.partition("=")[2]) / "logs"


@pytest.fixture(scope="module")
def life(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    folder, receiver = tmp_path_factory.mktemp("seen"), Receiver()
    thread = threading.Thread(target=receiver.http.serve_forever)
    thread.start()
    hooks = {"urls": [receiver.url], "allow_private": True}
    automatic = {"mode": "auto", "retrain_when": "worse", "cooldown_s": 0.0, "webhooks": hooks}
    path = project(
        starter,
        folder / "spirals",
        serve={"port": free_port(), "replicas": 1, "answer": "model"},
        lifecycle=automatic,
        monitor={"label_lag_rows": 500},
        train={"method": "finetune", "steps": 300},
        logs="json",
    )
    running = Running(path)
    try:
        running.await_ready()
        place = logs_of(running.pid)
        with scraping(running.url, folder) as prometheus:
            begun = time.time()
            lived(running)
            eventually(lambda: {e["type"] for e in receiver.events()} >= {"undrift.promoted"})
            time.sleep(2.0)  # two more scrapes
            seen = [_panel(panel, prometheus, begun) for panel in panels()]
        logs = {p.name: p.read_text(encoding="utf-8").splitlines() for p in place.glob("worker-*")}
        yield Life(receiver, logs, seen)
    finally:
        running.end(signal.SIGINT)
        running.kill_all()
        receiver.http.shutdown()
        thread.join()
        receiver.http.server_close()


def _panel(panel: dict[str, Any], prometheus: Any, begun: float) -> dict[str, Any]:
    found = [
        {"name": named(target["legendFormat"], series["metric"]), "values": series["values"]}
        for target in panel["targets"]
        for series in over(prometheus, query(target["expr"], "10s"), begun, time.time())
    ]
    shown = panel["fieldConfig"]["defaults"]
    return {
        "title": panel["title"],
        "type": panel["type"],
        **{name: shown.get(name) for name in ("unit", "min", "max")},
        "grid": panel["gridPos"],
        "targets": len(panel["targets"]),
        "series": found,
    }


def written(life: Life, role: str) -> list[str]:
    """Return the lines of the processes of a role."""
    title = f":actor_name:{role}"
    mine = [lines for lines in life.logs.values() if any(x.startswith(title) for x in lines)]
    assert mine, life.logs.keys()
    return [line for lines in mine for line in lines if not line.startswith(RAY_WRITES)]


def entries(life: Life, role: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written(life, role)]


@pytest.mark.parametrize("role", ["ControllerActor", "MonitorActor", "TrainerActor"])
def test_each_line_of_the_control_plane_is_json(life: Life, role: str) -> None:
    for entry in entries(life, role):
        assert entry.keys() >= {"time", "level", "logger", "message", "model", "role"}
        assert entry["model"] == "spirals"


def test_replica_writes_nothing_but_json(life: Life) -> None:
    assert all(isinstance(entry, dict) for entry in entries(life, "ServeReplica"))


def test_controller_logs_what_happens_with_its_run_and_version(life: Life) -> None:
    told = entries(life, "ControllerActor")
    (promoted,) = [entry for entry in told if "version 2 is live" in entry["message"]]
    assert promoted["version"] == 2
    assert promoted["run"].startswith("run-")


def test_webhook_tells_of_drift_and_of_the_new_version(life: Life) -> None:
    told = {event["type"]: event for event in life.receiver.events()}
    assert told["undrift.drift"]["data"]["version"] == 1
    promoted = told["undrift.promoted"]["data"]
    assert (promoted["model"], promoted["version"]) == ("spirals", 2)
    assert promoted["run"].startswith("run-")
    names = [event["type"] for event in life.receiver.events()]
    assert names.index("undrift.drift") < names.index("undrift.retraining")
    assert names.index("undrift.retraining") < names.index("undrift.promoted")


def test_every_panel_shows_something(life: Life) -> None:
    if figures := os.environ.get(FIGURES):
        Path(figures).write_text(json.dumps(life.panels), encoding="utf-8")
    few = {p["title"]: len(p["series"]) for p in life.panels if len(p["series"]) < p["targets"]}
    assert few == {}
