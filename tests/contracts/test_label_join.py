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
    """Rows some of whose ids are used again, and labels that repeat, contradict, precede, miss."""
    rng = np.random.default_rng(seed)
    names = tuple(f"id-{i}" for i in rng.integers(0, 45, ROWS))
    at = np.arange(ROWS) * 1.0
    x = np.zeros((ROWS, 2), np.float32)
    output = np.full((ROWS, CLASSES), 1 / CLASSES, np.float32)
    rows = Predictions(names, np.arange(ROWS), at, np.ones(ROWS, np.int64), x, x, output)
    told = tuple(f"id-{i}" for i in rng.integers(0, 55, LABELS))
    told_at = np.sort(rng.uniform(-1.0, 1.5 * ROWS, LABELS))
    return rows, Labels(told, rng.integers(0, CLASSES, LABELS), told_at)


def in_order(rows: Predictions, labels: Labels) -> list[Moment]:
    """Return each row and each label as a commit of its own, by time."""
    moments = [Moment(0, rows.take(np.arange(ROWS) == i)) for i in range(ROWS)]
    moments += [
        Moment(0, labels=Labels(labels.ids[i : i + 1], labels.label[[i]], labels.at[[i]]))
        for i in range(LABELS)
    ]
    order = np.argsort(np.concatenate([rows.at, labels.at]), kind="stable")
    return [moments[i] for i in order]


def monitored(moments: list[Moment]) -> dict[int, int]:
    known, found = LabelJoin(window=1000), {}
    for moment in moments:
        if moment.predictions is not None:
            joined, _ = known.add(moment.predictions)
        if moment.labels is not None:
            joined, _ = known.label(moment.labels)
        found |= dict(zip(joined.row.tolist(), joined.label.tolist(), strict=True))
    return found


@pytest.mark.parametrize("seed", range(5))
def test_same_rows_get_the_same_labels(seed: int) -> None:
    rows, labels = record(seed)
    moments = in_order(rows, labels)
    expected = monitored(moments)
    index, of = join(rows.ids, rows.at.tolist(), labels.ids, labels.at.tolist())
    assert {i: int(labels.label[k]) for i, k in zip(index, of, strict=True)} == expected

    one = np.zeros((1, CLASSES), np.float32)
    reference = Reference(rows.x[:1], np.array([0]), rows.x[:1], one, np.array([True]))
    pool = Pool.build(rows, labels, reference, max_rows=1000)
    live = pool.row != REFERENCE_ROW
    assert dict(zip(pool.row[live].tolist(), pool.y[live].tolist(), strict=True)) == expected

    y, _ = joined_labels(moments, ROWS, CLASSES)
    assert {int(i): int(y[i]) for i in np.flatnonzero(y != UNKNOWN)} == expected
