"""Which versions are kept, and that one that was dropped is told of, not missed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.helpers.streams import Stream
from undrift.control.doctor import examine
from undrift.control.lifecycle import initial
from undrift.control.room import Gauge
from undrift.control.settings import LifecycleSettings
from undrift.control.shelf import Shelf, in_use, watched
from undrift.control.state import Phase, Run, State
from undrift.errors import StoreError
from undrift.events import Codec, Rearm, Swap, Tick
from undrift.monitor.history import LEFT_OUT
from undrift.records import Assignment
from undrift.store.bucket import Bucket
from undrift.store.journal import REARMINGS, Journal
from undrift.store.settings import RetentionSettings
from undrift.store.store import Store

STATE = initial(LifecycleSettings(), 1)
CHAIN = {1: None} | {n: n - 1 for n in range(2, 20)}


def live(version: int, **changes: object) -> State:
    given = {"baseline": None} | changes
    return replace(STATE, assignment=Assignment(version), **given)  # type: ignore[arg-type]


def test_what_the_lifecycle_may_ask_for_is_in_use_with_its_parents() -> None:
    assert in_use(live(7), CHAIN) == {6, 7}
    assert in_use(live(7, previous=3), CHAIN) == {2, 3, 6, 7}
    run = Run("run-1", "drift", Phase.HEALTHY, 0.0, 12)
    assert in_use(live(7, run=run, proving=run), CHAIN) == {6, 7, 11, 12}
    swap = Swap(assignment=Assignment(9), run_id="run-2")
    assert in_use(live(7, outstanding=(swap,)), CHAIN) == {6, 7, 8, 9}
    assert in_use(live(1, baseline=Rearm(version=5)), CHAIN) == {1, 4, 5}


def test_what_a_replay_of_the_kept_rows_watches_is_needed() -> None:
    records = [{"version": v, "commit": c} for v, c in ((2, 10), (3, 20), (4, 30))]
    records.insert(1, {"type": LEFT_OUT, "commit": 15})
    assert watched([], 0) == {1}
    assert watched(records, 0) == {1, 2, 3, 4}
    assert watched(records, 20) == {3, 4}
    assert watched(records, 99) == {4}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store, reference = Store(tmp_path / "state"), Stream(0).reference(50)
    for n in range(8):
        store.add_version(
            {"w": torch.full((1,), float(n))},
            parent=n or None,
            reference=reference,
            metrics={"of": n},
            plan=None,
        )
    return store


def shelf(root: Path, keep: int, state: State) -> tuple[Shelf, dict[str, str]]:
    failures: dict[str, str] = {}
    limits = RetentionSettings(versions=keep)
    return Shelf(root / "state", failures, limits, lambda: state), failures


def test_the_newest_and_those_in_use_are_kept(store: Store, tmp_path: Path) -> None:
    rearmings = Journal(tmp_path / "state", REARMINGS)
    rearmings.append({**Codec.encode(Rearm(version=2)), "commit": 5}, at=1.0)
    found, _ = shelf(tmp_path, 2, live(5))
    found.drop_unused()
    assert store.version_numbers() == [1, 2, 4, 5, 7, 8]
    assert [m.version for m in store.versions()] == store.version_numbers()
    shelf(tmp_path, 20, live(1))[0].drop_unused()
    assert store.version_numbers() == [1, 2, 4, 5, 7, 8]


def test_dropped_version_is_explained_but_cannot_be_served(store: Store, tmp_path: Path) -> None:
    shelf(tmp_path, 1, live(8))[0].drop_unused()
    assert store.version_numbers() == [1, 7, 8]
    assert store.manifest(3).metrics == {"of": 2}
    with pytest.raises(StoreError, match=r"version 3 is not kept any more \(retention.versions\)"):
        store.weights_path(3)
    with pytest.raises(StoreError, match="no model version 9"):
        store.manifest(9)
    added = store.add_version(
        {"w": torch.ones(1)}, parent=8, reference=store.reference(8), metrics={}, plan=None
    )
    assert added.version == 9, "numbers are never used again"


def test_dropping_that_a_crash_interrupts_is_ended_by_the_next_start(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(path: Path) -> None:
        raise OSError("power cut")

    monkeypatch.setattr("undrift.store.versions.shutil.rmtree", cut)
    with pytest.raises(StoreError, match="power cut"):
        shelf(tmp_path, 6, live(8))[0].drop_unused()
    monkeypatch.undo()
    again = Store(tmp_path / "state")
    assert again.version_numbers() == [1, 3, 4, 5, 6, 7, 8]
    assert not list((tmp_path / "state" / "versions").glob(".tmp-*"))


def test_room_is_what_the_disk_has_and_the_rate_of_the_state(store: Store, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "state")
    for at in (0.0, 43_200.0):
        journal.append(Codec.encode(Tick(at=at)), at)
    limits = RetentionSettings(event_days=None, events=None, max_event_bytes=None)
    found = Shelf(tmp_path / "state", {}, limits, lambda: live(5))
    assert found.room is None
    found.measure()
    disk = shutil.disk_usage(tmp_path)
    assert found.room is not None
    assert found.room.free_share == pytest.approx(disk.free / disk.total, rel=0.01)
    examined = examine(tmp_path / "state", LifecycleSettings(), limits)
    assert found.room.days_left == pytest.approx(examined.days_left, rel=0.01)


@pytest.mark.thorough
def test_state_in_a_bucket_has_no_room(bucket: Bucket) -> None:
    Store(bucket)
    assert Gauge(bucket, RetentionSettings()).read() is None
