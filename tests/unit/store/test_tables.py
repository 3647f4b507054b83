from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from numpy.testing import assert_array_equal

from tests.helpers import rows as by_hand
from undrift.errors import StoreError
from undrift.records import Labels, Predictions
from undrift.store.columns import to_labels
from undrift.store.place import Where
from undrift.store.record import Record
from undrift.store.tables import Table


def predictions(first_row: int, n: int, shape: tuple[int, ...] = (3,)) -> Predictions:
    rng = np.random.default_rng(first_row)
    at = first_row + rng.random(n)
    x, embedding = rng.normal(size=(n, *shape)), rng.normal(size=(n, 4))
    output = rng.random((n, 2), dtype=np.float32)
    return by_hand.predictions(x, first=first_row, at=at, embedding=embedding, output=output)


def labels(*ids: str) -> Labels:
    return Labels(ids=ids, label=np.arange(len(ids)), at=np.arange(len(ids)) + 0.5)


def assert_same(found: Predictions | None, expected: Predictions) -> None:
    assert found is not None
    assert found.ids == expected.ids
    for name in ("row", "at", "version", "x", "embedding", "output"):
        array = getattr(found, name)
        assert_array_equal(array, getattr(expected, name))
        assert array.dtype == getattr(expected, name).dtype
        assert array.flags.c_contiguous
        assert array.flags.writeable


@pytest.fixture
def store(root: Where) -> Record:
    return Record(root)


def test_empty_store_reads_as_empty(store: Record) -> None:
    assert len(store.predictions()) == len(store.labels()) == 0
    assert list(store.commits(after_seq=-1)) == []
    assert store.as_of() == {"predictions": -1, "labels": -1}
    store.compact()


@pytest.mark.parametrize("shape", [(3,), (1, 8, 8), ()])
def test_predictions_come_back_as_they_went_in(store: Record, shape: tuple[int, ...]) -> None:
    first, second = predictions(0, 5, shape), predictions(5, 3, shape)
    store.append_predictions(0, first)
    store.append_predictions(1, second)
    assert_same(store.predictions(), Predictions.concat([first, second]))


def test_row_range_is_half_open(store: Record) -> None:
    for seq in range(4):
        store.append_predictions(seq, predictions(5 * seq, 5))
    assert store.predictions(since_row=3, until_row=11).row.tolist() == list(range(3, 11))
    nothing = store.predictions(since_row=20)
    assert nothing.x.shape == (0, 3)


def test_rows_are_fetched_by_their_numbers_from_any_commit(store: Record) -> None:
    parts = [predictions(first, 10, shape=(2, 3)) for first in range(0, 50, 10)]
    for seq, rows in enumerate(parts, start=1):
        store.append_predictions(seq, rows)
    store.compact()
    whole, wanted = Predictions.concat(parts), np.array([0, 9, 10, 37, 49])
    assert_array_equal(store.asked(range(5, 45)).row, np.arange(5, 45))
    asked = store.asked(range(0, 50)).take(wanted)
    found = store.fetch(asked)
    assert (found.ids, found.row.tolist()) == (tuple(whole.ids[i] for i in wanted), wanted.tolist())
    for name in ("at", "version", "x", "embedding", "output"):
        assert_array_equal(getattr(found, name), getattr(whole, name)[wanted])
    assert len(store.fetch(asked.take(np.arange(0)))) == 0
    with pytest.raises(StoreError, match="does not hold 2 of 5 rows any more"):
        store.fetch(asked, as_of=3)


def test_labels_of_some_ids_are_found_among_all(store: Record) -> None:
    store.append_labels(1, labels("a", "b", "c"))
    store.append_labels(2, labels("b", "d"))
    assert store.labels(of=["d", "b"]).ids == ("b", "b", "d")
    assert store.labels(2, of=["b", "nobody"]).ids == ("b",)
    assert store.labels(of=[]).ids == ()


def test_version_of_a_table_stays_readable_after_compaction(store: Record) -> None:
    version = store.append_predictions(0, predictions(0, 5))
    store.append_labels(0, labels("id-0"))
    store.append_predictions(1, predictions(5, 5))
    store.append_labels(1, labels("id-1"))
    store.compact()
    assert_same(store.predictions(as_of=version), predictions(0, 5))
    assert store.labels(as_of=0).ids == ("id-0",)
    assert store.as_of() == {"predictions": 1, "labels": 1}


@pytest.mark.parametrize("reopened", [False, True])
def test_repeated_append_changes_nothing(store: Record, root: Where, reopened: bool) -> None:
    for seq in (0, 1):
        store.append_predictions(seq, predictions(5 * seq, 5))
        store.append_labels(seq, labels(f"id-{seq}"))
    again = Record(root) if reopened else store
    assert again.append_predictions(1, predictions(5, 5)) == 1
    assert again.append_labels(0, labels("id-0")) == 1
    assert len(store.predictions()) == 10
    assert store.labels().ids == ("id-0", "id-1")


def test_empty_append_changes_nothing(store: Record) -> None:
    assert store.append_labels(3, labels()) == -1
    assert store.append_labels(0, labels("a")) == 0


def test_labels_keep_their_order_of_arrival_through_compaction(store: Record) -> None:
    arrived = [f"id-{i * 37 % 200}" for i in range(200)]
    for seq in range(20):
        store.append_labels(seq, labels(*arrived[10 * seq : 10 * seq + 10]))
    store.compact()
    assert list(store.labels().ids) == arrived


@pytest.mark.thorough
def test_labels_keep_their_order_within_a_commit_whatever_a_compaction_does(tmp_path: Path) -> None:
    store, arrived = Record(tmp_path), [f"id-{i * 7919 % 20_000}" for i in range(20_000)]
    for seq in range(40):  # rows of 8,192 at a time are read by several threads
        store.append_labels(seq, labels(*arrived[500 * seq : 500 * seq + 500]))
    shuffled = DeltaTable(tmp_path / "tables" / "labels").to_pyarrow_table().to_pylist()[::-1]
    assert list(store.labels().ids) == arrived
    store.compact()
    assert list(store.labels().ids) == arrived
    assert list(to_labels(pa.Table.from_pylist(shuffled)).ids) == arrived


def test_labels_follow_those_of_a_release_that_did_not_store_their_place(tmp_path: Path) -> None:
    table = Table(tmp_path / "tables" / "labels")
    old = {"seq": [0, 0], "id": ["b", "a"], "label": [1, 0], "at": [1.0, 2.0]}
    table.append(0, pa.table(old))
    store = Record(tmp_path)
    store.append_labels(1, labels("d", "c"))
    store.append_labels(2, labels("f", "e"))
    store.compact()
    assert store.labels().ids == ("b", "a", "d", "c", "f", "e")


@pytest.mark.thorough
def test_hundred_appends_read_the_same_after_compaction(tmp_path: Path) -> None:
    store = Record(tmp_path)
    parts = [predictions(4 * seq, 4) for seq in range(100)]
    for seq, part in enumerate(parts):
        store.append_predictions(seq, part)
    store.compact()
    store.append_predictions(100, predictions(400, 4))
    expected = Predictions.concat([*parts, predictions(400, 4)])
    assert_same(store.predictions(), expected)
    assert_same(Record(tmp_path).predictions(), expected)


def test_long_run_of_appends_compacts_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("undrift.store.tables._COMPACT_AT", 8)
    monkeypatch.setattr("undrift.store.tables._REOPEN_EVERY", 5)
    store = Record(tmp_path)
    for seq in range(20):
        store.append_labels(seq, labels(f"id-{seq}"))
    table = DeltaTable(tmp_path / "tables" / "labels")
    assert len(table.file_uris()) == 1 + 20 % 8
    assert store.labels().ids == tuple(f"id-{seq}" for seq in range(20))


def test_another_store_compacts_while_one_appends(store: Record, root: Where) -> None:
    other = Record(root)
    for seq in range(6):
        store.append_predictions(seq, predictions(2 * seq, 2))
        if seq % 2:
            other.compact()
    assert_same(other.predictions(), Predictions.concat([predictions(2 * s, 2) for s in range(6)]))


def test_reader_opened_before_the_first_append_sees_each_commit(store: Record, root: Where) -> None:
    reader = Record(root)
    assert len(reader.predictions()) == 0
    store.append_predictions(0, predictions(0, 2))
    assert_same(reader.predictions(), predictions(0, 2))
    store.append_predictions(1, predictions(2, 2))
    assert reader.as_of()["predictions"] == 1
    assert len(reader.predictions()) == 4


def test_ticks_replay_both_tables_in_order(store: Record) -> None:
    store.append_predictions(1, predictions(0, 3))
    store.append_labels(2, labels("id-0", "id-2"))
    store.append_predictions(3, predictions(3, 2))
    store.append_labels(3, labels("id-1"))
    store.append_predictions(4, predictions(5, 2))  # the crash came before its labels
    store.compact()
    replayed = list(store.commits(after_seq=1))
    assert [seq for seq, _, _ in replayed] == [2, 3, 4]
    (_, none, early), (_, rows, late), (_, last, missing) = replayed
    assert none is None
    assert missing is None
    assert early is not None
    assert early.ids == ("id-0", "id-2")
    assert early.label.tolist() == [0, 1]
    assert late is not None
    assert late.ids == ("id-1",)
    assert_same(rows, predictions(3, 2))
    assert_same(last, predictions(5, 2))


def test_more_commits_than_are_read_at_once_all_come(
    store: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("undrift.store.record.COMMITS_AT_ONCE", 2)
    for seq in (0, 1, 5, 6, 9):
        store.append_labels(seq, labels(f"id-{seq}"))
    ids = [late.ids for _, _, late in store.commits(after_seq=0) if late is not None]
    assert ids == [("id-1",), ("id-5",), ("id-6",), ("id-9",)]


def test_other_shape_is_refused_with_both_shapes(store: Record, root: Where) -> None:
    store.append_predictions(0, predictions(0, 2, (3,)))
    with pytest.raises(StoreError, match=r"x of shape \[3\], not \[1, 3\]"):
        Record(root).append_predictions(1, predictions(2, 2, (1, 3)))
    assert len(store.predictions()) == 2


def test_missing_data_file_is_named(tmp_path: Path) -> None:
    store = Record(tmp_path / "state")
    store.append_predictions(0, predictions(0, 2))
    (data,) = (tmp_path / "state" / "tables" / "predictions").glob("*.parquet")
    data.unlink()
    with pytest.raises(StoreError, match=r"cannot read the table .*predictions"):
        store.predictions()


def test_damaged_log_is_reported(tmp_path: Path) -> None:
    store = Record(tmp_path / "state")
    store.append_labels(0, labels("a"))
    log = tmp_path / "state" / "tables" / "labels" / "_delta_log"
    (log / f"{1:020}.json").write_text("{not json")
    with pytest.raises(StoreError, match="labels"):
        Record(tmp_path / "state").labels()


def test_append_to_a_full_or_vanished_place_is_reported(tmp_path: Path) -> None:
    store = Record(tmp_path / "state")
    shutil.rmtree(tmp_path / "state" / "tables", ignore_errors=True)
    (tmp_path / "state" / "tables").write_text("in the way")
    with pytest.raises(StoreError, match="labels"):
        store.append_labels(0, labels("a"))


def test_no_label_is_dropped_before_its_prediction(store: Record) -> None:
    for seq in range(1, 11):
        store.append_predictions(seq, predictions(4 * seq - 4, 4))
    store.compact()  # predictions are one file, which stays whole; labels ten
    for seq in range(1, 11):
        store.append_labels(seq, labels(f"row-{seq}"))
    store.drop_before(5)
    assert store.first_row() == 0
    assert len(store.labels()) == 10


def test_whole_files_before_a_commit_are_dropped_and_the_rest_is_as_it_was(store: Record) -> None:
    for seq in range(1, 11):
        store.append_predictions(seq, predictions(4 * seq - 4, 4))
        store.append_labels(seq, labels(f"row-{seq}"))
    expected = store.predictions(since_row=16), store.labels(since_seq=5)
    size = store.size()
    store.drop_before(5)
    assert store.first_row() == 16
    assert_same(store.predictions(), expected[0])
    assert store.labels().ids == expected[1].ids
    assert [seq for seq, _, _ in store.commits(0)] == list(range(5, 11))
    assert store.size() == store.size(4) < size
    assert store.append_predictions(10, predictions(40, 4)) == 10, "a repeat changes nothing"
    store.append_predictions(11, predictions(40, 4))
    assert store.as_of() == {"predictions": 11, "labels": 10}
