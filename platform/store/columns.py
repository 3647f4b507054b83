"""Rows of predictions and labels as Arrow columns, and back."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray

from undrift.records import FloatArray, Labels, Predictions, TargetArray

SHAPE = "shape"
"""Metadata of a column of vectors: the shape of one, in JSON."""

NTH = "nth"
"""Column of the place of a label within its commit; older commits lack it."""

BESIDE = "beside"
"""Column of the version that was asked beside the one that answered; older commits lack it."""

Batch = TypeVar("Batch", Predictions, Labels)


def no_predictions() -> Predictions:
    """Return no rows."""
    none = np.empty((0, 0), dtype=np.float32)
    ints, floats = np.empty(0, dtype=np.int64), np.empty(0)
    return Predictions((), ints, floats, ints, none, none, none)


def commit_table(
    seq: int, ids: tuple[str, ...], columns: dict[str, tuple[pa.Field, pa.Array]]
) -> pa.Table:
    """Return what commit ``seq`` appends: number and ids beside ``columns``."""
    head = [pa.field("seq", pa.int64()), pa.field("id", pa.string())]
    arrays = [pa.array(np.full(len(ids), seq, dtype=np.int64)), pa.array(ids, pa.string())]
    schema = pa.schema(head + [field for field, _ in columns.values()])
    return pa.Table.from_arrays(arrays + [array for _, array in columns.values()], schema=schema)


def until(seq: int | None) -> ds.Expression:
    """Return what selects commits up to ``seq``, or all."""
    return ds.scalar(True) if seq is None else ds.field("seq") <= seq


def vector_column(name: str, values: FloatArray) -> tuple[pa.Field, pa.Array]:
    """Return field and column of (n, *shape) values; the field knows the shape."""
    n, *shape = values.shape
    offsets = np.arange(n + 1, dtype=np.int32) * int(np.prod(shape, dtype=np.int64))
    flat = np.ascontiguousarray(values, dtype=np.float32).reshape(-1)
    array = pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat))
    return pa.field(name, array.type, metadata={SHAPE: json.dumps(shape)}), array


def vectors(table: pa.Table, name: str, shape: list[int]) -> FloatArray:
    """Return the (n, *shape) values of such a column."""
    chunks = [chunk.flatten().to_numpy() for chunk in table[name].chunks]
    flat: FloatArray = np.concatenate(chunks) if chunks else np.empty(0, dtype=np.float32)
    return flat.reshape(len(table), *shape)


def target_column(name: str, values: TargetArray) -> tuple[pa.Field, pa.Array]:
    """Return field and column of (n,) classes or numbers, or of (n, c) numbers."""
    if values.ndim > 1:
        return vector_column(name, values)
    array = pa.array(values)
    return pa.field(name, array.type), array


def targets(table: pa.Table, name: str) -> TargetArray:
    """Return the (n,) or (n, c) values of such a column."""
    if pa.types.is_primitive(table.schema.field(name).type):
        return column(table, name)
    return vectors(table, name, [-1]) if len(table) else np.empty((0, 0), dtype=np.float32)


def column(table: pa.Table, name: str) -> NDArray[Any]:
    """Return the (n,) values of a column."""
    values: NDArray[Any] = table[name].to_numpy()
    return values


def later_column(table: pa.Table, name: str) -> NDArray[np.int64]:
    """Return the (n,) whole numbers of a column that older commits lack; 0 there."""
    found = table[name] if name in table.column_names else pa.nulls(len(table), pa.int64())
    values: NDArray[np.int64] = pc.fill_null(found, 0).to_numpy(zero_copy_only=False)
    return values


def ids_of(table: pa.Table, order: NDArray[np.intp]) -> tuple[str, ...]:
    """Return the ids in an order."""
    return tuple(table["id"].to_numpy()[order].tolist())


def to_labels(table: pa.Table | None) -> Labels:
    """Return labels in order of arrival."""
    if table is None:
        return Labels((), np.empty(0, dtype=np.int64), np.empty(0))
    order = np.lexsort((later_column(table, NTH), column(table, "seq")))
    return Labels(ids_of(table, order), targets(table, "label")[order], column(table, "at")[order])


def cut(rows: Batch, begin: int, end: int) -> Batch | None:
    """Return the rows from ``begin`` to ``end``, None if there are none."""
    if begin == end:
        return None

    def part(values: Any) -> Any:
        return None if values is None else values[begin:end]

    return type(rows)(*(part(getattr(rows, field.name)) for field in fields(rows)))


def ends(table: pa.Table | None, seqs: list[int]) -> list[tuple[int, int]]:
    """Return where the rows of each commit begin and end, once they are in order."""
    if table is None:
        return [(0, 0)] * len(seqs)
    found = np.sort(column(table, "seq"))
    sides = (np.searchsorted(found, seqs, side=side).tolist() for side in ("left", "right"))
    return list(zip(*sides, strict=True))
