"""A replay of what a real platform recorded makes its decisions again, on the same evidence."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.support import eventually
from tests.ray.running import Running, free_port, project, settled, undrift
from undrift.events import Codec
from undrift.evidence import Evidence
from undrift.monitor.history import Moment
from undrift.monitor.retention import begin
from undrift.replay.sources import recorded
from undrift.replay.timeline import replay_recording
from undrift.views import DriftView, plain

pytestmark = pytest.mark.ray


@pytest.fixture
def watched(starter: Path, tmp_path: Path) -> Iterator[Running]:
    """One replica; nothing happens by itself but watching, and heads that learn and answer too."""
    sections = {
        "serve": {"port": free_port(), "replicas": 1, "answer": "mixture"},
        "monitor": {"rows_per_false_drift": 10_000},
        "lifecycle": {"mode": "off", "auto_rollback": False},
    }
    running = Running(project(starter, tmp_path / "spirals", **sections))
    try:
        yield running.await_ready()
    finally:
        running.end(signal.SIGINT)
        running.kill_all()


class Seen:
    """What `GET drift` said after each request."""

    def __init__(self, running: Running) -> None:
        self.running = running
        data = np.load(running.config.reference)
        self.x, self.y = data["x"], data["y"]
        self.sent = 0
        self.turned = 0.0
        self.evidence: set[str] = set()

    def ask(self, times: int, turn: int = 0) -> DriftView:
        """Ask and label 50 rows, some times; ``turn`` makes wrong labels. Returns the last view."""
        client = self.running.client
        for _ in range(times):
            index = np.arange(self.sent, self.sent + 50) % len(self.y)
            answer = client.infer(self.x[index], f"row-{self.sent}")
            truth = (self.y[index] + turn) % 3
            self.turned = float((answer.label == truth).mean())
            client.feedback(answer.ids, truth.tolist())
            self.sent += 50
            view = client.drift()
            if view.rows:  # the controller may not have looked since the first tick
                self.evidence.add(shown(plain(view)))
        return view


def shown(view: dict[str, Any]) -> str:
    """Return the evidence in what `GET drift` answers."""
    return json.dumps({key: view[key] for key in Evidence.__dataclass_fields__})


def as_shown(evidence: Evidence) -> str:
    """Return evidence as `GET drift` would."""
    view = json.loads(json.dumps(Codec.encode(evidence)))
    view["level"] = evidence.level.name.lower()
    for signal_view, report in zip(view["signals"], evidence.signals, strict=True):
        signal_view["level"] = report.level.name.lower()
    return shown(view)


def test_replay_makes_the_live_decisions_again_byte_for_byte(watched: Running) -> None:
    seen = Seen(watched)
    seen.ask(6)
    (victim,) = watched.processes("ray::MonitorActor")
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: set(watched.processes("ray::MonitorActor")) - {victim}, 60)
    eventually(lambda: seen.ask(1, turn=1).level, 60, until=lambda seen: seen == "drift")
    # Nothing is retrained, yet the heads beside the model learn the turned classes and answer.
    eventually(lambda: (seen.ask(1, turn=1), seen.turned)[1], 60, until=lambda right: right > 0.8)
    assert sum(rival.share for rival in seen.ask(1, turn=1).challengers) > 0.5

    store = watched.store
    version = store.add_version(
        store.state_dict(1), parent=1, reference=store.reference(1), metrics={}, plan=None
    ).version
    watched.client.promote(version)
    eventually(settled(watched, version))
    eventually(lambda: seen.ask(1).version, 60, until=lambda seen: seen == version)
    seen.ask(6)

    done = undrift("replay", "--json", cwd=watched.path.parent)  # the platform runs on
    assert done.returncode == 0, done.stderr
    totals = json.loads(done.stdout)["totals"]
    assert totals["decisions"]["same"] == totals["decisions"]["live"] >= 1
    assert totals["rearmed"] == 1

    again = set()

    def observe(_: Moment, evidence: Evidence) -> None:
        again.add(as_shown(evidence))

    record = recorded(watched.config.model_state)
    names = watched.config.model.class_names
    reference = record.store.reference
    begun = begin(record.store, record.blobs, watched.config.monitor, names)
    replay_recording(record.moments, begun.monitor, reference, observe=observe)
    assert len(seen.evidence) > 10
    assert seen.evidence <= again
