"""What is kept of a record, and that decisions are the same without what is gone."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.recording import SETTINGS, Body, acting, feeding, rearm, two_versions
from tests.helpers.streams import Stream
from undrift.errors import StoreError
from undrift.events import Codec, Compare, Rearm
from undrift.evidence import Evidence
from undrift.monitor import actor as module
from undrift.monitor.actor import MonitorActor
from undrift.monitor.history import Moment
from undrift.monitor.report import MonitorReport
from undrift.monitor.retention import begin, dropped, due
from undrift.monitor.settings import MonitorSettings
from undrift.replay.sources import recorded
from undrift.replay.timeline import replay_recording
from undrift.store.blobs import Blobs
from undrift.store.journal import REARMINGS, Journal
from undrift.store.settings import RetentionSettings
from undrift.store.starts import Start, kept
from undrift.store.store import Store

DAY = 86_400
NEVER = RetentionSettings(days=None, max_bytes=None)


def starts(n: int) -> list[Start]:
    """A start each day, of 100 commits and 1,000 rows."""
    return [Start(100 * i, 1_000 * i, DAY * i) for i in range(1, n + 1)]


@pytest.mark.parametrize(
    ("limits", "kept_days"),
    [
        (NEVER, None),
        (NEVER.model_copy(update={"days": 3.0}), 3),
        (NEVER.model_copy(update={"rows": 2_000}), 2),
        (NEVER.model_copy(update={"max_bytes": 4_000_000}), 4),
        (RetentionSettings(days=9.0, rows=5_000, max_bytes=7_000_000), 5),
    ],
)
def test_what_is_beyond_any_limit_goes(limits: RetentionSettings, kept_days: int | None) -> None:
    now = Start(1_000, 10_000, 10 * DAY)

    def size(start: Start) -> int:
        return (now.row - start.row) * 1_000

    found = dropped(starts(10), now, 10_000, limits, size)
    assert found == (None if kept_days is None else starts(10)[9 - kept_days])
    assert dropped(starts(10), now, 999, limits, size) is None, "a retraining needs all of it"


def test_start_is_due_four_times_within_each_limit() -> None:
    last = Start(0, 0, 0)
    limits = RetentionSettings(days=4.0, rows=4_000, max_bytes=4 << 20)
    assert not due(last, Start(9, 999, DAY - 1), limits, (1 << 20) - 1)
    assert due(last, Start(9, 1_000, 0), limits, 0)
    assert due(last, Start(9, 0, DAY), limits, 0)
    assert due(last, Start(9, 0, 0), limits, 1 << 20)
    assert not due(last, Start(9, 10**9, 10**9), NEVER, 10**15)


LIMITS = RetentionSettings(rows=1_000)


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints every fourth commit."""
    monkeypatch.setattr(module, "CHECKPOINT_COMMITS", 4)


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    two_versions(tmp_path / "state")
    return tmp_path / "state"


def fed(root: Path, *bodies: Body, pool_rows: int = 100) -> MonitorReport:
    """Run an actor that keeps little until the bodies are done; returns its last report."""

    async def run() -> MonitorReport:
        actor = MonitorActor(root, SETTINGS, 1, limits=LIMITS, pool_rows=pool_rows)
        for body in bodies:
            await body(actor)
        return actor.report()

    return asyncio.run(run())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, str]]:
    """A record whose first rows are gone, a re-arming among them, and the evidence it had."""
    root, source, seen = tmp_path_factory.mktemp("made") / "state", Stream(5), {}
    two_versions(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHECKPOINT_COMMITS", 4)
        second = feeding(source, seen, version=2)
        last = feeding(source, seen, ticks=28, version=2, flipped=0.5)
        fed(root, feeding(source, seen), rearm, second, last)
    return root, seen


@pytest.fixture
def root(made: tuple[Path, dict[int, str]], tmp_path: Path) -> Path:
    return shutil.copytree(made[0], tmp_path / "state")


@pytest.fixture
def seen(made: tuple[Path, dict[int, str]]) -> dict[int, str]:
    return made[1]


def replayed(root: Path, settings: MonitorSettings = SETTINGS) -> dict[int, str]:
    """Return the evidence after each commit that is still there."""
    found, seen = recorded(root), {}

    def observe(moment: Moment, evidence: Evidence) -> None:
        if moment.rearm is None:
            seen[moment.commit] = json.dumps(Codec.encode(evidence))

    monitor = begin(found.store, found.blobs, settings).monitor
    replay_recording(found.moments, monitor, found.store.reference, observe=observe)
    return seen


def test_what_is_left_is_replayed_to_the_same_evidence(root: Path, seen: dict[int, str]) -> None:
    store = Store(root, read_only=True)
    first = store.first_row()
    assert first is not None
    assert 500 <= first <= 1_000
    again = replayed(root)
    assert 15 <= len(again) < len(seen)
    assert again == {commit: seen[commit] for commit in again}
    assert len(set(again.values())) == len(again)


def test_lost_checkpoint_costs_nothing_where_old_rows_are_gone(
    root: Path, seen: dict[int, str]
) -> None:
    (root / "blobs" / "monitor.npz").unlink()
    report = acting(root, nothing)
    assert json.dumps(Codec.encode(report.evidence)) == seen[report.commit]


def test_checkpoint_of_another_release_is_passed_over(root: Path, seen: dict[int, str]) -> None:
    blobs = Blobs(root)
    saved = blobs.load("monitor")
    assert saved is not None
    meta = saved[1]
    blobs.save("monitor", {}, meta | {"monitor": {"format": 1}})
    report = acting(root, nothing)
    assert json.dumps(Codec.encode(report.evidence)) == seen[report.commit]


def test_other_settings_begin_anew_with_the_version_of_that_moment(root: Path) -> None:
    other = SETTINGS.model_copy(update={"rows_per_false_drift": 200})
    again = replayed(root, other)
    assert len(again) >= 15
    evidence = [json.loads(text) for text in again.values()]
    assert {e["version"] for e in evidence} == {2}
    assert evidence[0]["rows"] == 50, "it counts from where it begins"


def test_rows_without_the_state_before_them_say_what_is_missing(root: Path) -> None:
    for path in (root / "blobs").glob("start-*"):
        path.unlink()
    with pytest.raises(StoreError, match="restore blobs/start-"):
        recorded(root)


@pytest.mark.thorough
def test_record_stays_as_large_as_its_limit_however_long_it_runs(empty: Path) -> None:
    sizes = []

    async def measure(_: MonitorActor) -> None:
        sizes.append(Store(empty, read_only=True).size())

    fed(empty, *(feeding(Stream(5 + i), {}, ticks=8) for i in range(4)), measure)
    fed(empty, *(feeding(Stream(9 + i), {}, ticks=8) for i in range(3)), measure)
    assert sizes[1] <= 1.3 * sizes[0]
    assert len(kept(Blobs(empty))) <= 6


def test_nothing_is_dropped_that_a_retraining_would_read(empty: Path) -> None:
    fed(empty, feeding(Stream(5), {}, ticks=32), pool_rows=10_000)
    assert Store(empty, read_only=True).first_row() == 0


def test_rows_that_cannot_be_dropped_are_told_and_stay(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Store, seq: int) -> None:
        raise StoreError("cannot drop old rows: No space left on device")

    monkeypatch.setattr(Store, "drop_before", full)
    report = fed(empty, feeding(Stream(5), {}, ticks=32))
    assert "old rows are not dropped: cannot drop" in report.failure
    rows = [rows for _, rows, _ in Store(empty).commits(0) if rows is not None]
    assert np.array_equal(np.concatenate([part.row for part in rows]), np.arange(1_600))


async def nothing(actor: MonitorActor) -> None:
    pass


def test_rearmings_go_with_the_rows_that_they_were_made_among(empty: Path) -> None:
    source, seen, bodies = Stream(5), {}, []

    def to(version: int, run_id: str) -> Body:
        async def body(actor: MonitorActor) -> None:
            await actor.rearm(Codec.encode(Rearm(run_id=run_id, version=version)))

        return body

    for turn in range(6):
        version = 2 - turn % 2
        bodies += [to(version, f"r{turn}"), feeding(source, seen, ticks=8, version=version)]
    fed(empty, *bodies)
    left = list(Journal(empty, REARMINGS).events())
    assert [record["run_id"] for _, record in left] == [f"r{n}" for n in range(left[0][0], 6)]
    assert 2 <= left[0][0] <= 4
    start = Blobs(empty).load(kept(Blobs(empty))[0].name)
    assert start is not None
    assert left[0][0] == start[1]["rearmings"] - 1  # which version was watched at the start
    again = replayed(empty)
    assert again == {commit: seen[commit] for commit in again}
    (empty / "blobs" / "monitor.npz").unlink()
    report = acting(empty, nothing)
    assert json.dumps(Codec.encode(report.evidence)) == seen[report.commit]
    acting(empty, feeding(source, seen, ticks=8, version=1))
    saved = Blobs(empty).load("monitor")
    assert saved is not None
    assert saved[1]["rearmings"] == 6
    again = replayed(empty)
    assert again == {commit: seen[commit] for commit in again}


def test_the_last_rearming_stays_whatever_was_compared_since(empty: Path) -> None:
    source, seen = Stream(5), {}
    compare = Compare(run_id="c", version=3, against=2, canary=False, step=0, rows=10)

    async def orders(actor: MonitorActor) -> None:
        await actor.rearm(Codec.encode(Rearm(run_id="r", version=2)))
        await actor.rearm(Codec.encode(compare))

    fed(empty, orders, *(feeding(source, seen, ticks=8, version=2) for _ in range(6)))
    left = [record["type"] for _, record in Journal(empty, REARMINGS).events()]
    assert left == ["Rearm", "Compare"]
    again = replayed(empty)
    assert again == {commit: seen[commit] for commit in again}
