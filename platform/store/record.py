"""What a model was asked and what turned out true: two tables of numbered commits."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from undrift.errors import StoreError
from undrift.records import Labels, Predictions
from undrift.store.cold import Found, look_up
from undrift.store.columns import (
    BESIDE,
    NTH,
    SHAPE,
    column,
    commit_table,
    cut,
    ends,
    ids_of,
    later_column,
    no_predictions,
    target_column,
    targets,
    to_labels,
    until,
    vector_column,
    vectors,
)
from undrift.store.files import explained
from undrift.store.place import Where
from undrift.store.root import mark_dropped, open_root
from undrift.store.tables import Table

_VECTORS = ("x", "embedding", "output")
_COMMITS_AT_ONCE = 256


class Record:
    """The predictions of one model and their labels.

    One process appends; any process may read or compact.

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

    def append_predictions(self, seq: int, rows: Predictions, *, ours: bool = False) -> int:
        """Commit the predictions of number ``seq``; a repeated or empty append changes nothing.

        Args:
            seq: Number of the commit, at least 0 and growing.
            rows: Numbered rows.
            ours: Whether a number that is taken is an error: what was given up may still land in a
                bucket, and these rows would be lost in its place.

        Returns:
            The last commit that the table includes.

        Raises:
            StoreError: The disk refuses, or the shapes are not those of the stored rows; the number
                is taken, with ``ours``.
        """
        self._check_shapes(rows)
        columns: dict[str, tuple[pa.Field, pa.Array]] = {}
        for name in ("row", "at", "version"):
            array = pa.array(getattr(rows, name))
            columns[name] = pa.field(name, array.type), array
        for name in _VECTORS:
            columns[name] = vector_column(name, getattr(rows, name))
        told = {"answered": rows.answers, "former": rows.formers, BESIDE: rows.asked}
        columns |= {name: target_column(name, found) for name, found in told.items()}
        return self._appended(self._predictions, seq, commit_table(seq, rows.ids, columns), ours)

    def mend(self) -> list[Path]:
        """Set aside what a power cut left unfinished, as `Table.mend`; for the writer only."""
        return self._predictions.mend() + self._labels.mend()

    @property
    def trouble(self) -> str:
        """Why a table could not be compacted last time; empty if all is well."""
        return self._predictions.trouble or self._labels.trouble

    def append_labels(self, seq: int, rows: Labels, *, ours: bool = False) -> int:
        """Commit the labels of number ``seq``; otherwise as `append_predictions`."""
        at = pa.array(rows.at)
        nth = pa.array(range(len(rows)), pa.int64())  # a compaction may shuffle one append's rows
        columns = {
            "label": target_column("label", rows.label),
            "at": (pa.field("at", at.type), at),
            NTH: (pa.field(NTH, nth.type), nth),
        }
        return self._appended(self._labels, seq, commit_table(seq, rows.ids, columns), ours)

    def _appended(self, table: Table, seq: int, rows: pa.Table, ours: bool) -> int:
        found = table.append(seq, rows)
        if ours and len(rows) and not found.ours:
            raise StoreError(
                f"commit {seq} is in {self._root} already: given up, it was stored after all"
            )
        return found.version

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

    def newest_row_of(self, ids: Sequence[str], as_of: int | None = None) -> int | None:
        """Return the newest row with one of these inference ids, None if there is none.

        Raises:
            StoreError: The table is damaged.
        """
        if not ids:
            return None
        where = ds.field("id").isin(pa.array(ids, pa.string())) & until(as_of)
        where &= (ds.field("id") >= min(ids)) & (ds.field("id") <= max(ids))  # what to read at all
        found = self._predictions.read(where, columns=["row"])
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

    def labels(self, since_seq: int = 0, as_of: int | None = None) -> Labels:
        """Return labels in order of arrival.

        Args:
            since_seq: First commit to read.
            as_of: Last commit to read, None for the newest.

        Raises:
            StoreError: The table is damaged.
        """
        return to_labels(self._labels.read((ds.field("seq") >= since_seq) & until(as_of)))

    def newest_labels(self, n: int, as_of: int | None = None) -> Labels:
        """Return the newest ``n`` labels in order of arrival, or all that there are.

        Raises:
            StoreError: The table is damaged.
        """
        last = self._labels.version() if as_of is None else as_of
        commits = _COMMITS_AT_ONCE
        while True:
            found = self.labels(last - commits + 1, as_of)
            if len(found) >= n or commits > last:
                return Labels(found.ids[-n:], found.label[-n:], found.at[-n:])
            commits *= 8

    def commits(self, after_seq: int) -> Iterator[tuple[int, Predictions | None, Labels | None]]:
        """Yield the commits after ``after_seq`` in order, to replay what was committed.

        Which there are is read before the first is asked for. The two halves of a commit are
        two transactions, so the last one before a crash may have only one of them.

        Raises:
            StoreError: A table is damaged.
        """
        tables = (self._predictions, self._labels)
        found = [t.read(ds.field("seq") > after_seq, columns=["seq"]) for t in tables]
        seqs = {seq for t in found if t is not None for seq in t["seq"].unique().to_pylist()}
        return self._read_commits(sorted(seqs))

    def _read_commits(
        self, seqs: list[int]
    ) -> Iterator[tuple[int, Predictions | None, Labels | None]]:
        tables = (self._predictions, self._labels)
        for start in range(0, len(seqs), _COMMITS_AT_ONCE):
            chunk = seqs[start : start + _COMMITS_AT_ONCE]
            inside = (ds.field("seq") >= chunk[0]) & (ds.field("seq") <= chunk[-1])
            predictions, labels = (t.read(inside) for t in tables)
            rows, row_ends = self._to_predictions(predictions), ends(predictions, chunk)
            told, label_ends = to_labels(labels), ends(labels, chunk)
            for seq, row, label in zip(chunk, row_ends, label_ends, strict=True):
                yield seq, cut(rows, *row), cut(told, *label)

    def as_of(self) -> dict[str, int]:
        """Return the last commit that each table includes, -1 for none."""
        return {"predictions": self._predictions.version(), "labels": self._labels.version()}

    def compact(self) -> None:
        """Join small files of the tables; appends also do so now and then.

        Joined files stay for an hour, for readers that still use them. Every version of a table
        stays readable for as long as its rows are kept.

        Raises:
            StoreError: The disk refuses.
        """
        self._predictions.compact()
        self._labels.compact()

    def first_row(self) -> int | None:
        """Return the first row that is kept, None if there is none.

        Raises:
            StoreError: The table is damaged.
        """
        return self._predictions.lowest("row")

    def begun(self) -> int | None:
        """Return when the first row that is kept was answered, Unix seconds; None without rows.

        Raises:
            StoreError: The table is damaged.
        """
        first = self.first_row()
        found = None if first is None else self.predictions(first, first + 1)
        return int(found.at[0]) if found is not None and len(found) else None

    def size(self, after_seq: int = -1) -> int:
        """Return the bytes that predictions and labels after a commit take.

        Raises:
            StoreError: A table is damaged.
        """
        return self._predictions.size(after_seq) + self._labels.size(after_seq)

    def drop_before(self, seq: int) -> None:
        """Drop predictions and labels of commits before one, as `Table.drop_before`.

        No label goes before its prediction: while the first row is there, all is.

        Raises:
            StoreError: The disk refuses.
        """
        mark_dropped(self._root, self._predictions.lowest("seq"), seq)
        self._labels.drop_before(self._predictions.drop_before(seq))

    def _known_shapes(self) -> dict[str, list[int]]:
        self._shapes = self._shapes or _stored_shapes(self._predictions)
        return self._shapes

    def _check_shapes(self, rows: Predictions) -> None:
        for name, stored in self._known_shapes().items():
            shape = list(getattr(rows, name).shape[1:])
            if shape != stored:
                raise StoreError(
                    f"{self._root} holds predictions with {name} of shape {stored}, not {shape}; "
                    "use another state directory for another model"
                )

    def _to_predictions(self, table: pa.Table | None) -> Predictions:
        if table is None:
            return no_predictions()
        order = np.argsort(column(table, "row"), kind="stable")
        shapes = self._known_shapes()
        found: dict[str, Any] = {name: vectors(table, name, shapes[name]) for name in _VECTORS}
        found |= {name: column(table, name) for name in ("row", "at", "version")}
        found |= {name: targets(table, name) for name in ("answered", "former")}
        found[BESIDE] = later_column(table, BESIDE)
        return Predictions(ids_of(table, order), **{name: v[order] for name, v in found.items()})


def _stored_shapes(predictions: Table) -> dict[str, list[int]]:
    fields = predictions.fields()
    return {name: json.loads(fields[name][SHAPE]) for name in _VECTORS if fields}
