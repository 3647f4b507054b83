"""Predictions looked up by their ids in the store, long after they have left every memory.

Ids are made in order of time, so a row group of the table that holds none of those asked for is
known by the range of its ids and not read. Ids of a caller's own, in no order, cost a whole pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from undrift.records import IntArray, TimeArray

AT_ONCE = 100_000
"""Ids that are looked up together: what is read for them is bounded by their range."""

_COLUMNS = ["id", "row", "at", "version", "answered"]  # the last where it is a class


@dataclass(frozen=True, slots=True)
class Found:
    """Predictions that were found.

    Attributes:
        asked: (n,) places of their ids among those asked for, ascending.
        row: (n,) their row numbers.
        at: (n,) when they were answered, Unix seconds.
        version: (n,) versions that answered.
        answered: (n,) classes that were answered; none where answers are numbers.
    """

    asked: IntArray
    row: IntArray
    at: TimeArray
    version: IntArray
    answered: IntArray

    def __len__(self) -> int:
        return len(self.asked)


def look_up(stored: ds.Dataset, ids: Sequence[str]) -> Iterator[Found]:
    """Yield the predictions with these ids, a part of the ids at a time; the newest of each id.

    Args:
        stored: The predictions.
        ids: Each of them once.
    """
    names = np.array(ids, dtype=np.str_)
    order = np.argsort(names, kind="stable")
    for start in range(0, len(order), AT_ONCE):
        part = order[start : start + AT_ONCE]
        yield _found(stored, names[part], part)


def _found(stored: ds.Dataset, names: np.ndarray, places: IntArray) -> Found:
    """Return what is found of ids in order."""
    wanted = pa.array(names, pa.string())
    where = (ds.field("id") >= wanted[0]) & (ds.field("id") <= wanted[-1])
    parts = []
    classes = pa.types.is_integer(stored.schema.field("answered").type)
    columns_read = _COLUMNS if classes else _COLUMNS[:-1]
    scanner = stored.scanner(
        columns_read, filter=where, batch_readahead=2, fragment_readahead=1, use_threads=False
    )
    for batch in scanner.to_batches():
        if not len(batch):
            continue
        ends = pc.min_max(batch["id"]).as_py()
        low = int(np.searchsorted(names, ends["min"]))
        high = int(np.searchsorted(names, ends["max"], side="right"))
        place = pc.index_in(batch["id"], value_set=wanted.slice(low, high - low))
        known = place.is_valid()
        if known.true_count:
            columns = [pc.add(place, low), *(batch[name] for name in columns_read[1:])]
            parts.append([pc.filter(column, known).to_numpy(False) for column in columns])
    if not parts:
        none = np.empty(0, np.int64)
        return Found(none, none, np.empty(0), none, none)
    place, row, at, version, *classes_told = map(np.concatenate, zip(*parts, strict=True))
    answered = classes_told[0] if classes_told else np.empty(0, np.int64)
    asked = places[place]
    order = np.lexsort((row, asked))
    newest = np.append(np.diff(asked[order]) > 0, True)
    order = order[newest]
    told = answered[order] if classes_told else answered
    return Found(asked[order], row[order], at[order], version[order], told)
