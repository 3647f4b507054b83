"""Labels that come too late for the signals are told, used for training, and decide nothing."""

from __future__ import annotations

import asyncio
from collections import deque
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.recording import SETTINGS, acting, two_versions
from tests.helpers.rows import predictions
from tests.helpers.streams import Stream
from tests.unit.store.test_cold import PART, PARTS, filled, ids
from tests.unit.store.test_numbers import predictions as numbers
from undrift.errors import StoreError
from undrift.events import Codec
from undrift.monitor import late as module
from undrift.monitor.actor import MonitorActor
from undrift.monitor.history import moments, take
from undrift.monitor.join import LabelJoin
from undrift.monitor.late import LateLabels
from undrift.monitor.monitor import Monitor
from undrift.records import Labels
from undrift.store.blobs import Blobs
from undrift.store.record import Record
from undrift.store.store import Store


def labels(names: list[str], label: int = 0, at: float = 1_000.0) -> Labels:
    return Labels(tuple(names), np.full(len(names), label), np.full(len(names), at))


def test_join_hands_on_what_was_late_or_has_expired_and_nothing_else() -> None:
    join = LabelJoin(window=10)
    rows = np.arange(30)
    at = 1.75e9 + 0.06 * rows
    join.add(predictions(np.zeros((30, 1)), ids=ids(rows), at=at))
    join.label(labels([ids(rows)[2], ids(rows)[25], "own"], label=1))
    assert [name for name, *_ in join.left] == [ids(rows)[2]]
    join.add(predictions(np.zeros((20, 1)), first=30, ids=ids(rows[:20] + 30), at=at[:20] + 1.8))
    assert list(join.left) == [(ids(rows)[2], 1, 1_000.0), ("own", 1, 1_000.0)]
    again = LabelJoin(window=10)
    again.load(join.state())
    assert not again.left


def test_late_labels_are_found_in_the_store_and_told_after_a_restart(tmp_path: Path) -> None:
    filled(tmp_path)
    rows, blobs = np.arange(20), Blobs(tmp_path)
    late = LateLabels(Record(tmp_path), blobs)
    assert late.view() is None
    late.take(deque([(name, 0, 1_000.0) for name in [*ids(rows), "nobody"]]))
    late.take(deque([(ids(rows)[0], 1, 2_000.0)]))  # says otherwise; the first stands
    assert late
    late.look_up(newest_row=PART * PARTS - 1)
    told = {
        "found": 20,
        "unknown": 1,
        "waiting": 0,
        "skipped": 0,
        "accuracy": 0.5,
        "lag_rows": PART * PARTS - 1 - 9.5,
        "lag_seconds": 1_000 - 9.5,
    }
    assert late.view() == told
    assert not late
    assert LateLabels(Record(tmp_path), blobs).view() == told


def test_store_that_refuses_loses_no_late_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path)
    late = LateLabels(Record(tmp_path), Blobs(tmp_path))
    late.take(deque([(name, 0, 1_000.0) for name in ids(np.arange(3))]))

    def away(*_: object) -> None:
        raise StoreError("the disk is away")

    with monkeypatch.context() as broken:
        broken.setattr(Record, "look_up", away)
        late.look_up(100)
        assert "late labels are not looked up: the disk is away" in late.trouble
        view = late.view()
        assert view is not None
        assert (view["waiting"], view["found"]) == (3, 0)
    late.look_up(100)
    view = late.view()
    assert view is not None
    assert (view["waiting"], view["found"], late.trouble) == (0, 3, "")


def test_labels_are_counted_once_though_the_counts_cannot_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path)
    late = LateLabels(Record(tmp_path), Blobs(tmp_path))

    def full(*_: object) -> None:
        raise StoreError("no space left")

    monkeypatch.setattr(Blobs, "save", full)
    late.take(deque([(name, 0, 1_000.0) for name in ids(np.arange(3))]))
    for _ in range(2):
        late.look_up(100)
        view = late.view()
        assert view is not None
        assert (view["found"], view["waiting"]) == (3, 0)
        assert "counts of late labels are not kept: no space left" in late.trouble


def test_fault_of_ours_is_told_and_later_labels_are_looked_up_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path)
    monkeypatch.setattr(module, "LOOK_UP_S", 0.0)
    late, (first, second) = LateLabels(Record(tmp_path), Blobs(tmp_path)), ids(np.arange(2))

    def broken(*_: object) -> None:
        raise TypeError("no such thing")

    async def looked_up(name: str) -> dict[str, float | None]:
        late.take(deque([(name, 0, 1_000.0)]))
        while late:
            await asyncio.sleep(0.01)
            assert not following.done()
        view = late.view()
        assert view is not None
        return view

    async def play() -> None:
        nonlocal following
        following = asyncio.create_task(late.follow(lambda: 100))
        with monkeypatch.context() as fault:
            fault.setattr(Record, "look_up", broken)
            assert (await looked_up(first))["skipped"] == 1
            assert "TypeError: no such thing" in late.trouble
        view = await looked_up(second)
        assert (view["skipped"], view["found"], late.trouble) == (1, 1, "")
        following.cancel()

    following: asyncio.Task[None]
    asyncio.run(play())


def test_what_waits_is_bounded_and_the_rest_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    late = LateLabels(Record(tmp_path), Blobs(tmp_path))
    late.take(deque([(str(i), 0, 0.0) for i in range(5)]))
    view = late.view()
    assert view is not None
    assert (view["waiting"], view["skipped"]) == (2, 3)


def test_damaged_counts_are_told_and_begin_anew(tmp_path: Path) -> None:
    filled(tmp_path)
    (tmp_path / "blobs").mkdir(exist_ok=True)
    (tmp_path / "blobs" / "late.npz").write_bytes(b"PK")
    late = LateLabels(Record(tmp_path), Blobs(tmp_path))
    assert "late.npz" in late.trouble
    late.take(deque([("nobody", 0, 0.0)]))
    late.look_up(1)
    assert late.trouble == ""
    assert LateLabels(Record(tmp_path), Blobs(tmp_path)).trouble == ""


def test_actor_tells_of_late_labels_and_decides_as_a_replay_that_knows_of_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_UP_S", 0.01)
    two_versions(tmp_path)
    settings = SETTINGS.model_copy(update={"join_window_rows": 100, "label_lag_rows": 100})
    source = Stream(5)
    parts = [source.take(100) for _ in range(5)]

    async def body(actor: MonitorActor) -> None:
        for rows, _ in parts[:3]:
            actor.ingest(rows)
            await actor.drain()
        await actor.feedback(parts[0][1])
        for rows, labels in parts[3:]:
            actor.ingest(rows)
            await actor.feedback(labels)
            await actor.drain()
        async with asyncio.timeout(30):
            while not actor.report().summary.labels.late:
                await asyncio.sleep(0.01)
            while actor._late:
                await asyncio.sleep(0.01)

    report = acting(tmp_path, body, settings=settings)
    told = report.summary.labels
    assert told.late is not None
    assert (told.late["found"], told.late["unknown"]) == (100, 0)
    assert (told.outcomes["expired"], told.outcomes["joined"]) == (100, 200)
    store = Store(tmp_path, read_only=True)
    monitor = Monitor(settings, store.reference(1), 1)
    for moment in moments(store.commits(0), []):
        take(monitor, moment, store.reference)
    assert Codec.encode(monitor.evidence()) == Codec.encode(report.evidence)
    assert store.newest_row_of(parts[0][1].ids) == 99


@pytest.mark.parametrize("outputs", [1, 2])
def test_late_labels_of_a_regression_are_found_and_no_accuracy_is_told(
    tmp_path: Path, outputs: int
) -> None:
    made = numbers(0, 6, outputs)
    Store(tmp_path).append_predictions(1, made)
    late = LateLabels(Record(tmp_path), Blobs(tmp_path))
    value = 0.5 if outputs == 1 else (0.5, 1.5)
    late.take(deque([(name, value, 1_000.0) for name in [*made.ids, "nobody"]]))
    late.look_up(newest_row=9)
    told = late.view()
    assert told is not None
    assert (told["found"], told["unknown"], told["accuracy"]) == (6, 1, None)
    assert told["lag_rows"] == 6.5
