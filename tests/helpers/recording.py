"""A state folder recorded by the real monitor actor, in this process and without Ray."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import torch

from tests.helpers.streams import Stream
from undrift.events import Codec, Rearm, Scored
from undrift.evidence import Level
from undrift.monitor.actor import MonitorActor
from undrift.monitor.settings import MonitorSettings
from undrift.store.journal import Journal
from undrift.store.place import Root
from undrift.store.store import Store

SETTINGS = MonitorSettings(
    rows_per_false_drift=10_000, label_lag_rows=1_000, join_window_rows=5_000, commit_ms=1.0
)
ORDER = Rearm(version=2, run_id="run-1", regime_start=300, against=1)

Body = Callable[[MonitorActor], Coroutine[Any, Any, None]]


def two_versions(root: Root) -> None:
    """Make a state folder with two versions."""
    store = Store(root)
    for seed in (0, 1):
        store.add_version(
            {"w": torch.zeros(1)},
            parent=None,
            reference=Stream(seed).reference(200),
            metrics={},
            plan=None,
        )


def acting(root: Root, *bodies: Body, settings: MonitorSettings = SETTINGS) -> dict[str, Any]:
    """Run an actor until the bodies are done, then kill it; returns its last report."""

    async def run() -> dict[str, Any]:
        actor = MonitorActor(root, settings, 1)
        for body in bodies:
            await body(actor)
        return actor.report()

    return asyncio.run(run())


def feeding(
    source: Stream, seen: dict[int, str], *, ticks: int = 6, version: int = 1, flipped: float = 0.0
) -> Body:
    """Return a body that feeds ticks of 50 rows and keeps the evidence after each as JSON."""

    async def body(actor: MonitorActor) -> None:
        for _ in range(ticks):
            rows, labels = source.take(50, version=version, flipped=flipped)
            actor.ingest(rows)
            await actor.feedback(labels)
            await actor.drain()
            report = actor.report()
            seen[report.commit] = json.dumps(Codec.encode(report.evidence))

    return body


async def rearm(actor: MonitorActor) -> None:
    """Order version 2 to be watched."""
    await actor.rearm(Codec.encode(ORDER))


def drifted(root: Root) -> int:
    """Record calm, drift, re-arming and calm, with the journal; returns the decisions in it."""
    two_versions(root)
    source, seen = Stream(5), {}
    acting(
        root,
        feeding(source, seen),
        feeding(source, seen, flipped=0.6),
        rearm,
        feeding(source, seen, version=2),
    )
    journal, level, decisions = Journal(root), Level.NONE, 0
    for text in seen.values():
        evidence = Codec.evidence(json.loads(text))
        if evidence.level != level:
            journal.append(Codec.encode(Scored(at=1.0, evidence=evidence)), at=1.0)
            level, decisions = evidence.level, decisions + 1
    return decisions
