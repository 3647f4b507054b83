from __future__ import annotations

import numpy as np

from tests.helpers.rows import joined
from undrift.monitor.join import Joined
from undrift.monitor.signals.class_recall import ClassRecall
from undrift.records import Reference


def reference(n: int = 300) -> Reference:
    y = np.arange(n) % 3
    output = np.eye(3, dtype=np.float32)[np.where(np.arange(n) % 30 == 0, (y + 1) % 3, y)]
    x = np.zeros((n, 1), dtype=np.float32)
    return Reference(x, y, x, output, np.ones(n, dtype=np.bool_))


def labels(first: int, n: int, wrong_class: int | None) -> Joined:
    label = np.arange(n) % 3
    return joined(label == wrong_class, first=first, label=label)


def test_class_that_was_unlearnt_is_named() -> None:
    recall = ClassRecall(500)
    recall.fit(reference())
    recall.update(labels(0, 120, wrong_class=1))
    (change,) = recall.changes(0)
    assert (change.what, change.name, change.measure) == ("class", "1", "recall")
    assert (change.before, change.now, change.effect) == (1.0, 0.0, 1.0)


def test_rows_before_the_change_do_not_count() -> None:
    recall = ClassRecall(500)
    recall.fit(reference())
    recall.update(labels(0, 90, wrong_class=1))
    recall.update(labels(90, 90, wrong_class=None))
    assert recall.changes(0)
    assert recall.changes(90) == ()


def test_label_of_a_class_that_the_model_does_not_have_is_left_out() -> None:
    recall = ClassRecall(500)
    recall.fit(reference())
    batch = labels(0, 90, wrong_class=None)
    batch.label[:] = 7
    recall.update(batch)
    assert recall.changes(0) == ()


def test_saved_and_loaded_gives_the_same_changes() -> None:
    recall = ClassRecall(100)
    recall.fit(reference())
    recall.update(labels(0, 120, wrong_class=2))
    loaded = ClassRecall(100)
    loaded.load(recall.state())
    assert loaded.changes(0) == recall.changes(0) != ()
