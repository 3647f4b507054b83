"""What an append says is what the disk holds: failed writes, failed upkeep, power cuts."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from undrift.errors import StoreError
from undrift.store import disk as disks
from undrift.store import tables
from undrift.store.disk import DiskLog
from undrift.store.journal import Journal
from undrift.store.place import Where
from undrift.store.tables import Table


def row(seq: int) -> pa.Table:
    return pa.table({"seq": [seq], "text": [f"row {seq}"]})


def held(path: Path) -> list[int]:
    found = Table(path).read()
    return [] if found is None else sorted(found["seq"].to_pylist())


def failing(monkeypatch: pytest.MonkeyPatch, *, when: int, committed: bool) -> None:
    """Let one of the writes fail with a full disk, before or after it has committed."""
    calls, write = [0], tables.write_deltalake

    def full(*args: Any, **kwargs: Any) -> None:
        calls[0] += 1
        if calls[0] != when:
            write(*args, **kwargs)
            return
        if committed:
            write(*args, **kwargs)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tables, "write_deltalake", full)


@pytest.mark.parametrize("when", [1, 3])
def test_append_that_failed_after_its_commit_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: int
) -> None:
    failing(monkeypatch, when=when, committed=True)
    table = Table(tmp_path / "t")
    assert [table.append(seq, row(seq)) for seq in range(6)] == [(n, True) for n in range(6)]
    assert held(tmp_path / "t") == list(range(6))


@pytest.mark.parametrize("when", [1, 3])
def test_append_that_failed_before_its_commit_can_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: int
) -> None:
    failing(monkeypatch, when=when, committed=False)
    table = Table(tmp_path / "t")
    for seq in range(6):
        if seq == when - 1:
            with pytest.raises(StoreError, match="No space left"):
                table.append(seq, row(seq))
            assert held(tmp_path / "t") == list(range(seq))
        assert table.append(seq, row(seq)) == (seq, True)
    assert held(tmp_path / "t") == list(range(6))


def test_compaction_that_fails_is_told_and_decides_no_append(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_COMPACT_AT", 4)
    compact = Table.compact
    full = [True]

    def refuse(self: Table) -> None:
        if full[0]:
            raise StoreError("cannot compact: No space left on device")
        compact(self)

    monkeypatch.setattr(Table, "compact", refuse)
    journal = Journal(tmp_path)
    numbers = [journal.append({"type": name}, at=0.0) for name in "ABCDEF"]
    assert numbers == list(range(6))
    assert "No space left" in journal.trouble
    full[0] = False
    numbers = [journal.append({"type": name}, at=0.0) for name in "GH"]
    assert [event["type"] for event in Journal(tmp_path).read()] == list("ABCDEFGH")
    assert journal.trouble == ""


def test_journal_goes_on_after_an_event_of_which_it_does_not_know_whether_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path)
    journal.append({"type": "A"}, at=0.0)
    with monkeypatch.context() as patch:
        patch.setattr(disks, "sync", _broken)
        with pytest.raises(StoreError, match="Input/output error"):
            journal.append({"type": "B"}, at=0.0)
    assert journal.append({"type": "C"}, at=0.0) == 2
    assert [event["type"] for event in Journal(tmp_path).read()] == ["A", "B", "C"]


def _broken(path: Path) -> None:
    raise OSError(5, "Input/output error")


def test_second_writer_of_a_journal_is_refused(tmp_path: Path) -> None:
    one, two = Journal(tmp_path), Journal(tmp_path)
    for journal in (one, two, two):
        journal.append({"type": "A"}, at=0.0)
    with pytest.raises(StoreError, match="is another platform writing"):
        one.append({"type": "B"}, at=0.0)


@pytest.mark.parametrize("reopen", [True, False])
@pytest.mark.parametrize("count", [1, 2])
def test_of_two_journals_that_take_the_same_number_one_is_refused(
    root: Where, monkeypatch: pytest.MonkeyPatch, count: int, reopen: bool
) -> None:
    one, two = Journal(root), Journal(root)
    if reopen:
        monkeypatch.setattr(tables, "_REOPEN_EVERY", 1)
    two.append({"type": "A"}, at=0.0)
    one.append({"type": "B"}, at=0.0)
    with pytest.raises(StoreError, match=r"tables/events"):
        two.extend([{"type": "lost"}] * count, at=0.0)
    assert [event["type"] for event in Journal(root).read()] == ["A", "B"]
    assert two.extend([{"type": "C"}] * count, at=0.0) == 1 + count
    assert [event["type"] for event in one.read()] == ["A", "B", *["C"] * count]


def test_journal_knows_its_own_event_after_an_error_that_came_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path)
    with monkeypatch.context() as patch:
        failing(patch, when=2, committed=True)
        assert [journal.append({"type": name}, at=0.0) for name in "ABC"] == [0, 1, 2]
    assert [event["type"] for event in Journal(tmp_path).read()] == list("ABC")


def test_mark_of_an_append_outlives_compaction_and_a_log_cut_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_COMPACT_AT", 3)
    table = Table(tmp_path / "t")
    write = tables.write_deltalake

    def then_compact(*args: Any, **kwargs: Any) -> None:
        write(*args, **kwargs)
        other = Table(tmp_path / "t")
        other.compact()
        raise OSError(5, "Input/output error")

    table.append(0, row(0))
    monkeypatch.setattr(tables, "write_deltalake", then_compact)
    assert table.append(1, row(1)) == (1, True)
    assert table.append(1, row(1)) == (1, False)


def test_append_that_is_repeated_as_its_disk_refused_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, table = Disk(monkeypatch), Table(tmp_path / "t")
    with monkeypatch.context() as patch:
        patch.setattr(disks, "sync", _broken)
        for _ in range(2):
            with pytest.raises(StoreError, match="Input/output"):
                table.append(0, row(0))
    assert table.append(0, row(0)).version == 0
    assert disk.synced.keys() >= set((tmp_path / "t").glob("*.parquet"))


# ------------------------------------------------------------------ power cuts


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


TORN: dict[str, Callable[[Path, Path], None]] = {
    "entry cut in half": lambda entry, data: _cut(entry),
    "entry empty": lambda entry, data: _empty(entry),
    "data cut in half": lambda entry, data: _cut(data),
    "data empty": lambda entry, data: _empty(data),
    "data missing": lambda entry, data: data.unlink(),
}


@pytest.mark.parametrize("how", TORN)
def test_torn_tail_is_set_aside_and_the_table_goes_on(tmp_path: Path, how: str) -> None:
    path = tmp_path / "t"
    table = Table(path)
    for seq in range(3):
        before = set(path.glob("*.parquet"))
        table.append(seq, row(seq))
    (data,) = set(path.glob("*.parquet")) - before
    entry = max((path / "_delta_log").glob("*.json"))
    TORN[how](entry, data)
    again = Table(path)
    (aside,) = again.mend()
    assert aside.exists()
    assert aside.suffix == ".torn"
    assert again.version() == 1
    assert again.append(2, row(2)) == (2, True)
    assert held(path) == [0, 1, 2]
    assert again.mend() == []


CHECKPOINT, HINT = "*.checkpoint.parquet", "_last_checkpoint"


@pytest.mark.parametrize("how", [_cut, _empty, Path.unlink])
@pytest.mark.parametrize("what", [CHECKPOINT, HINT])
def test_torn_checkpoint_is_set_aside_and_the_table_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, how: Callable[[Path], None]
) -> None:
    monkeypatch.setattr(tables, "_COMPACT_AT", 4)
    path = tmp_path / "t"
    table = Table(path)
    for seq in range(5):
        table.append(seq, row(seq))
    (torn,) = (path / "_delta_log").glob(what)
    how(torn)
    again = Table(path)
    again.mend()
    assert held(path) == list(range(5))
    assert again.append(5, row(5)) == (5, True)
    assert Table(path).mend() == []
    assert held(path) == list(range(6))


def test_entry_that_a_killed_writer_left_is_waited_for_before_the_next_is_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, path = Disk(monkeypatch), tmp_path / "t"
    Table(path).append(0, row(0))
    with monkeypatch.context() as patch:
        patch.setattr(disks, "sync", _broken)
        with pytest.raises(StoreError):
            Table(path).append(1, row(1))
    Table(path).append(2, row(2))
    written = {entry for entry in path.rglob("*") if entry.suffix in {".json", ".parquet"}}
    assert written <= disk.synced.keys()


SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.thorough) for seed in range(1, 4))]


class Disk:
    """Knows which files the writer has waited for; a power cut leaves the others as it likes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.synced: dict[Path, bytes] = {}
        sync = disks.sync

        def remember(path: Path) -> None:
            sync(path)
            if path.is_file():
                self.synced[path] = path.read_bytes()

        monkeypatch.setattr(disks, "sync", remember)

    def cut(self, source: Path, target: Path, rng: random.Random) -> None:
        """Copy what a power cut at this moment may leave."""
        for path in sorted(source.rglob("*")):
            copy = target / path.relative_to(source)
            if path.is_dir():
                copy.mkdir(parents=True)
            elif path in self.synced:
                copy.write_bytes(self.synced[path])
            elif rng.random() < 0.7:
                written = path.read_bytes()
                copy.write_bytes(written[: rng.choice((0, len(written) // 2, len(written)))])


def _moments(
    path: Path, monkeypatch: pytest.MonkeyPatch, appends: int
) -> Iterator[tuple[int, Disk]]:
    """Append, and stop at every file that is waited for, and after each append."""
    disk, table = Disk(monkeypatch), Table(path)
    for seq in range(appends):
        table.append(seq, row(seq))
        yield seq, disk


@pytest.mark.parametrize("seed", SEEDS)
def test_power_cut_after_any_append_loses_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(tables, "_COMPACT_AT", 5)
    rng, path = random.Random(seed), tmp_path / "t"
    for seq, disk in _moments(path, monkeypatch, 12):
        left = tmp_path / f"left-{seq}"
        disk.cut(path, left, rng)
        table = Table(left)
        table.mend()
        assert held(left) == list(range(seq + 1))
        assert table.append(seq + 1, row(seq + 1)).version == seq + 1
        assert held(left) == list(range(seq + 2))


@pytest.mark.parametrize("seed", SEEDS)
def test_power_cut_in_the_middle_of_an_append_leaves_it_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng, path = random.Random(seed), tmp_path / "t"
    for seq, disk in _moments(path, monkeypatch, 4):
        kept, known = tmp_path / f"kept-{seq}", dict(disk.synced)
        shutil.copytree(path, kept)
        with monkeypatch.context() as patch:
            patch.setattr(DiskLog, "settle", lambda self: _broken(self._path))
            with pytest.raises(StoreError, match="Input/output"):
                Table(path).append(seq + 1, row(seq + 1))
        disk.synced = known
        left = tmp_path / f"left-{seq}"
        disk.cut(path, left, rng)
        table = Table(left)
        table.mend()
        assert held(left) in (list(range(seq + 1)), list(range(seq + 2)))
        assert table.append(seq + 1, row(seq + 1)).version == seq + 1
        assert held(left) == list(range(seq + 2))
        shutil.rmtree(path)
        kept.rename(path)
