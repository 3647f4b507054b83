"""Late labels from a file, a block at a time, whatever its size."""

from __future__ import annotations

import csv
import io
import math
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from undrift.errors import ConfigError
from undrift.streams.tablefile import dialect

BLOCK_BYTES, BLOCK_ROWS = 1 << 20, 50_000
_INDEX = re.compile(r"[0-9]+(\.0*)?")
PACKED = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}


@dataclass(frozen=True, slots=True)
class LabelBlock:
    """Rows of a file that have a label.

    Attributes:
        row: n rows of the file, from 1.
        ids: n inference ids.
        labels: n class names or indices, numbers, or lists of them; other text is left as it is.
        times: n times at which they became known, Unix seconds or ISO 8601; None: not told.
        read: Rows of the file up to the end of this block, with and without a label.
    """

    row: list[int]
    ids: list[str]
    labels: list[Any]
    times: list[float | str] | None
    read: int


def read_labels(
    path: Path,
    file: BinaryIO,
    columns: Sequence[str],
    class_names: Sequence[str],
    size: int = BLOCK_ROWS,
    targets: int = 0,
) -> Iterator[LabelBlock]:
    """Yield the labels of a file in order.

    Args:
        path: Its name; the ending tells Parquet from text, and whether text is compressed.
        file: The same, open.
        columns: Names of the columns of ids, of labels and, if there is one, of times.
        class_names: Names of the classes; a number that is no name is an index.
        size: Most rows to a block.
        targets: Columns that are numbers to be met, in place of that of classes; 0 for classes.

    Raises:
        ConfigError: It cannot be read, or lacks a column.
    """
    names, read, wide = frozenset(class_names), 0, max(targets, 1)
    for batch in _batches(path, file, columns):
        for start in range(0, len(batch), size):
            part = batch.slice(start, size)
            told = [
                part.column(1 + i).is_valid().to_numpy(zero_copy_only=False) for i in range(wide)
            ]
            rows = np.all(told, axis=0).nonzero()[0]
            kept = part.take(pa.array(rows))
            values = [kept.column(1 + i).to_pylist() for i in range(wide)]
            yield LabelBlock(
                row=[read + 1 + int(i) for i in rows],
                ids=["" if i is None else str(i) for i in kept.column(0).to_pylist()],
                labels=_numbers(values) if targets else [_label(v, names) for v in values[0]],
                times=_times(kept.column(1 + wide)) if len(columns) > 1 + wide else None,
                read=read + len(part),
            )
            read += len(part)


def _batches(path: Path, file: BinaryIO, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    try:
        if path.suffix in (".parquet", ".pq"):
            parquet = pq.ParquetFile(file)
            _check(parquet.schema_arrow.names, columns, path)
            for batch in parquet.iter_batches(BLOCK_ROWS, columns=list(columns)):
                yield batch.select(list(columns))
            return
        delimiter, quote, names, rows = _head(path)
        _check(names, columns, path)
        with pa.input_stream(pa.PythonFile(file, "r"), compression=PACKED.get(path.suffix)) as raw:
            yield from pacsv.open_csv(
                raw,
                pacsv.ReadOptions(block_size=BLOCK_BYTES, column_names=names, skip_rows=rows),
                pacsv.ParseOptions(delimiter=delimiter, quote_char=quote, newlines_in_values=True),
                pacsv.ConvertOptions(
                    include_columns=list(columns),
                    column_types=dict.fromkeys(columns, pa.string()),
                    null_values=[""],
                    strings_can_be_null=True,
                ),
            )
    except (pa.ArrowException, csv.Error, OSError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error


def _head(path: Path) -> tuple[str, str, list[str], int]:
    """Return delimiter, quote, the names of the columns, and how many lines those take."""
    with pa.input_stream(str(path), compression=PACKED.get(path.suffix)) as raw:
        text = raw.read(1 << 16).decode("utf-8", errors="replace").lstrip("\ufeff")
    delimiter, quote = dialect(text)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quotechar=quote)
    names = [name.strip() for name in next(lines, [])]
    return delimiter, quote, names, lines.line_num


def _check(there: Sequence[str], wanted: Sequence[str], path: Path) -> None:
    for name in wanted:
        if name not in there:
            listed = ", ".join(there[:20]) + (" ..." if len(there) > 20 else "")
            raise ConfigError(
                f"{path}: there is no column {name!r}; it has {listed or 'none'}; "
                "name them by --id, --label and --time"
            )


def _label(value: Any, names: frozenset[str]) -> int | str:
    """Return a class name where there is one of that text, else an index if it is a number."""
    text = str(value).strip()
    if text in names:
        return text
    if not _INDEX.fullmatch(text):
        return text
    number = int(text.partition(".")[0])
    return str(number) if str(number) in names else number


def _numbers(columns: list[list[Any]]) -> list[Any]:
    """Return numbers, or lists of them; what is no finite number is left as text."""
    numbers = [[_finite(value) for value in column] for column in columns]
    return numbers[0] if len(numbers) == 1 else [list(row) for row in zip(*numbers, strict=True)]


def _finite(value: Any) -> float | str:
    found = _number_or_text(value)
    return found if isinstance(found, float) and math.isfinite(found) else str(value)


def _times(column: pa.Array) -> list[float | str]:
    """Return Unix seconds, or text in ISO 8601; an empty cell is now."""
    if pa.types.is_timestamp(column.type):
        micros = column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(pa.int64())
        values = [None if t is None else t / 1e6 for t in micros.to_pylist()]
    else:
        values = [_number_or_text(value) for value in column.to_pylist()]
    now = time.time()
    return [now if value is None else value for value in values]


def _number_or_text(value: Any) -> Any:
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        return str(value)
