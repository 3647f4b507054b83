from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from undrift.errors import StoreError
from undrift.events import Codec, Scored, Swapped
from undrift.evidence import DriftKind, Evidence, Level
from undrift.store.journal import Journal
from undrift.store.place import Where


def test_new_journal_is_empty(root: Where) -> None:
    assert Journal(root).read() == []


def test_events_come_back_in_order_across_reopening(root: Where) -> None:
    evidence = Evidence(Level.DRIFT, DriftKind.CONCEPT, (), version=1, rows=9, labelled=4)
    events = [
        Scored(at=1.0, run_id="r1", cause="tick", evidence=evidence),
        Swapped(at=2.0, run_id="r1", version=2),
        Swapped(at=3.0, version=1),
    ]
    journal = Journal(root)
    assert [journal.append(Codec.encode(e), e.at) for e in events[:2]] == [0, 1]
    journal = Journal(root)
    assert journal.append(Codec.encode(events[2]), 3.0) == 2
    assert [Codec.decode(d) for d in Journal(root).read()] == events


def test_reader_sees_what_a_writer_appends(root: Where) -> None:
    writer, reader = Journal(root), Journal(root)
    writer.append({"type": "Tick", "at": 1.0}, at=1.0)
    assert reader.read() == [{"type": "Tick", "at": 1.0}]


def test_type_run_and_cause_can_be_queried_as_columns(tmp_path: Path) -> None:
    Journal(tmp_path).append({"type": "Tick", "run_id": "r", "cause": "c", "n": 1}, at=5.0)
    (row,) = DeltaTable(tmp_path / "tables" / "events").to_pyarrow_table().to_pylist()
    assert row == {
        "seq": 0,
        "at": 5.0,
        "type": "Tick",
        "run_id": "r",
        "cause": "c",
        "body": '{"type": "Tick", "run_id": "r", "cause": "c", "n": 1}',
    }


def test_order_survives_many_appends_and_their_compaction(
    root: Where, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("undrift.store.tables._COMPACT_AT", 8)
    journal = Journal(root)
    for n in range(20):
        journal.append({"n": n}, at=float(n))
    assert [event["n"] for event in Journal(root).read()] == list(range(20))


def test_files_of_processes_that_ended_early_are_joined_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("undrift.store.tables._COMPACT_AT", 8)
    for n in range(10):  # each appends less than a compaction is for
        journal = Journal(tmp_path)
        for k in range(3):
            journal.append({"type": "Tick", "at": 3.0 * n + k}, at=0.0)
    assert [event["at"] for event in Journal(tmp_path).read()] == list(range(30))
    assert len(DeltaTable(tmp_path / "tables" / "events").file_uris()) < 9


def test_damaged_event_is_reported(tmp_path: Path) -> None:
    Journal(tmp_path).append({"type": "Tick"}, at=1.0)
    table = DeltaTable(tmp_path / "tables" / "events")
    row = {"seq": 1, "at": 2.0, "type": "", "run_id": "", "cause": "", "body": "{"}
    write_deltalake(table, pa.Table.from_pylist([row]), mode="append")
    with pytest.raises(StoreError, match=r"events is damaged: an event is not JSON"):
        Journal(tmp_path).read()


def test_newer_format_asks_for_an_upgrade(tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text('{"format": 99}')
    with pytest.raises(StoreError, match="upgrade undrift"):
        Journal(tmp_path)
