"""Monitor, pool and tune join labels to predictions by one rule."""

from __future__ import annotations

import numpy as np
import pytest

from undrift.ids import join
from undrift.monitor.history import Moment
from undrift.monitor.join import LabelJoin
from undrift.records import Labels, Predictions, Reference
from undrift.streams.stream import UNKNOWN
from undrift.train.pool import REFERENCE_ROW, Pool
from undrift.tune.history import joined_labels

ROWS, LABELS, CLASSES = 60, 90, 3


def record(seed: int) -> tuple[Predictions, Labels]:
    """Rows some of whose ids are used again, then labels that repeat, contradict and miss."""
    rng = np.random.default_rng(seed)
    names = tuple(f"id-{i}" for i in rng.integers(0, 45, ROWS))
    x = np.zeros((ROWS, 2), np.float32)
    output = np.full((ROWS, CLASSES), 1 / CLASSES, np.float32)
    rows = Predictions(
        names, np.arange(ROWS), np.zeros(ROWS), np.ones(ROWS, np.int64), x, x, output
    )
    told = tuple(f"id-{i}" for i in rng.integers(0, 55, LABELS))
    return rows, Labels(told, rng.integers(0, CLASSES, LABELS), np.zeros(LABELS))


def monitored(rows: Predictions, labels: Labels) -> dict[int, int]:
    known = LabelJoin(window=1000)
    known.add(rows)
    joined, _ = known.label(labels)
    return dict(zip(joined.row.tolist(), joined.label.tolist(), strict=True))


@pytest.mark.parametrize("seed", range(5))
def test_same_rows_get_the_same_labels(seed: int) -> None:
    rows, labels = record(seed)
    expected = monitored(rows, labels)
    index, of = join(rows.ids, labels.ids)
    assert {i: int(labels.label[k]) for i, k in zip(index, of, strict=True)} == expected

    one = np.zeros((1, CLASSES), np.float32)
    reference = Reference(rows.x[:1], np.array([0]), rows.x[:1], one, np.array([True]))
    pool = Pool.build(rows, labels, reference, max_rows=1000)
    live = pool.row != REFERENCE_ROW
    assert dict(zip(pool.row[live].tolist(), pool.y[live].tolist(), strict=True)) == expected

    y, _ = joined_labels([Moment(1, rows), Moment(2, labels=labels)], ROWS, CLASSES)
    assert {int(i): int(y[i]) for i in np.flatnonzero(y != UNKNOWN)} == expected
