"""What the doctor finds in a state, and what a repair sets aside."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.recording import two_versions
from undrift.control.doctor import examine, repair
from undrift.control.fullness import Part, ceiling, days_until_full
from undrift.control.settings import LifecycleSettings
from undrift.errors import StoreError
from undrift.events import Codec, Swapped, Tick
from undrift.store.blobs import Blobs
from undrift.store.bucket import Bucket
from undrift.store.journal import Journal
from undrift.store.settings import RetentionSettings
from undrift.store.store import Store

POLICY = LifecycleSettings()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    two_versions(tmp_path / "state")
    return tmp_path / "state"


def damage(root: Path, version: int) -> None:
    path = Store(root).weights_path(version)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_sound_state_has_sizes_rates_and_no_finding(root: Path) -> None:
    for at in (0.0, 43_200.0):
        Journal(root).append(Codec.encode(Tick(at=at)), at)
    found = examine(root, POLICY)
    parts = {part.name: part for part in found.parts}
    assert not found.findings
    assert parts["table events"].bytes_a_day == pytest.approx(2 * parts["table events"].bytes)
    assert parts["versions"].bytes > 0
    assert parts["versions"].bytes_a_day is None
    assert found.days_left == found.free_bytes / parts["table events"].bytes_a_day


def test_flipped_bit_of_a_version_is_found_and_its_number_is_not_given_again(root: Path) -> None:
    damage(root, 2)
    (finding,) = examine(root, POLICY).findings
    assert "version 2 is damaged" in finding.what
    assert "undrift repair" in finding.remedy
    assert repair(root, POLICY) == [str(root / "versions" / "2.damaged")]
    assert not examine(root, POLICY).findings
    store = Store(root)
    made = store.add_version(
        store.state_dict(1), parent=1, reference=store.reference(1), metrics={}, plan=None
    )
    assert made.version == 3


def test_damaged_live_version_is_left_and_the_way_out_named(root: Path) -> None:
    damage(root, 1)
    assert repair(root, POLICY) == []
    (finding,) = examine(root, POLICY).findings
    assert finding.remedy.endswith("undrift rollback --offline")


def test_torn_tail_and_damaged_blob_are_set_aside(root: Path) -> None:
    journal = Journal(root)
    for at in (0.0, 1.0):
        journal.append(Codec.encode(Tick(at=at)), at)
    newest = max((root / "tables" / "events" / "_delta_log").glob("*.json"))
    newest.write_bytes(newest.read_bytes()[:10])
    Blobs(root).save("monitor", {}, {})
    (root / "blobs" / "monitor.npz").write_bytes(b"PK")
    found = examine(root, POLICY)
    assert found.wrong
    told = " ".join(finding.what for finding in found.findings)
    assert str(newest) in told
    assert "monitor.npz" in told
    torn, blob = map(Path, repair(root, POLICY))
    assert (torn.suffix, blob.name) == (".torn", "monitor.npz.damaged")
    after = examine(root, POLICY)
    assert not after.wrong
    assert [f.what.startswith(str(torn)) for f in after.findings] == [True]
    assert len(Journal(root).read()) == 1


def test_state_that_stands_for_dropped_rows_is_never_set_aside(root: Path) -> None:
    Blobs(root).save("start-5-50-1000", {}, {})
    path = root / "blobs" / "start-5-50-1000.npz"
    path.write_bytes(b"PK")
    (found,) = examine(root, POLICY).findings
    assert "backup.md" in found.remedy
    assert repair(root, POLICY) == []
    assert path.exists()


def test_damaged_table_is_found_and_no_version_set_aside_by_guess(root: Path) -> None:
    Journal(root).append(Codec.encode(Swapped(at=0.0, version=2)), 0.0)
    (data,) = (root / "tables" / "events").glob("*.parquet")
    data.write_bytes(b"x" * data.stat().st_size)
    damage(root, 2)
    found = examine(root, POLICY)
    assert ["backup.md" in f.remedy for f in found.findings] == [True, True]
    assert repair(root, POLICY) == []


@pytest.mark.thorough
def test_state_in_a_bucket_is_looked_through_and_what_is_damaged_set_aside(bucket: Bucket) -> None:
    two_versions(bucket)
    Journal(bucket).append(Codec.encode(Tick(at=0.0)), 0.0)
    store = Store(bucket)
    cached = store.weights_path(2)
    found = examine(bucket, POLICY)
    assert not found.findings
    assert (found.free_bytes, found.days_left) == (None, None)
    assert all(part.bytes for part in found.parts if part.name in ("table events", "versions"))
    (bucket / "versions" / "2" / f"model-{cached.name}.safetensors").write(b"damaged")
    Blobs(bucket).save("monitor", {}, {})
    (bucket / "blobs" / "monitor.npz").write(b"PK")
    assert [finding.wrong for finding in examine(bucket, POLICY).findings] == [True, True]
    assert repair(bucket, POLICY) == [
        str(bucket / "versions" / "2.damaged"),
        str(bucket / "blobs" / "monitor.npz.damaged"),
    ]
    assert not examine(bucket, POLICY).findings
    made = store.add_version(
        store.state_dict(1), parent=1, reference=store.reference(1), metrics={}, plan=None
    )
    assert made.version == 3


def test_folder_without_a_state_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nothing was recorded"):
        examine(tmp_path, POLICY)


def test_state_that_retention_holds_flat_is_never_full(root: Path) -> None:
    for at in (0.0, 43_200.0):
        Journal(root).append(Codec.encode(Tick(at=at)), at)
    found = examine(root, POLICY, RetentionSettings(event_days=10))
    (events,) = [part for part in found.parts if part.name == "table events"]
    assert events.bytes_a_day is not None
    assert found.days_left is None
    assert events.most == found.flat_bytes == pytest.approx(12.5 * events.bytes_a_day)
    free = RetentionSettings(event_days=None, events=None, max_event_bytes=None)
    unlimited, unset = examine(root, POLICY, free).days_left, examine(root, POLICY).days_left
    assert unset is not None
    assert unlimited == pytest.approx(unset, rel=0.1)  # the disk is not ours alone


@pytest.mark.parametrize(("free", "days"), [(12.0, 2.0), (18.0, 3.0), (30.0, 9.0), (218.0, 103.0)])
def test_disk_fills_at_the_rate_of_what_nothing_holds(free: float, days: float) -> None:
    parts = [Part("a", 0, 4.0, most=12.0), Part("b", 7, 2.0), Part("c", 9)]
    assert days_until_full(free, parts) == pytest.approx(days)


def test_versions_and_rows_are_held_by_their_number() -> None:
    limits = RetentionSettings(versions=4, rows=1_000, days=None, max_bytes=None)
    assert ceiling(Part("versions", 200, 1.0, items=2), limits) == 400
    assert ceiling(Part("table labels", 5_000, 1.0, items=50), limits) == 1.25 * 100_000
    assert ceiling(Part("table rearmings", 5_000, 1.0, items=50), limits) is None
