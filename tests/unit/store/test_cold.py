"""Predictions are found by their ids, however old, and little is read for that."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks.late import names
from tests.helpers.rows import predictions
from undrift.errors import StoreError
from undrift.store import cold
from undrift.store.place import Where
from undrift.store.store import Store

PART, PARTS = 40, 5


def ids(rows: np.ndarray) -> list[str]:
    return names(rows.astype(np.uint64))


def filled(root: Where) -> Store:
    store = Store(root)
    for part in range(PARTS):
        row = np.arange(part * PART, (part + 1) * PART)
        output = np.eye(2, dtype=np.float32)[row % 2]
        x = np.zeros((PART, 1))
        made = predictions(x, first=part * PART, ids=ids(row), at=row * 1.0, output=output)
        store.append_predictions(part + 1, made)
    return store


@pytest.mark.parametrize("compacted", [False, True])
@pytest.mark.parametrize("at_once", [1, 7, 1_000])
def test_each_id_is_found_with_its_row_time_and_answer(
    root: Where, monkeypatch: pytest.MonkeyPatch, at_once: int, compacted: bool
) -> None:
    monkeypatch.setattr(cold, "AT_ONCE", at_once)
    store = filled(root)
    if compacted:
        store.compact()
    rows = np.random.default_rng(0).permutation(PART * PARTS)[:12]
    asked = ["nobody", *ids(rows), ids(np.array([10**6]))[0]]
    found = {
        asked[place]: (row, at, version, answered)
        for part in store.look_up(asked)
        for place, row, at, version, answered in zip(
            part.asked, part.row, part.at, part.version, part.answered, strict=True
        )
    }
    assert found == {
        name: (row, float(row), 1, row % 2) for name, row in zip(ids(rows), rows, strict=True)
    }


def test_newest_prediction_of_an_id_is_found(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for part in range(2):
        made = predictions(np.zeros((3, 1)), first=3 * part, ids=["b", "a", "b"])
        store.append_predictions(part + 1, made)
    (part,) = store.look_up(["a", "b"])
    assert (part.asked.tolist(), part.row.tolist()) == ([0, 1], [4, 5])


def test_nothing_is_found_where_there_is_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert list(store.look_up(["a"])) == []
    store.append_predictions(1, predictions(np.zeros((1, 1))))
    assert [len(part) for part in store.look_up(["a"])] == [0]
    assert list(store.look_up([])) == []


def test_row_groups_out_of_the_range_of_the_ids_are_not_read(tmp_path: Path) -> None:
    store = filled(tmp_path)
    files = sorted((tmp_path / "tables" / "predictions").glob("*.parquet"), key=_first_row)
    for path in (*files[:1], *files[2:]):  # their ends, with the ranges, stay whole
        raw = bytearray(path.read_bytes())
        raw[4 : len(raw) // 3] = bytes(len(raw) // 3 - 4)
        path.write_bytes(raw)
    assert sum(len(part) for part in store.look_up(ids(np.arange(50, 60)))) == 10
    with pytest.raises(StoreError, match="look up predictions"):
        list(store.look_up(ids(np.arange(10))))


def _first_row(path: Path) -> int:
    return int(pq.read_table(path, columns=["row"])["row"][0].as_py())


def test_damaged_table_is_told(tmp_path: Path) -> None:
    store = filled(tmp_path)
    for path in (tmp_path / "tables" / "predictions").glob("*.parquet"):
        path.write_bytes(b"PAR1")
    with pytest.raises(StoreError, match="predictions"):
        list(store.look_up(["a"]))
