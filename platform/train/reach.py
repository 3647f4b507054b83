"""Which rows and targets a pool is made of, found without their inputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from undrift.errors import TrainingError
from undrift.ids import join
from undrift.records import Labels, TargetArray, TimeArray
from undrift.train.settings import SPAN

Index = NDArray[np.intp]

ASKED = 1000  # newest labels, among which is that of the newest labelled row
NEWEST = 1000  # newest inputs, labelled or not, that show where the inputs are now


def labelled(
    ids: Sequence[str], at: TimeArray, labels: Labels, max_rows: int
) -> tuple[Index, Index]:
    """Return which predictions have a label, the newest, and which label each of them has.

    Args:
        ids: Ids of predictions in order of row number.
        at: (n,) when each was answered.
        labels: Labels in order of arrival; `ids.join` has the rule.
        max_rows: The most that are wanted.
    """
    rows, of = join(ids, at.tolist(), labels.ids, labels.at.tolist())
    return np.array(rows[-max_rows:], dtype=np.intp), np.array(of[-max_rows:], dtype=np.intp)


def rows_to_read(labelled: int | None, until: int, max_rows: int) -> tuple[range, range]:
    """Return the rows that a pool is built of: those with labels, and the newest for their inputs.

    Labels may be any number of rows late, so rows are counted back from the newest that has one.

    Args:
        labelled: Newest row that has a label; None if there is none.
        until: Row after the last one.
        max_rows: Labelled rows that the pool may hold.

    Example:
        >>> rows_to_read(5_000, until=100_000, max_rows=1_000)
        (range(1001, 5001), range(99000, 100000))
    """
    stop = until if labelled is None else min(labelled + 1, until)
    start = max(0, stop - SPAN * max_rows)
    return range(start, stop), range(max(stop, until - NEWEST), until)


def joined(reference: TargetArray, labels: TargetArray) -> TargetArray:
    """Return targets of the reference and of live rows, all classes or all numbers.

    Raises:
        TrainingError: They are of different kinds.
    """
    if not len(labels):
        return reference
    if reference.shape[1:] != labels.shape[1:]:
        raise TrainingError(
            f"labels have shape {list(labels.shape[1:])} per row, but those of the base version's "
            f"reference {list(reference.shape[1:])}; hand in the same number of targets"
        )
    if np.issubdtype(reference.dtype, np.integer) and not np.issubdtype(labels.dtype, np.integer):
        raise TrainingError(
            "labels are numbers, but the base version's reference has classes; hand in class "
            "indices, or make a reference with numbers"
        )
    return np.concatenate([reference, labels.astype(reference.dtype)])
