"""The pool of a retraining, read from the store: as far back from the newest label as it needs."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np

from undrift.errors import TrainingError
from undrift.records import Reference
from undrift.store.reading import Asked
from undrift.store.store import Store
from undrift.train.plan import RetrainPlan
from undrift.train.pool import Pool
from undrift.train.reach import ASKED, NEWEST, labelled, rows_to_read


def read_pool(store: Store, plan: RetrainPlan, reference: Reference, max_rows: int) -> Pool:
    """Return what was labelled when a retraining was ordered, and where inputs are now.

    Rows are chosen by their numbers; the inputs of those that were chosen are read, and no others.

    Args:
        store: The model's store.
        plan: Says until which row, and as of which commits.
        reference: Reference of the base version.
        max_rows: Labelled rows to keep, the newest.

    Raises:
        TrainingError: No prediction has been made yet, and there is something to train.
    """
    tables = plan.as_of or {}
    as_of, until = tables.get("predictions"), plan.until_row
    known = store.newest_labels(ASKED, as_of=tables.get("labels"))
    newest = store.newest_row_of(known.ids, as_of=as_of)
    pieces = rows_to_read(newest, until, max_rows)
    found = [store.asked(rows, as_of=as_of) for rows in pieces if rows]
    ids = tuple(name for part in found for name in part.ids)
    if not ids and plan.weights:
        return Pool.of(reference)
    if not ids:
        raise TrainingError("there is nothing to train on: no prediction has been made yet")
    row, at = (np.concatenate([part[i] for part in found]) for i in (1, 2))
    asked = Asked(ids, row, at)
    # What came before the first of them named earlier uses of ids; before row 0 there were none,
    # and a label that overtook its prediction is older than that.
    since = store.commit_of(int(row[0])) if row[0] > 0 else 0
    labels = store.labels(since, as_of=tables.get("labels"), of=ids)
    index, told = labelled(ids, at, labels, max_rows)
    rows = store.fetch(asked.take(index), as_of=as_of)
    last = store.fetch(asked.take(np.arange(len(row))[-NEWEST:]), as_of=as_of)
    return Pool.of_rows(reference, rows, labels.label[told], last.x, last.row)


def read_later(store: Store, plan: RetrainPlan, reference: Reference, max_rows: int) -> Pool:
    """Return what is labelled by now; see `read_pool`."""
    now = replace(plan, as_of=None, until_row=sys.maxsize)
    return read_pool(store, now, reference, max_rows)
