"""The pool of a retraining, read from the store: as far back from the newest label as it needs."""

from __future__ import annotations

import sys
from dataclasses import replace

from undrift.errors import TrainingError
from undrift.records import Predictions, Reference
from undrift.store.store import Store
from undrift.train.plan import RetrainPlan
from undrift.train.pool import ASKED, Pool, rows_to_read


def read_pool(store: Store, plan: RetrainPlan, reference: Reference, max_rows: int) -> Pool:
    """Return what was labelled when a retraining was ordered, and where inputs are now.

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
    labelled = store.newest_labels(ASKED, as_of=tables.get("labels"))
    newest = store.newest_row_of(labelled.ids, as_of=as_of)
    pieces = rows_to_read(newest, until, max_rows)
    read = [store.predictions(rows.start, rows.stop, as_of=as_of) for rows in pieces if rows]
    found = [rows for rows in read if len(rows)]
    if not found and plan.weights:
        return Pool.of(reference)
    if not found:
        raise TrainingError("there is nothing to train on: no prediction has been made yet")
    rows = Predictions.concat(found)
    # What came before the first of them named earlier uses of ids; before row 0 there were none,
    # and a label that overtook its prediction is older than that.
    since = store.commit_of(int(rows.row[0])) if rows.row[0] > 0 else 0
    labels = store.labels(since, as_of=tables.get("labels"))
    return Pool.build(rows, labels, reference, max_rows)


def read_later(store: Store, plan: RetrainPlan, reference: Reference, max_rows: int) -> Pool:
    """Return what is labelled by now; see `read_pool`."""
    now = replace(plan, as_of=None, until_row=sys.maxsize)
    return read_pool(store, now, reference, max_rows)
