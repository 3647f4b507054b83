"""Reading what a model was asked and what turned out true: by rows, by ids, by commits."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray

from undrift.errors import StoreError
from undrift.records import IntArray, Labels, Predictions, TimeArray
from undrift.store.cold import Found, look_up
from undrift.store.columns import (
    BESIDE,
    SHAPE,
    column,
    ids_of,
    later_column,
    no_predictions,
    targets,
    to_labels,
    until,
    vectors,
)
from undrift.store.files import explained
from undrift.store.place import Where
from undrift.store.root import open_root
from undrift.store.tables import Table

VECTORS = ("x", "embedding", "output")
COMMITS_AT_ONCE = 256
_NEWEST_COMMITS = 4  # where the newest labels are looked for first; a commit may hold many


class Asked(NamedTuple):
    """Who asked and when, without what.

    Attributes:
        ids: n inference ids.
        row: (n,) row numbers, ascending.
        at: (n,) time of the answer, Unix seconds.
    """

    ids: tuple[str, ...]
    row: IntArray
    at: TimeArray

    def take(self, index: NDArray[np.intp]) -> Asked:
        """Return the rows at an index."""
        return Asked(tuple(self.ids[i] for i in index), self.row[index], self.at[index])


class Reading:
    """The predictions of one model and their labels, as any process may read them.

    Args:
        root: The model's folder of the state; created if missing.
        read_only: Whether nothing may be written, and the directory has to be there.

    Raises:
        StoreError: The directory cannot be used, or a newer release wrote it.
    """

    def __init__(self, root: Where, *, read_only: bool = False) -> None:
        self._root = open_root(root, create=not read_only)
        self._predictions = Table(self._root / "tables" / "predictions", indexed=("seq", "row"))
        self._labels = Table(self._root / "tables" / "labels")
        self._shapes: dict[str, list[int]] = {}  # of one row; fixed by the first append

    def predictions(
        self, since_row: int = 0, until_row: int | None = None, as_of: int | None = None
    ) -> Predictions:
        """Return predictions in the order of their rows.

        Args:
            since_row: First row.
            until_row: Row after the last one, None for all.
            as_of: Last commit to read, None for the newest.

        Raises:
            StoreError: The table is damaged.
        """
        where = (ds.field("row") >= since_row) & until(as_of)
        if until_row is not None:
            where &= ds.field("row") < until_row
        return self._to_predictions(self._predictions.read(where))

    def asked(self, rows: range, as_of: int | None = None) -> Asked:
        """Return who asked in a range of rows, which takes little memory however large an input is.

        Raises:
            StoreError: The table is damaged.
        """
        where = (ds.field("row") >= rows.start) & (ds.field("row") < rows.stop) & until(as_of)
        found = self._predictions.read(where, columns=["id", "row", "at"])
        if found is None:
            return Asked((), np.empty(0, np.int64), np.empty(0))
        order = np.argsort(column(found, "row"), kind="stable")
        return Asked(ids_of(found, order), column(found, "row")[order], column(found, "at")[order])

    def fetch(self, rows: Asked, as_of: int | None = None) -> Predictions:
        """Return what the model saw in rows, and read no more at a time than pieces of the table.

        Args:
            rows: The rows.
            as_of: Last commit to read, None for the newest.

        Raises:
            StoreError: The table is damaged, or a row is not there any more.
        """
        shapes, n = self._known_shapes(), len(rows.row)
        version = np.empty(n, np.int64)
        found = {v: np.empty((n, *shapes.get(v, [0])), np.float32) for v in VECTORS}
        left = n
        with explained("fetch rows", self._root):
            for piece in self._pieces(rows.row, as_of):
                place = np.searchsorted(rows.row, column(piece, "row"))
                version[place] = column(piece, "version")
                for name, values in found.items():
                    values[place] = vectors(piece, name, shapes[name])
                left -= len(piece)
        if left:
            raise StoreError(f"{self._root} does not hold {left} of {n} rows any more")
        x, embedding, output = (found[name] for name in VECTORS)
        return Predictions(rows.ids, rows.row, rows.at, version, x, embedding, output)

    def _pieces(self, rows: IntArray, as_of: int | None) -> Iterator[pa.Table]:
        stored = self._predictions.dataset()
        if stored is None or not len(rows):
            return
        where = (ds.field("row") >= rows[0]) & (ds.field("row") <= rows[-1]) & until(as_of)
        where &= ds.field("row").isin(pa.array(rows))
        names = ["row", "version", *VECTORS]
        scanner = stored.scanner(names, filter=where, batch_readahead=2, fragment_readahead=1)
        for batch in scanner.to_batches():
            if len(batch):
                yield pa.Table.from_batches([batch])

    def newest_row_of(self, ids: Sequence[str], as_of: int | None = None) -> int | None:
        """Return the newest row with one of these inference ids, None if there is none.

        Raises:
            StoreError: The table is damaged.
        """
        if not ids:
            return None
        found = self._predictions.read(_one_of(ids) & until(as_of), columns=["row"])
        return int(pc.max(found["row"]).as_py()) if found is not None and len(found) else None

    def look_up(self, ids: Sequence[str]) -> Iterator[Found]:
        """Yield the predictions with these ids, each given once; StoreError if that is damaged."""
        with explained("look up predictions", self._root):
            stored = self._predictions.dataset()
            if stored is not None:
                yield from look_up(stored, ids)

    def commit_of(self, row: int) -> int:
        """Return the commit that stored a row, 0 if the table does not have it.

        Raises:
            StoreError: The table is damaged.
        """
        found = self._predictions.read(ds.field("row") == row, columns=["seq"])
        return int(found["seq"][0].as_py()) if found is not None and len(found) else 0

    def labels(
        self, since_seq: int = 0, as_of: int | None = None, of: Sequence[str] | None = None
    ) -> Labels:
        """Return labels in order of arrival.

        Args:
            since_seq: First commit to read.
            as_of: Last commit to read, None for the newest.
            of: Inference ids that they are for, None for any.

        Raises:
            StoreError: The table is damaged.
        """
        where = (ds.field("seq") >= since_seq) & until(as_of)
        if of is not None:
            where &= _one_of(of)
        return to_labels(self._labels.read(where))

    def newest_labels(self, n: int, as_of: int | None = None) -> Labels:
        """Return the newest ``n`` labels in order of arrival, or all that there are.

        Raises:
            StoreError: The table is damaged.
        """
        last = self._labels.version() if as_of is None else as_of
        commits = _NEWEST_COMMITS
        while True:
            found = self.labels(last - commits + 1, as_of)
            if len(found) >= n or commits > last:
                return Labels(found.ids[-n:], found.label[-n:], found.at[-n:])
            commits *= 8

    def _known_shapes(self) -> dict[str, list[int]]:
        self._shapes = self._shapes or _stored_shapes(self._predictions)
        return self._shapes

    def _to_predictions(self, table: pa.Table | None) -> Predictions:
        if table is None:
            return no_predictions()
        order = np.argsort(column(table, "row"), kind="stable")
        shapes = self._known_shapes()
        found: dict[str, Any] = {name: vectors(table, name, shapes[name]) for name in VECTORS}
        found |= {name: column(table, name) for name in ("row", "at", "version")}
        found |= {name: targets(table, name) for name in ("answered", "former")}
        found[BESIDE] = later_column(table, BESIDE)
        return Predictions(ids_of(table, order), **{name: v[order] for name, v in found.items()})


def _one_of(ids: Sequence[str]) -> ds.Expression:
    if not len(ids):
        return ds.scalar(False)
    where: ds.Expression = ds.field("id").isin(pa.array(ids, pa.string()))
    return (
        where & (ds.field("id") >= min(ids)) & (ds.field("id") <= max(ids))
    )  # what to read at all


def _stored_shapes(predictions: Table) -> dict[str, list[int]]:
    fields = predictions.fields()
    return {name: json.loads(fields[name][SHAPE]) for name in VECTORS if fields}
