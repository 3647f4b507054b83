"""The monitor's shell without Ray: what it records suffices to decide the same again."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.lossy import lossy
from tests.helpers.recording import ORDER, SETTINGS, acting, feeding, rearm, two_versions
from tests.helpers.streams import Stream
from undrift.errors import ConfigError, StoreError
from undrift.events import Codec, Rearm
from undrift.evidence import Evidence
from undrift.model.mixture import Mixture
from undrift.model.receipt import Receipt
from undrift.monitor import actor as module
from undrift.monitor.actor import CHECKPOINT, MonitorActor
from undrift.monitor.history import moments, take
from undrift.monitor.join import LabelCounts
from undrift.monitor.monitor import Monitor
from undrift.records import Labels, Predictions, Reference
from undrift.store.blobs import Blobs
from undrift.store.bucket import Bucket
from undrift.store.journal import REARMINGS, Journal
from undrift.store.store import Store


@pytest.fixture
def root(tmp_path: Path) -> Path:
    two_versions(tmp_path / "state")
    return tmp_path / "state"


def replayed(root: Path) -> dict[int, str]:
    """Return the evidence after each tick of a fold over all that was recorded."""
    store = Store(root, read_only=True)
    monitor = Monitor(SETTINGS, store.reference(1), 1)
    seen = {}
    for moment in moments(store.commits(0), Journal(root, REARMINGS).read()):
        take(monitor, moment, store.reference)
        if moment.rearm is None:
            seen[moment.commit] = json.dumps(Codec.encode(monitor.evidence()))
    return seen


async def nothing(actor: MonitorActor) -> None:
    pass


@pytest.mark.thorough
def test_replay_of_the_record_gives_the_live_evidence_across_kills_and_rearming(root: Path) -> None:
    source, seen = Stream(5), {}
    acting(root, feeding(source, seen, flipped=0.4))
    acting(root, rearm)
    acting(root, feeding(source, seen, version=2))
    assert len(seen) == 12
    again = replayed(root)
    assert {tick: again[tick] for tick in seen} == seen
    assert len(set(seen.values())) == len(seen)


def test_message_sent_again_is_ignored(root: Path) -> None:
    rows, labels = Stream(5).take(50)

    async def body(actor: MonitorActor) -> None:
        for message in ("one", "one", "two", "one"):
            actor.ingest(rows, message)
        await actor.feedback(labels)
        await actor.drain()

    acting(root, body)
    assert sum(len(rows) for _, rows, _ in Store(root).commits(0) if rows is not None) == 100


def test_replicas_are_told_against_which_version_the_watched_one_is_proven(root: Path) -> None:
    source = Stream(5)

    async def body(actor: MonitorActor) -> None:
        assert actor.ingest(source.take(1)[0]) == Receipt(1)
        await rearm(actor)
        assert actor.ingest(source.take(1)[0]) == Receipt(2, against=1)

    acting(root, body)


def test_replicas_that_mix_are_told_of_what_was_learnt_since(root: Path) -> None:
    source = Stream(5)

    async def body(actor: MonitorActor) -> None:
        async def told(known: tuple[int, int] | None) -> Mixture | None:
            rows, labels = source.take(50)
            actor.ingest(rows, mixing=known)
            await actor.feedback(labels)
            await actor.drain()
            return actor.ingest(source.take(1)[0], mixing=known).mixture

        assert await told(None) is None
        newer = await told((0, 0))
        assert newer is not None
        assert newer.name == (1, 100)
        assert actor.ingest(source.take(1)[0], mixing=newer.name).mixture is None
        later = await told(newer.name)
        assert later is not None
        assert later.name == (1, 150)
        assert newer.heads is not later.heads

    acting(root, body)


def test_order_recorded_before_a_kill_takes_effect_at_its_tick(root: Path) -> None:
    source, seen = Stream(5), {}
    tick = acting(root, feeding(source, seen)).commit
    record = {**Codec.encode(ORDER), "commit": tick}
    Journal(root, REARMINGS).append(record, at=0.0)  # and then the process was killed
    after = acting(root, nothing)
    assert (after.evidence.version, after.run_id, after.commit) == (2, "run-1", tick)
    acting(root, rearm)  # the controller asks again
    assert Journal(root, REARMINGS).read() == [record]
    acting(root, feeding(source, seen, version=2))
    again = replayed(root)
    assert {tick: again[tick] for tick in seen} == seen


@pytest.mark.thorough
def test_lost_checkpoint_costs_nothing_but_time(root: Path) -> None:
    source, seen = Stream(5), {}
    before = acting(root, feeding(source, seen), rearm, feeding(source, seen, version=2))
    (root / "blobs" / "monitor.npz").unlink()
    assert acting(root, nothing) == before


def test_state_is_kept_after_so_many_rows_and_labels_or_commits(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kept() -> int:
        found = Blobs(root).load(CHECKPOINT)
        return 0 if found is None else int(found[1]["commit"])

    source, seen = Stream(5), {}
    monkeypatch.setattr(module, "CHECKPOINT_ITEMS", 10**9)
    acting(root, feeding(source, seen))
    assert kept() == 0
    monkeypatch.setattr(module, "CHECKPOINT_ITEMS", 300)
    acting(root, feeding(source, seen, ticks=7))
    commits = max(seen)
    assert commits - 6 <= kept() < commits
    monkeypatch.setattr(module, "CHECKPOINT_ITEMS", 10**9)
    monkeypatch.setattr(module, "CHECKPOINT_COMMITS", 1)
    acting(root, feeding(source, seen, ticks=1))
    assert kept() == max(seen)


def test_commit_that_breaks_the_fold_is_left_out_and_told_and_all_goes_on(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, seen = Stream(5), {}
    acting(root, feeding(source, seen, ticks=3))
    fold, poison = Monitor.fold, source.take(50)

    def brittle(self: Monitor, rows: Predictions | None, labels: Labels | None) -> LabelCounts:
        if labels is not None and poison[1].ids[0] in labels.ids:
            self._rows += 7  # and leaves the state half way
            raise ZeroDivisionError("no such label")
        return fold(self, rows, labels)

    monkeypatch.setattr(Monitor, "fold", brittle)

    async def body(actor: MonitorActor) -> None:
        actor.ingest(poison[0])
        await actor.feedback(poison[1])  # they are durable
        await actor.drain()
        report = actor.report()
        assert "left out of the statistics" in report.failure
        assert "ZeroDivisionError: no such label" in report.failure
        assert report.lost_rows == 0

    acting(root, body, feeding(source, seen, ticks=3))
    assert acting(root, nothing).commit == 7
    again = replayed(root)
    assert {tick: again[tick] for tick in seen} == seen
    stored = [rows for _, rows, _ in Store(root).commits(0) if rows is not None]
    assert np.array_equal(np.concatenate([rows.row for rows in stored]), np.arange(350))


def test_evidence_that_cannot_be_told_is_told_of_and_nothing_stops(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, evidence = Stream(5), Monitor.evidence

    def broken(self: Monitor) -> Evidence:
        raise ZeroDivisionError("no rows to divide by")

    async def body(actor: MonitorActor) -> None:
        for telling, commit in ((broken, 0), (evidence, 2)):
            monkeypatch.setattr(Monitor, "evidence", telling)
            rows, labels = source.take(50)
            actor.ingest(rows)
            await actor.feedback(labels)
            await actor.drain()
            report = actor.report()
            assert report.commit == commit
            assert ("stands still: ZeroDivisionError" in report.failure) is (telling is broken)

    assert acting(root, body).commit == 2


def test_full_disk_costs_rows_that_do_not_fit_but_no_memory(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StoreError("no space left on device")

    async def body(actor: MonitorActor) -> None:
        monkeypatch.setattr(Store, "append_predictions", full)
        monkeypatch.setattr(Store, "commits", full)
        source = Stream(5)
        actor.ingest(source.take(50)[0])
        while not actor._mailbox.refused:
            await asyncio.sleep(0.01)
        assert "no space left" in actor.report().failure
        with pytest.raises(StoreError, match="labels cannot be stored now"):
            await actor.feedback(source.take(50)[1])
        rows = source.take(5000)[0]
        for _ in range(max(1, 2**20 // rows.nbytes)):
            actor.ingest(rows)
        with pytest.raises(StoreError, match="rows wait to be stored"):
            actor.ingest(rows)
        monkeypatch.undo()
        await actor.drain()
        assert (actor.report().failure, actor.report().lost_rows) == ("", 50)

    acting(root, body, settings=SETTINGS.model_copy(update={"max_waiting_bytes": 2**20}))


@pytest.mark.thorough
def test_commit_that_lands_after_it_was_given_up_takes_the_place_of_no_other(
    object_store: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_versions(bucket)
    source = Stream(5)
    first, late, last = (source.take(50) for _ in range(3))

    async def body(actor: MonitorActor) -> None:
        actor.ingest(first[0])
        await actor.feedback(first[1])
        await actor.drain()
        proxy.trouble = "late"
        actor.ingest(late[0])
        await actor.drain()
        assert proxy.befell == 1
        assert actor.report().lost_rows == 50
        proxy.land()
        actor.ingest(last[0])
        with pytest.raises(StoreError, match="given up, it was stored after all"):
            await actor.feedback(last[1])
        await actor.feedback(late[1])
        await actor.drain()
        assert actor.report().failure == ""

    with lossy(object_store) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        acting(bucket, body)
        store = Store(bucket, read_only=True)
        assert store.predictions().ids == first[0].ids + late[0].ids
        assert store.labels().ids == first[1].ids + late[1].ids


def test_order_that_cannot_be_carried_out_is_not_recorded(root: Path) -> None:
    r = Stream(0).reference(10)
    short = Reference(r.x, r.y, r.embedding, r.output, np.ones(10, dtype=np.bool_))
    weights = {"w": torch.zeros(1)}
    Store(root).add_version(weights, parent=1, reference=short, metrics={}, plan=None)

    async def body(actor: MonitorActor) -> None:
        with pytest.raises(ConfigError):
            await actor.rearm(Codec.encode(Rearm(version=3, run_id="run-9")))
        assert actor.report().evidence.version == 1

    acting(root, body)
    assert Journal(root, REARMINGS).read() == []
