"""Any labelled table as a stream: a CSV file whose rows are in order of time."""

from __future__ import annotations

import gzip
import io
import lzma
import re
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from undrift.errors import ConfigError
from undrift.records import IntArray
from undrift.streams.stream import UNKNOWN, Rows, Stream, fixed_lag

MIN_ROWS = 500
MAX_CLASSES = 1000
MAX_CATEGORIES = 20
CLIP_STD = 10.0
MISSING = ["", "?", "NA", "N/A", "NaN", "nan", "null", "None"]


def csv_stream(path: Path, label: str | None = None, lag: int = 200, seed: int = 0) -> Stream:
    """Read a labelled CSV file, plain or as .gz or .xz, as a stream.

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
    table, named = read_table(path, label)
    column = label_column(table, label, named, path)
    if table.num_rows < MIN_ROWS:
        raise ConfigError(f"{path}: {table.num_rows} rows are too few; at least {MIN_ROWS}")
    class_names, y = _classes(table[column], column, path)
    first = table.num_rows // 5
    x, features, notes = _features(table.drop_columns([column]), first, path)

    trained_on, held_out = _split(y[:first], seed)
    if len(np.unique(y[trained_on])) < 2:
        raise ConfigError(
            f"{path}: the first fifth, {first} rows, has only one class of {column!r}; are the "
            "rows sorted by label? They must be in order of time"
        )
    absent = len(class_names) - len(np.unique(y[trained_on]))
    if absent:
        notes.append(f"{absent} of {len(class_names)} classes do not occur in the first fifth.")
    return Stream(
        name=_model_name(path),
        title=path.name,
        task=f"Predict {column!r}, one of {len(class_names)} classes, from {x.shape[1]} features.",
        input_shape=(x.shape[1],),
        class_names=class_names,
        train=Rows(x[trained_on], y[trained_on]),
        reference=Rows(x[held_out], y[held_out]),
        live=Rows(x[first:], y[first:]),
        label_at=fixed_lag(y[first:], lag),
        rows_before=first,
        reference_row=held_out,
        features=features,
        notes=(
            f"The first fifth, {first:,} rows, trains and calibrates the first model; the other "
            f"{len(y) - first:,} are streamed.",
            f"Each label arrives {lag} rows after its prediction.",
            *notes,
        ),
    )


def _model_name(path: Path) -> str:
    """Return the name of the file as one that can stand in a URL."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", path.name.split(".")[0]).strip("-._")[:64] or "table"


def read_table(path: Path, label: str | None) -> tuple[pa.Table, bool]:
    """Read a CSV file, plain or as .gz or .xz.

    Args:
        path: The file.
        label: Name or number of the label's column; a line with that name is one of names.

    Returns:
        The table, and whether the file names its columns.

    Raises:
        ConfigError: It cannot be read.
    """
    data = _bytes(path)
    lines = data.split(b"\n", 1)[0].decode("utf-8", errors="replace").strip("\r\ufeff ")
    delimiter = max(",;\t", key=lines.count)
    cells = [cell.strip().strip('"') for cell in lines.split(delimiter)]
    if len(cells) < 2:
        raise ConfigError(f"{path}: the first line has one column; expected comma-separated values")
    named = label in cells or (
        len(set(cells)) == len(cells) and all(c and not _is_number(c) for c in cells)
    )
    try:
        table = pacsv.read_csv(
            io.BytesIO(data),
            read_options=pacsv.ReadOptions(
                autogenerate_column_names=not named, block_size=len(data) + 1
            ),
            parse_options=pacsv.ParseOptions(delimiter=delimiter),
            convert_options=pacsv.ConvertOptions(null_values=MISSING, strings_can_be_null=True),
        )
    except pa.ArrowInvalid as error:
        raise ConfigError(f"{path}: not a CSV file that can be read: {error}") from error
    if len(set(table.column_names)) < table.num_columns:
        raise ConfigError(f"{path}: a column name occurs twice in {', '.join(table.column_names)}")
    if not named:
        table = table.rename_columns([f"column {i}" for i in range(table.num_columns)])
    return table, named


def _bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
        elif path.suffix == ".xz":
            data = lzma.decompress(data)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    if not data.strip():
        raise ConfigError(f"{path}: the file is empty")
    return data


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text in MISSING
    return True


def label_column(table: pa.Table, label: str | None, named: bool, path: Path) -> str:
    """Return the name of the label's column.

    Args:
        table: The table.
        label: Its name or number (from 0; -1 is the last); None: the last, if nothing is named.
        named: Whether the file names its columns.
        path: The file, for messages.

    Raises:
        ConfigError: There is no such column; the text lists them.
    """
    names: list[str] = table.column_names
    if label is None and not named:
        return names[-1]
    if label in names:
        return str(label)
    if label is not None and re.fullmatch(r"-?\d+", label):
        index = int(label)
        if -len(names) <= index < len(names):
            return names[index]
    listed = ", ".join(names[:30]) + (f" and {len(names) - 30} more" if len(names) > 30 else "")
    asked = "name the label's column" if label is None else f"there is no column {label!r}"
    raise ConfigError(f"{path}: {asked}; the columns are {listed}; or give its number from 0")


def _classes(values: pa.ChunkedArray, column: str, path: Path) -> tuple[tuple[str, ...], IntArray]:
    """Return the class names, in order of their values, and (n,) class indices."""
    distinct = pc.unique(values.drop_null())
    if len(distinct) > MAX_CLASSES:
        raise ConfigError(
            f"{path}: column {column!r} has {len(distinct)} different values, more than "
            f"{MAX_CLASSES}; a label must be a class, not a quantity"
        )
    if len(distinct) < 2:
        raise ConfigError(f"{path}: column {column!r} has {len(distinct)} classes; at least 2")
    distinct = distinct.take(pc.array_sort_indices(distinct))
    index = pc.fill_null(pc.index_in(values, value_set=distinct), UNKNOWN)
    names = [value.as_py() for value in distinct]
    whole = [int(v) if isinstance(v, float) and v.is_integer() else v for v in names]
    return tuple(str(v) for v in whole), np.asarray(index.to_numpy(), dtype=np.int64)


def _split(y: IntArray, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Split labelled rows into four fifths and one fifth, by blocks: neighbours are alike."""
    blocks = np.array_split(np.flatnonzero(y != UNKNOWN), 50)
    order = np.random.default_rng(seed).permutation(50)
    held_out = np.sort(np.concatenate([blocks[i] for i in order[:10]]))
    trained_on = np.sort(np.concatenate([blocks[i] for i in order[10:]]))
    return trained_on, held_out


def _features(
    table: pa.Table, first: int, path: Path
) -> tuple[NDArray[np.float32], tuple[str, ...], list[str]]:
    """Return (n, d) features fitted to the first rows, their names, and what was done."""
    parts: list[NDArray[np.float64]] = []
    names: list[str] = []
    dropped: list[str] = []
    imputed = 0
    for name in table.column_names:
        column = table[name].combine_chunks()
        if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
            values, gaps = _standardised(column, first)
            imputed += gaps
            parts.append(values[:, None])
            names.append(name)
        elif pa.types.is_boolean(column.type) or pa.types.is_string(column.type):
            coded = _one_hot(column, first)
            if coded is None:
                dropped.append(name)
                continue
            parts.append(coded[0])
            names += [f"{name}={value}" for value in coded[1]]
        else:
            dropped.append(name)
    if not parts:
        raise ConfigError(
            f"{path}: no column can be used as a feature: besides the label there are only texts "
            f"with hundreds of values, dates or empty columns ({', '.join(dropped[:10])})"
        )
    notes = []
    if imputed:
        notes.append(f"{imputed:,} missing numbers were replaced by the median of their column.")
    if dropped:
        notes.append(f"Not used, free text or dates: {', '.join(dropped)}.")
    return np.concatenate(parts, axis=1).astype(np.float32), tuple(names), notes


def _standardised(column: pa.Array, first: int) -> tuple[NDArray[np.float64], int]:
    """Return (n,) values less mean by standard deviation of the first rows, and the gaps filled."""
    values = np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)
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
    texts = column.cast(pa.string())
    counts = pc.value_counts(texts.slice(0, first).drop_null()).to_pylist()
    if not counts or len(counts) > max(MAX_CATEGORIES, first // 10):
        return None
    counts.sort(key=lambda c: (-c["counts"], c["values"]))
    kept = pa.array([c["values"] for c in counts[:MAX_CATEGORIES]])
    index = pc.fill_null(pc.index_in(texts, value_set=kept), len(kept)).to_numpy()
    return np.eye(len(kept) + 1, len(kept))[np.asarray(index, dtype=np.intp)], kept.to_pylist()
