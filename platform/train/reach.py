"""Which rows a pool is made of, found without their inputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from undrift.ids import join
from undrift.records import Labels, TimeArray
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
