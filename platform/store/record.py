"""What a model was asked and what turned out true: two tables of numbered commits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds

from undrift.errors import StoreError
from undrift.records import Labels, Predictions
from undrift.store.columns import (
    BESIDE,
    NTH,
    commit_table,
    cut,
    ends,
    target_column,
    to_labels,
    vector_column,
)
from undrift.store.reading import COMMITS_AT_ONCE, VECTORS, Reading
from undrift.store.root import mark_dropped
from undrift.store.tables import Table


class Record(Reading):
    """The predictions of one model and their labels.

    One process appends; any process may read or compact.

    Args:
        root: The model's folder of the state; created if missing.
        read_only: Whether nothing may be written, and the directory has to be there.

    Raises:
        StoreError: The directory cannot be used, or a newer release wrote it.
    """

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
        for name in VECTORS:
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
        for start in range(0, len(seqs), COMMITS_AT_ONCE):
            chunk = seqs[start : start + COMMITS_AT_ONCE]
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

    def _check_shapes(self, rows: Predictions) -> None:
        for name, stored in self._known_shapes().items():
            shape = list(getattr(rows, name).shape[1:])
            if shape != stored:
                raise StoreError(
                    f"{self._root} holds predictions with {name} of shape {stored}, not {shape}; "
                    "use another state directory for another model"
                )
