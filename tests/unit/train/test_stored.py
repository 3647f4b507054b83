"""The pool of a retraining, read from the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from undrift.errors import TrainingError
from undrift.evidence import DriftKind
from undrift.records import Labels, Predictions, Reference
from undrift.store.reading import Asked
from undrift.store.store import Store
from undrift.train.plan import RetrainPlan
from undrift.train.pool import Pool
from undrift.train.reach import rows_to_read
from undrift.train.stored import read_pool

ROWS, MOST = 2000, 50
REFERENCE = Reference(
    x=np.zeros((10, 2), np.float32),
    y=np.arange(10) % 2,
    embedding=np.zeros((10, 1), np.float32),
    output=np.full((10, 2), 0.5, np.float32),
    recent=np.ones(10, dtype=np.bool_),
)


def plan(until_row: int, as_of: dict[str, int] | None = None) -> RetrainPlan:
    return RetrainPlan(
        run_id="run-1",
        base_version=1,
        until_row=until_row,
        kind=DriftKind.BOTH,
        regime_start=0,
        method="bandit",
        steps=10,
        seed=0,
        as_of=as_of,
    )


def served(store: Store, labelled: range) -> None:
    """Keep 2,000 predictions in ten commits, and in the last one the labels of some."""
    for seq, start in enumerate(range(0, ROWS, 200), start=1):
        row = np.arange(start, start + 200)
        x = np.stack([row, row], axis=1).astype(np.float32)
        rows = Predictions(
            ids=tuple(f"row-{i}" for i in row),
            row=row,
            at=row.astype(np.float64),
            version=np.ones(200, np.int64),
            x=x,
            embedding=x[:, :1],
            output=np.full((200, 2), 0.5, np.float32),
        )
        store.append_predictions(seq, rows)
    told = np.array(labelled, dtype=np.int64)
    ids = tuple(f"row-{i}" for i in told)
    store.append_labels(10, Labels(ids, told % 2, told.astype(np.float64)))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "state")


@pytest.mark.parametrize("lag", [0, 500, 1500])
def test_labels_of_any_lag_are_trained_on(store: Store, lag: int) -> None:
    newest = ROWS - lag
    served(store, range(newest - 100, newest))
    pool = read_pool(store, plan(ROWS), REFERENCE, MOST)
    assert pool.row[10:].tolist() == list(range(newest - MOST, newest))
    assert pool.newest_row[-1] == ROWS - 1, "where inputs are now needs no label"


@pytest.mark.parametrize("labelled", [range(ROWS), range(0, 1000, 25), range(1700, 1705), range(0)])
def test_pool_is_that_of_all_rows_though_only_chosen_ones_are_fetched(
    store: Store, labelled: range, monkeypatch: pytest.MonkeyPatch
) -> None:
    served(store, labelled)
    fetched: list[int] = []
    fetch = Store.fetch

    def spy(self: Store, rows: Asked, as_of: int | None = None) -> Predictions:
        fetched.append(len(rows.ids))
        return fetch(self, rows, as_of)

    monkeypatch.setattr(Store, "fetch", spy)
    pool = read_pool(store, plan(ROWS), REFERENCE, MOST)
    newest = store.newest_row_of([f"row-{i}" for i in labelled[-1:]])
    pieces = [store.predictions(r.start, r.stop) for r in rows_to_read(newest, ROWS, MOST) if r]
    whole = Pool.build(Predictions.concat(pieces), store.labels(), REFERENCE, MOST)
    for name in ("x", "y", "row", "at", "newest", "newest_row"):
        np.testing.assert_array_equal(getattr(pool, name), getattr(whole, name), strict=True)
    assert pool.answered is not None
    assert whole.answered is not None
    for one, other in zip(pool.answered, whole.answered, strict=True):
        np.testing.assert_array_equal(one, other, strict=True)
    assert fetched == [len(pool) - len(REFERENCE), len(pool.newest)]


def test_labels_that_overtook_the_first_predictions_are_trained_on(store: Store) -> None:
    x, row = np.zeros((4, 2), np.float32), np.arange(4)
    ids = tuple("abcd")
    store.append_labels(1, Labels(ids, row % 2, np.full(4, 5.0)))
    store.append_predictions(
        2, Predictions(ids, row, np.full(4, 4.0), np.ones(4, np.int64), x, x, x)
    )
    assert read_pool(store, plan(4), REFERENCE, MOST).row[10:].tolist() == [0, 1, 2, 3]


def test_as_far_back_from_the_newest_label_as_the_span_reaches(store: Store) -> None:
    served(store, range(0, 1000, 25))
    pool = read_pool(store, plan(ROWS), REFERENCE, MOST)
    assert pool.row[10:].tolist() == list(range(800, 1000, 25))


def test_id_used_again_is_trained_on_with_the_label_of_its_last_use(store: Store) -> None:
    x = np.zeros((2, 2), np.float32)
    for seq in (1, 2, 3):  # a client that counts from 0 again after each of its restarts
        at = np.array([10.0 * seq, 10.0 * seq])
        row = np.array([2 * seq, 2 * seq + 1])
        ids = ("order-0", "order-1")
        rows = Predictions(ids, row, at, np.ones(2, np.int64), x, x, x)
        store.append_predictions(seq, rows)
        if seq < 3:
            store.append_labels(seq, Labels(ids, np.array([seq % 2, seq % 2]), at + 1.0))
    store.append_labels(4, Labels(("order-1",), np.array([1]), np.array([40.0])))
    pool = read_pool(store, plan(8), REFERENCE, MOST)
    assert pool.row[10:].tolist() == [2, 3, 4, 5, 7]
    assert pool.y[10:].tolist() == [1, 1, 0, 0, 1]


def test_labels_are_read_only_as_far_back_as_the_pool_reaches(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    served(store, range(1900, 2000))
    for seq in range(11, 40):  # newer than any that the pool is about
        store.append_labels(seq, Labels((f"else-{seq}",), np.array([0]), np.array([1e9])))
    read: list[int] = []
    labels = Store.labels

    def spy(self: Store, since_seq: int = 0, as_of: int | None = None, of: Any = None) -> Labels:
        read.append(since_seq)
        return labels(self, since_seq, as_of, of)

    monkeypatch.setattr(Store, "labels", spy)
    pool = read_pool(store, plan(ROWS), REFERENCE, MOST)
    assert len(pool) == len(REFERENCE) + MOST
    assert read[0] > 30, "the newest first"
    assert read[-1] == 10, "the pool begins with row 1800, the first of commit 10"


def test_what_came_after_the_order_is_left_out(store: Store) -> None:
    served(store, range(1000, 1500))
    pool = read_pool(store, plan(1200), REFERENCE, MOST)
    assert pool.row[10:].tolist() == list(range(1150, 1200))
    assert pool.newest_row[-1] == 1199


def test_without_a_label_the_newest_rows_are_there(store: Store) -> None:
    served(store, range(0))
    pool = read_pool(store, plan(ROWS), REFERENCE, MOST)
    assert len(pool) == len(REFERENCE)
    assert pool.newest_row[-1] == ROWS - 1


def test_without_a_prediction_there_is_nothing_to_train_on(store: Store) -> None:
    with pytest.raises(TrainingError, match="no prediction has been made yet"):
        read_pool(store, plan(ROWS), REFERENCE, MOST)
