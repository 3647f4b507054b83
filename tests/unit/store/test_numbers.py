"""Predictions and labels of a regression, stored and read again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tests.helpers import rows as by_hand
from undrift.errors import StoreError
from undrift.records import Labels, Predictions
from undrift.store.place import Where
from undrift.store.record import Record


def predictions(first: int, n: int, outputs: int) -> Predictions:
    rng = np.random.default_rng(first)
    numbers = rng.normal(size=(2, n, outputs)).astype(np.float32)
    numbers[1, ::2] = np.nan
    x, embedding = rng.normal(size=(n, 3)), rng.normal(size=(n, 4))
    rows = by_hand.predictions(x, first=first, embedding=embedding, output=numbers[0])
    return replace(rows, answered=numbers[0], former=numbers[1])


@pytest.mark.parametrize("outputs", [1, 3])
def test_numbers_come_back_as_they_went_in(root: Where, outputs: int) -> None:
    store = Record(root)
    parts = [predictions(0, 5, outputs), predictions(5, 3, outputs)]
    y = np.random.default_rng(9).normal(size=(8, outputs)).astype(np.float32)
    y = y[:, 0] if outputs == 1 else y
    ids = tuple(i for part in parts for i in part.ids)
    for seq, part in enumerate(parts):
        rows = slice(5 * seq, 5 * seq + len(part))
        store.append_predictions(seq, part)
        store.append_labels(seq, Labels(ids[rows], y[rows], part.at))
    for again in (False, True):
        if again:
            store.compact()
            store = Record(root)
        found, labels = store.predictions(), store.labels()
        for name in ("output", "answered", "former"):
            whole = np.concatenate([getattr(part, name) for part in parts])
            assert_array_equal(getattr(found, name), whole)
            assert getattr(found, name).dtype == np.float32
        assert labels.ids == ids
        assert_array_equal(labels.label, y)
        assert labels.label.dtype == np.float32
        assert len(store.predictions(since_row=100)) == 0
        for _, rows, told in store.commits(after_seq=-1):
            assert rows is not None
            assert told is not None
            assert rows.answers.shape == (len(rows), outputs)


def test_rows_that_the_version_before_was_not_asked_have_no_number() -> None:
    rows = replace(predictions(0, 4, 2), former=None)
    assert rows.formers.shape == (4, 2)
    assert np.isnan(rows.formers).all()


def test_another_number_of_outputs_is_refused(root: Where) -> None:
    store = Record(root)
    store.append_predictions(0, predictions(0, 5, 1))
    with pytest.raises(StoreError, match="output of shape"):
        store.append_predictions(1, predictions(5, 5, 2))
