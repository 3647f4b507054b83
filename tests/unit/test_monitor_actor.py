"""The monitor's shell without Ray: what it records suffices to decide the same again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.streams import Stream
from undrift.errors import ConfigError
from undrift.events import Codec, Rearm
from undrift.journal import ORDERS, Journal
from undrift.monitor.actor import MonitorActor
from undrift.monitor.history import moments, take
from undrift.monitor.monitor import Monitor
from undrift.monitor.settings import MonitorSettings
from undrift.records import Reference
from undrift.store import Store

SETTINGS = MonitorSettings(
    rows_per_false_drift=1_000, label_lag_rows=1_000, join_window_rows=5_000, commit_ms=1.0
)
ORDER = Rearm(version=2, run_id="run-1", regime_start=300, against=1)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A state folder with two versions."""
    store = Store(tmp_path / "state")
    for seed in (0, 1):
        store.add_version(
            {"w": torch.zeros(1)},
            parent=None,
            reference=Stream(seed).reference(200),
            metrics={},
            plan=None,
        )
    return tmp_path / "state"


def acting(root: Path, body: Callable[[MonitorActor], Coroutine[Any, Any, None]]) -> dict[str, Any]:
    """Run an actor until ``body`` is done, then kill it; returns its last report."""

    async def run() -> dict[str, Any]:
        actor = MonitorActor(root, SETTINGS, 1)
        await body(actor)
        return actor.report()

    return asyncio.run(run())


def feeding(
    source: Stream, seen: dict[int, str], version: int = 1, ticks: int = 6
) -> Callable[[MonitorActor], Coroutine[Any, Any, None]]:
    """Return a body that feeds ticks whose every fourth label is wrong, and keeps the evidence."""

    async def body(actor: MonitorActor) -> None:
        for _ in range(ticks):
            rows, labels = source.take(50, version=version, flipped=0.4)
            actor.ingest(rows)
            await actor.feedback(labels)
            await actor.drain()
            seen[actor.report()["tick"]] = json.dumps(actor.report()["evidence"])

    return body


def replayed(root: Path) -> dict[int, str]:
    """Return the evidence after each tick of a fold over all that was recorded."""
    store = Store(root, read_only=True)
    monitor = Monitor(SETTINGS, store.reference(1), 1)
    orders = [(o["tick"], Codec.decode(o)) for o in Journal(root, ORDERS).read()]
    seen = {}
    for moment in moments(store.ticks(0), orders):
        take(monitor, moment, store.reference)
        if moment.order is None:
            seen[moment.tick] = json.dumps(Codec.encode(monitor.evidence()))
    return seen


async def rearm(actor: MonitorActor) -> None:
    await actor.rearm(Codec.encode(ORDER))


def test_replay_of_the_record_gives_the_live_evidence_across_kills_and_rearming(root: Path) -> None:
    source, seen = Stream(5), {}
    acting(root, feeding(source, seen))
    acting(root, rearm)
    acting(root, feeding(source, seen, version=2))
    assert len(seen) >= 12
    again = replayed(root)
    assert {tick: again[tick] for tick in seen} == seen
    assert len(set(seen.values())) == len(seen)


def test_order_recorded_before_a_kill_takes_effect_at_its_tick(root: Path) -> None:
    source, seen = Stream(5), {}
    last = acting(root, feeding(source, seen))
    record = {**Codec.encode(ORDER), "tick": last["tick"]}
    Journal(root, ORDERS).append(record, at=0.0)  # and then the process was killed

    async def nothing(actor: MonitorActor) -> None:
        pass

    after = acting(root, nothing)
    assert (after["evidence"]["version"], after["run_id"], after["tick"]) == (
        2,
        "run-1",
        last["tick"],
    )
    acting(root, rearm)  # the controller asks again
    assert Journal(root, ORDERS).read() == [record]
    acting(root, feeding(source, seen, version=2))
    again = replayed(root)
    assert {tick: again[tick] for tick in seen} == seen


def test_lost_checkpoint_costs_nothing_but_time(root: Path) -> None:
    source, seen = Stream(5), {}
    acting(root, feeding(source, seen))
    acting(root, rearm)
    before = acting(root, feeding(source, seen, version=2))
    (root / "blobs" / "monitor.npz").unlink()

    async def nothing(actor: MonitorActor) -> None:
        pass

    assert acting(root, nothing) == before


def test_order_that_cannot_be_carried_out_is_not_recorded(root: Path) -> None:
    r = Stream(0).reference(10)
    short = Reference(r.x, r.y, r.embedding, r.output, np.ones(10, dtype=np.bool_))
    Store(root).add_version({"w": torch.zeros(1)}, parent=1, reference=short, metrics={}, plan=None)

    async def body(actor: MonitorActor) -> None:
        with pytest.raises(ConfigError):
            await actor.rearm(Codec.encode(Rearm(version=3, run_id="run-9")))
        assert actor.report()["evidence"]["version"] == 1

    acting(root, body)
    assert Journal(root, ORDERS).read() == []
