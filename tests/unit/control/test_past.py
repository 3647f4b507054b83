"""A journal that has lost its first events leads where the whole one leads."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.rows import predictions
from tests.unit.control.test_memory import life, plain, told, write
from tests.unit.control.test_walk import SETTINGS
from undrift.control import memory as module
from undrift.control import past
from undrift.control.memory import Memory
from undrift.control.past import beginnings, begun, recalled, rest
from undrift.control.story import recover
from undrift.errors import StoreError
from undrift.store.blobs import Blobs
from undrift.store.journal import TOLD, Journal
from undrift.store.place import Where
from undrift.store.settings import RetentionSettings
from undrift.store.store import Store

PART = 100
ALL = {"event_days": None, "events": None, "max_event_bytes": None}


def limits(**more: Any) -> RetentionSettings:
    return RetentionSettings.model_construct(**{**RetentionSettings().model_dump(), **ALL, **more})


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY", 50)
    monkeypatch.setattr(module, "PAGE", 16)


def lived(root: Where, allowed: RetentionSettings, parts: int = 6) -> list[dict[str, Any]]:
    """Write a life in parts, each taken in by a start of its own; returns all events."""
    records: list[dict[str, Any]] = []
    source = life(5)
    for _ in range(parts):
        first = len(records)
        records += [next(source) for _ in range(PART)]
        write(root, records[first:], first)
        memory = Memory(root, SETTINGS, allowed)
        memory.recall()
        assert memory.trouble == ""
    return records


def test_what_is_left_leads_where_the_whole_journal_leads(root: Where) -> None:
    records = lived(root, limits(events=200))
    expected, whole = recover(records, SETTINGS)
    kept = Journal(root).read()
    assert Journal(root).first() == 300
    assert kept == records[300:]
    state, story = recalled(root, SETTINGS)
    assert (state, plain(state, story)) == (expected, plain(expected, whole))
    Blobs(root).remove(module.SNAPSHOT)
    memory = Memory(root, SETTINGS, limits(events=200))
    state, story = memory.recall()
    assert (state, plain(state, story)) == (expected, plain(expected, whole))
    assert [seq for seq, _ in rest(root, begun(root, SETTINGS))][-1] == len(records) - 1


def test_what_was_told_is_kept_as_long_as_the_events_it_tells_of(tmp_path: Path) -> None:
    root = tmp_path
    records = lived(root, limits(events=200))
    memory = Memory(root, SETTINGS)
    _, story = memory.recall()
    _, whole = recover(records, SETTINGS)
    known = [json.loads(json.dumps(asdict(entry))) for entry in whole.entries]
    kept = told(memory, story, 100)
    assert kept == known[-len(kept) :]
    _, before = recover(records[:300], SETTINGS)
    assert len(known) - before.told <= len(kept) < len(known)
    assert Journal(root, TOLD).first() > 0


@pytest.mark.parametrize(
    ("allowed", "first"),
    [
        (limits(), 0),
        (limits(events=100_000), 0),
        (limits(events=50), 400),
        (limits(max_event_bytes=1), 400),
        (limits(event_days=1e-9), 400),
        (limits(event_days=1e9), 0),
    ],
)
def test_each_limit_holds_by_itself(tmp_path: Path, allowed: RetentionSettings, first: int) -> None:
    lived(tmp_path, allowed)
    assert Journal(tmp_path).first() == first


def test_nothing_goes_without_limits(tmp_path: Path) -> None:
    lived(tmp_path, limits())
    assert beginnings(Blobs(tmp_path)) == []
    Memory(tmp_path, SETTINGS).recall()
    assert Journal(tmp_path).first() == 0


def test_events_of_the_time_of_kept_rows_stay(tmp_path: Path) -> None:
    Store(tmp_path).append_predictions(1, predictions(np.zeros((3, 2))))
    lived(tmp_path, limits(events=50))
    assert Journal(tmp_path).first() == 0


@pytest.mark.parametrize("how", ["missing", "damaged", "of another release", "of another journal"])
def test_beginning_that_cannot_be_used_is_told_and_nothing_is_made_up(
    tmp_path: Path, how: str
) -> None:
    lived(tmp_path, limits(events=200))
    blobs = Blobs(tmp_path)
    blobs.remove(module.SNAPSHOT)
    for start in beginnings(blobs):
        found = blobs.load(start.name)
        assert found is not None
        if how == "missing":
            blobs.remove(start.name)
        elif how == "damaged":
            (tmp_path / "blobs" / f"{start.name}.npz").write_bytes(b"PK")
        elif how == "of another release":
            blobs.save(start.name, {}, {**found[1], "format": 99})
        else:
            blobs.save(start.name, {}, {**found[1], "mark": "cafe"})
    with pytest.raises(StoreError, match=r"journal-"):
        Memory(tmp_path, SETTINGS).recall()


def test_snapshot_of_before_orders_had_keys_can_stand_for_what_is_gone(tmp_path: Path) -> None:
    lived(tmp_path, limits(events=200))
    blobs = Blobs(tmp_path)
    for start in beginnings(blobs):
        found = blobs.load(start.name)
        assert found is not None
        del found[1]["story"]["orders"]
        blobs.save(start.name, {}, found[1])
    assert begun(tmp_path, SETTINGS).story.orders == []


def test_drop_that_was_cut_off_is_made_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = Blobs.remove

    def cut(*_: Any) -> None:
        raise StoreError("power")

    monkeypatch.setattr(Blobs, "remove", cut)
    source, records = life(5), list[dict[str, Any]]()
    for _ in range(6):
        first = len(records)
        records += [next(source) for _ in range(PART)]
        write(tmp_path, records[first:], first)
        Memory(tmp_path, SETTINGS, limits(events=200)).recall()
    assert recalled(tmp_path, SETTINGS)[0] == recover(records, SETTINGS)[0]
    monkeypatch.setattr(Blobs, "remove", remove)
    assert past.begun(tmp_path, SETTINGS).seq >= Journal(tmp_path).first() > 0
