"""The folder of one model in the state: predictions, labels, versions, the monitor's checkpoint.

<root>/store.json                 format number
<root>/tables/predictions|labels  Delta Lake, see `tables`; `journal` adds events
<root>/versions/<n>/              see `versions`
<root>/blobs/<name>.npz           checkpoints
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray

from undrift.errors import StoreError
from undrift.records import FloatArray, Labels, Predictions, Reference
from undrift.store.files import open_root
from undrift.store.tables import Table
from undrift.store.versions import Manifest, Versions

if TYPE_CHECKING:
    import torch

__all__ = ["Manifest", "Store"]

_VECTORS = ("x", "embedding", "output")
_SHAPE = "shape"
_COMMITS_AT_ONCE = 256

Batch = TypeVar("Batch", Predictions, Labels)


class Store:
    """Durable state of one model.

    One process appends to the tables; any process may read, add versions, or compact.

    Args:
        root: The model's folder of the state; created if missing.
        read_only: Whether nothing may be written, and the directory has to be there.

    Raises:
        StoreError: The directory cannot be used, or a newer release wrote it.
    """

    def __init__(self, root: str | Path, *, read_only: bool = False) -> None:
        self._root = open_root(root, create=not read_only)
        self._predictions = Table(self._root / "tables" / "predictions", indexed=("seq", "row"))
        self._labels = Table(self._root / "tables" / "labels")
        self._versions = Versions(self._root / "versions", read_only=read_only)
        self._shapes: dict[str, list[int]] = {}  # of one row; fixed by the first append

    def append_predictions(self, seq: int, rows: Predictions) -> int:
        """Commit the predictions of number ``seq``; a repeated or empty append changes nothing.

        Args:
            seq: Number of the commit, at least 0 and growing.
            rows: Numbered rows.

        Returns:
            The last commit that the table includes.

        Raises:
            StoreError: The disk refuses, or the shapes are not those of the stored rows.
        """
        self._check_shapes(rows)
        columns: dict[str, tuple[pa.Field, pa.Array]] = {}
        for name in ("row", "at", "version"):
            array = pa.array(getattr(rows, name))
            columns[name] = pa.field(name, array.type), array
        for name in _VECTORS:
            columns[name] = _to_lists(name, getattr(rows, name))
        for name, classes in (("answered", rows.answers), ("former", rows.formers)):
            array = pa.array(classes, pa.int64())
            columns[name] = pa.field(name, array.type), array
        return self._predictions.append(seq, _tick(seq, rows.ids, columns))

    def mend(self) -> list[Path]:
        """Set aside what a power cut left unfinished, as `Table.mend`; for the writer only."""
        return self._predictions.mend() + self._labels.mend()

    @property
    def trouble(self) -> str:
        """Why a table could not be compacted last time; empty if all is well."""
        return self._predictions.trouble or self._labels.trouble

    def append_labels(self, seq: int, rows: Labels) -> int:
        """Commit the labels of number ``seq``; otherwise as `append_predictions`."""
        label, at = pa.array(rows.label), pa.array(rows.at)
        columns = {
            "label": (pa.field("label", label.type), label),
            "at": (pa.field("at", at.type), at),
        }
        return self._labels.append(seq, _tick(seq, rows.ids, columns))

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
        where = ds.field("row") >= since_row
        if until_row is not None:
            where &= ds.field("row") < until_row
        return self._to_predictions(self._predictions.read(where & _until(as_of)))

    def newest_row_of(self, ids: Sequence[str], as_of: int | None = None) -> int | None:
        """Return the newest row with one of these inference ids, None if there is none.

        Raises:
            StoreError: The table is damaged.
        """
        where = ds.field("id").isin(pa.array(ids, pa.string())) & _until(as_of)
        found = self._predictions.read(where, columns=["row"])
        return int(pc.max(found["row"]).as_py()) if found is not None and len(found) else None

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
        return _to_labels(self._labels.read((ds.field("seq") >= since_seq) & _until(as_of)))

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
            rows, row_ends = self._to_predictions(predictions), _ends(predictions, chunk)
            told, label_ends = _to_labels(labels), _ends(labels, chunk)
            for seq, row, label in zip(chunk, row_ends, label_ends, strict=True):
                yield seq, _part(rows, *row), _part(told, *label)

    def as_of(self) -> dict[str, int]:
        """Return the last commit that each table includes, -1 for none."""
        return {"predictions": self._predictions.version(), "labels": self._labels.version()}

    def compact(self) -> None:
        """Join small files of the tables; appends also do so now and then.

        Joined files stay for a day, for readers that still use them. Every version of a table
        stays readable for good.

        Raises:
            StoreError: The disk refuses.
        """
        self._predictions.compact()
        self._labels.compact()

    def add_version(
        self,
        state_dict: Mapping[str, torch.Tensor],
        *,
        parent: int | None,
        reference: Reference,
        metrics: dict[str, Any],
        plan: dict[str, Any] | None,
        run_id: str = "",
        choices: Mapping[str, NDArray[Any]] | None = None,
    ) -> Manifest:
        """Store a model version: all of it, or after a crash nothing.

        Args:
            state_dict: The weights.
            parent: Version that it was trained from.
            reference: Its reference sample.
            metrics: Plain JSON values.
            plan: Retraining plan as plain JSON values. Its ``as_of``, else the present
                ones, become the manifest's ``tables``.
            run_id: Run that made it; a second call for the same run returns the first manifest.
            choices: What the bandits of that run chose, by column.

        Raises:
            StoreError: The disk refuses, or a stored manifest is damaged.
        """
        draft = Manifest(
            version=0,
            hash="",
            parent=parent,
            created_at=time.time(),
            run_id=run_id,
            metrics=metrics,
            plan=plan,
            tables=(plan or {}).get("as_of") or self.as_of(),
        )
        return self._versions.add(state_dict, reference, draft, choices)

    def versions(self) -> list[Manifest]:
        """Return the manifests of all model versions, oldest first."""
        return self._versions.all()

    def version_numbers(self) -> list[int]:
        """Return the numbers of all model versions, ascending."""
        return self._versions.numbers()

    def manifest(self, version: int) -> Manifest:
        """Return the manifest of a model version.

        Raises:
            StoreError: There is no such version, or it is damaged.
        """
        return self._versions.manifest(version)

    def state_dict(self, version: int) -> dict[str, torch.Tensor]:
        """Return the weights of a model version on the CPU, their hash verified.

        Raises:
            StoreError: There is no such version, or it is damaged.
        """
        return self._versions.state_dict(version)

    def bandit_log(self, version: int) -> dict[str, NDArray[Any]] | None:
        """Return what the bandits chose for a model version, by column; None if nothing was kept.

        Raises:
            StoreError: There is no such version, or the file is damaged.
        """
        return self._versions.bandit_log(version)

    def weights_path(self, version: int) -> Path:
        """Return the path of the weights of a model version, their hash verified.

        Raises:
            StoreError: There is no such version, or it is damaged.
        """
        return self._versions.weights_path(version)

    def reference(self, version: int) -> Reference:
        """Return the reference sample of a model version.

        Raises:
            StoreError: There is no such version, or it is damaged.
        """
        return self._versions.reference(version)

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
            return _no_predictions()
        order = np.argsort(_numpy(table, "row"), kind="stable")
        shapes = self._known_shapes()
        found: dict[str, Any] = {name: _from_lists(table, name, shapes[name]) for name in _VECTORS}
        numbers = ("row", "at", "version", "answered", "former")
        found |= {name: _numpy(table, name) for name in numbers}
        return Predictions(_ids(table, order), **{name: v[order] for name, v in found.items()})


def _stored_shapes(predictions: Table) -> dict[str, list[int]]:
    fields = predictions.fields()
    return {name: json.loads(fields[name][_SHAPE]) for name in _VECTORS if fields}


def _no_predictions() -> Predictions:
    none = np.empty((0, 0), dtype=np.float32)
    ints, floats = np.empty(0, dtype=np.int64), np.empty(0)
    return Predictions((), ints, floats, ints, none, none, none)


def _tick(
    seq: int, ids: tuple[str, ...], columns: dict[str, tuple[pa.Field, pa.Array]]
) -> pa.Table:
    head = [pa.field("seq", pa.int64()), pa.field("id", pa.string())]
    arrays = [pa.array(np.full(len(ids), seq, dtype=np.int64)), pa.array(ids, pa.string())]
    schema = pa.schema(head + [field for field, _ in columns.values()])
    return pa.Table.from_arrays(arrays + [array for _, array in columns.values()], schema=schema)


def _until(version: int | None) -> ds.Expression:
    return ds.scalar(True) if version is None else ds.field("seq") <= version


def _to_lists(name: str, values: FloatArray) -> tuple[pa.Field, pa.Array]:
    n, *shape = values.shape
    offsets = np.arange(n + 1, dtype=np.int32) * int(np.prod(shape, dtype=np.int64))
    flat = np.ascontiguousarray(values, dtype=np.float32).reshape(-1)
    array = pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat))
    return pa.field(name, array.type, metadata={_SHAPE: json.dumps(shape)}), array


def _from_lists(table: pa.Table, name: str, shape: list[int]) -> FloatArray:
    chunks = [chunk.flatten().to_numpy() for chunk in table[name].chunks]
    flat: FloatArray = np.concatenate(chunks) if chunks else np.empty(0, dtype=np.float32)
    return flat.reshape(len(table), *shape)


def _numpy(table: pa.Table, name: str) -> NDArray[Any]:
    values: NDArray[Any] = table[name].to_numpy()
    return values


def _ids(table: pa.Table, order: NDArray[np.intp]) -> tuple[str, ...]:
    return tuple(table["id"].to_numpy()[order].tolist())


def _to_labels(table: pa.Table | None) -> Labels:
    if table is None:
        return Labels((), np.empty(0, dtype=np.int64), np.empty(0))
    order = np.argsort(_numpy(table, "seq"), kind="stable")
    return Labels(_ids(table, order), _numpy(table, "label")[order], _numpy(table, "at")[order])


def _part(rows: Batch, begin: int, end: int) -> Batch | None:
    """Return the rows from ``begin`` to ``end``, None if there are none."""
    if begin == end:
        return None

    def part(column: Any) -> Any:
        return None if column is None else column[begin:end]

    return type(rows)(*(part(getattr(rows, field.name)) for field in fields(rows)))


def _ends(table: pa.Table | None, seqs: list[int]) -> list[tuple[int, int]]:
    """Return where the rows of each commit begin and end, once they are in order."""
    if table is None:
        return [(0, 0)] * len(seqs)
    found = np.sort(_numpy(table, "seq"))
    ends = (np.searchsorted(found, seqs, side=side).tolist() for side in ("left", "right"))
    return list(zip(*ends, strict=True))
