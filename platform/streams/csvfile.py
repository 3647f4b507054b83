"""Any labelled table as a stream: a file whose rows are in order of time."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from undrift.errors import ConfigError
from undrift.records import IntArray
from undrift.streams.columns import Features, class_names, features, label_texts
from undrift.streams.stream import UNKNOWN, Rows, Stream, fixed_lag
from undrift.streams.tablefile import label_column, read_table

MIN_ROWS = 500
MAX_CLASSES = 1000
MAX_CATEGORIES = 20
CLIP_STD = 10.0


def csv_stream(path: Path, label: str | None = None, lag: int = 200, seed: int = 0) -> Stream:
    """Read a labelled table as a stream, in any format that `read_table` knows.

    The first fifth of the rows trains the first model, a fifth of that held out in blocks as its
    reference; the rest is streamed. Everything fitted to the data is fitted to the first fifth.

    Args:
        path: The file; a line of column names is recognised.
        label: Name or number (from 0; -1 is the last) of the label's column. Without column
            names it may be left out and is then the last.
        lag: Rows between a prediction and its label.
        seed: Seed of the hold-out.

    Raises:
        ConfigError: The file or its label cannot be used; the text says why.
    """
    file = read_table(path, label)
    table, column = file.table, label_column(file, label)
    if table.num_rows < MIN_ROWS:
        raise ConfigError(f"{path}: {table.num_rows} rows are too few; at least {MIN_ROWS}")
    names, y = _classes(table[column], column, path)
    first = table.num_rows // 5
    found = features(table.drop_columns([column]))
    x, feature_names, notes = _matrix(found, first, path)

    trained_on, held_out = _split(y[:first], seed)
    if len(np.unique(y[trained_on])) < 2:
        raise ConfigError(
            f"{path}: the first fifth, {first} rows, has only one class of {column!r}; are the "
            "rows sorted by label? They must be in order of time"
        )
    absent = len(names) - len(np.unique(y[trained_on]))
    if absent:
        notes.append(f"{absent} of {len(names)} classes do not occur in the first fifth.")
    return Stream(
        name=_model_name(path),
        title=path.name,
        task=f"Predict {column!r}, one of {len(names)} classes, from {x.shape[1]} features.",
        input_shape=(x.shape[1],),
        class_names=names,
        train=Rows(x[trained_on], y[trained_on]),
        reference=Rows(x[held_out], y[held_out]),
        live=Rows(x[first:], y[first:]),
        label_at=fixed_lag(y[first:], lag),
        rows_before=first,
        reference_row=held_out,
        features=feature_names,
        notes=(
            f"The first fifth, {first:,} rows, trains and calibrates the first model; the other "
            f"{len(y) - first:,} are streamed.",
            f"Each label arrives {lag} rows after its prediction.",
            *file.notes,
            *found.notes,
            *notes,
        ),
    )


def _model_name(path: Path) -> str:
    """Return the name of the file as one that can stand in a URL."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", path.name.split(".")[0]).strip("-._")[:64] or "table"


def _classes(values: pa.ChunkedArray, column: str, path: Path) -> tuple[tuple[str, ...], IntArray]:
    """Return the class names, in order of their values, and (n,) class indices."""
    labels = label_texts(values)
    names = class_names(labels)
    if len(names) > MAX_CLASSES:
        raise ConfigError(
            f"{path}: column {column!r} has {len(names)} different values, more than "
            f"{MAX_CLASSES}; a label must be a class, not a quantity"
        )
    if len(names) < 2:
        raise ConfigError(f"{path}: column {column!r} has {len(names)} classes; at least 2")
    index = pc.fill_null(pc.index_in(labels, value_set=pa.array(names)), UNKNOWN)
    return tuple(names), np.asarray(index.to_numpy(), dtype=np.int64)


def _split(y: IntArray, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Split labelled rows into four fifths and one fifth, by blocks: neighbours are alike."""
    blocks = np.array_split(np.flatnonzero(y != UNKNOWN), 50)
    order = np.random.default_rng(seed).permutation(50)
    held_out = np.sort(np.concatenate([blocks[i] for i in order[:10]]))
    trained_on = np.sort(np.concatenate([blocks[i] for i in order[10:]]))
    return trained_on, held_out


def _matrix(
    found: Features, first: int, path: Path
) -> tuple[NDArray[np.float32], tuple[str, ...], list[str]]:
    """Return (n, d) features fitted to the first rows, their names, and what was done."""
    parts: list[NDArray[np.float64]] = []
    names: list[str] = []
    unused = list(found.unused)
    imputed = 0
    for name, column in found.columns.items():
        if pa.types.is_string(column.type):
            coded = _one_hot(column, first)
            if coded is None:
                unused.append(name)
                continue
            parts.append(coded[0])
            names += [f"{name}={value}" for value in coded[1]]
        else:
            values, gaps = _standardised(column, first)
            imputed += gaps
            parts.append(values[:, None])
            names.append(name)
    if not parts:
        raise ConfigError(
            f"{path}: no column can be used as a feature: besides the label there are only texts "
            "with hundreds of values, dates, ids, row numbers or empty columns "
            f"({', '.join(unused[:10])})"
        )
    notes = []
    if imputed:
        notes.append(f"{imputed:,} missing numbers were replaced by the median of their column.")
    if unused:
        notes.append(f"Not used, free text or dates: {', '.join(unused)}.")
    return np.concatenate(parts, axis=1).astype(np.float32), tuple(names), notes


def _standardised(column: pa.Array, first: int) -> tuple[NDArray[np.float64], int]:
    """Return (n,) values less mean by standard deviation of the first rows, and the gaps filled."""
    values = np.asarray(column.to_numpy(zero_copy_only=False), np.float64)
    gaps = ~np.isfinite(values)
    known = values[:first][~gaps[:first]]
    values = np.where(gaps, np.median(known) if len(known) else 0.0, values)
    std = float(values[:first].std())
    values = (values - values[:first].mean()) / (std if std > 1e-12 else 1.0)
    return np.clip(values, -CLIP_STD, CLIP_STD), int(gaps.sum())


def _one_hot(column: pa.Array, first: int) -> tuple[NDArray[np.float64], list[str]] | None:
    """Return one column per frequent value, and the values; None for free text.

    Other values are all zero.
    """
    counts = pc.value_counts(column.slice(0, first).drop_null()).to_pylist()
    if not counts or len(counts) > max(MAX_CATEGORIES, first // 10):
        return None
    counts.sort(key=lambda c: (-c["counts"], c["values"]))
    kept = pa.array([c["values"] for c in counts[:MAX_CATEGORIES]])
    index = pc.fill_null(pc.index_in(column, value_set=kept), len(kept)).to_numpy()
    return np.eye(len(kept) + 1, len(kept))[np.asarray(index, dtype=np.intp)], kept.to_pylist()
