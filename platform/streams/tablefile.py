"""Any table that people have: delimited text, Parquet, Feather or JSON lines, packed or not.

Cells of a text file stay text until it is known what their column is for: a label is its text, and
a feature is a number if nearly all of its cells are.
"""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import clevercsv
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.feather as feather
import pyarrow.json as pajson
import pyarrow.parquet as pq

from undrift.errors import ConfigError
from undrift.streams.columns import is_number

SNIFFED_CHARS, SNIFFED_LINES = 20_000, 200
BLOCK_BYTES = 1 << 24  # a row must fit
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


@dataclass(frozen=True, slots=True)
class TableFile:
    """A table as it is in a file.

    Attributes:
        path: The file.
        table: Its columns; of a text file all are text.
        named: Whether the file names them; else they are called ``column 0`` and so on.
        notes: What was found or done, a sentence each.
    """

    path: Path
    table: pa.Table
    named: bool
    notes: tuple[str, ...] = ()


def read_table(path: Path, label: str | None = None) -> TableFile:
    """Read a file, whatever its format, packing, dialect and encoding.

    Args:
        path: The file.
        label: Name of the label's column; a first line with that name is one of names.

    Raises:
        ConfigError: It cannot be read.
    """
    data = _unpacked(path)
    if not data.strip():
        raise ConfigError(f"{path}: the file is empty")
    names = [suffix.lower() for suffix in path.suffixes]
    with _explained(path):
        if data.startswith(b"PAR1"):
            return TableFile(path, pq.read_table(io.BytesIO(data)), named=True)
        if data.startswith(b"ARROW1"):
            return TableFile(path, feather.read_table(io.BytesIO(data)), named=True)
        text, notes = _decoded(path, data)
        if ".jsonl" in names or ".ndjson" in names or text.lstrip().startswith("{"):
            table = pajson.read_json(io.BytesIO(text.encode()))
            return TableFile(path, table, named=True, notes=notes)
        return _delimited(path, text, notes, label)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, csv.Error, clevercsv.Error, ValueError, OSError) as error:
        raise ConfigError(f"{path}: cannot be read as a table: {error}") from error


def _unpacked(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        if data.startswith(b"\x1f\x8b"):
            return gzip.decompress(data)
        if data.startswith(b"\xfd7zXZ"):
            return lzma.decompress(data)
        if data.startswith(b"BZh"):
            return bz2.decompress(data)
        if data.startswith(b"\x28\xb5\x2f\xfd"):
            return bytes(pa.input_stream(io.BytesIO(data), compression="zstd").read())
        if data.startswith(b"PK\x03\x04"):
            return _from_zip(path, data)
        if path.suffix.lower() in (".gz", ".xz", ".bz2", ".zst", ".zip"):
            raise OSError(f"its name ends in {path.suffix}, which its bytes are not")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    return data


def _from_zip(path: Path, data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        if any(name.startswith("xl/") for name in names):
            raise ConfigError(f"{path}: this is a spreadsheet; save its table as CSV")
        if len(names) != 1:
            raise ConfigError(f"{path}: the archive has {len(names)} files, expected one table")
        return archive.read(names[0])


def _delimited(path: Path, text: str, notes: tuple[str, ...], label: str | None) -> TableFile:
    text, told, notes = _without_preamble(text, notes)
    delimiter, quote = dialect(text)
    delimiter = told or delimiter
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quotechar=quote)
    cells, below = ([cell.strip() for cell in line] for line in (next(lines), next(lines, [])))
    if len(cells) < 2:
        raise ConfigError(f"{path}: the first line has one column; expected several, as in a CSV")
    named = label in cells or _are_names(cells, below)
    names = [str(i) for i in range(len(cells))]
    table = pacsv.read_csv(
        io.BytesIO(text.encode()),
        read_options=pacsv.ReadOptions(column_names=names, block_size=BLOCK_BYTES),
        parse_options=pacsv.ParseOptions(
            delimiter=delimiter, quote_char=quote, newlines_in_values=True
        ),
        convert_options=pacsv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
        ),
    )
    if named:
        table = table.slice(1)
        names = [cell or f"column {i}" for i, cell in enumerate(cells)]
    else:
        names = [f"column {i}" for i in range(len(cells))]
    if len(set(names)) < len(names):
        raise ConfigError(f"{path}: a column name occurs twice in {', '.join(names)}")
    if delimiter != ",":
        notes = (*notes, f"Columns are separated by {_name(delimiter)}.")
    return TableFile(path, table.rename_columns(names), named, notes)


def _without_preamble(text: str, notes: tuple[str, ...]) -> tuple[str, str, tuple[str, ...]]:
    """Return a text without the comments above its table, and the delimiter that one names.

    A first line of names may begin with # as well: it has as many columns as the next.
    """
    if found := re.match(r"(?i)sep=([,;\t| ])\r?\n", text):
        return text[found.end() :], found[1], notes
    lines, above = text[:SNIFFED_CHARS].splitlines(keepends=True), 0
    while above < len(lines) - 1 and lines[above].startswith("#"):
        above += 1
    delimiter, _ = dialect("".join(lines[above:]))
    while above and lines[above - 1].count(delimiter) == lines[above].count(delimiter) > 0:
        above -= 1
    if above:
        notes = (*notes, f"The first {above} lines are comments.")
    return text[sum(map(len, lines[:above])) :], "", notes


def _decoded(path: Path, data: bytes) -> tuple[str, tuple[str, ...]]:
    for mark, encoding in _MARKS.items():
        if data.startswith(mark):
            return data.decode(encoding), ()
    if b"\0" in data[:SNIFFED_CHARS]:
        raise ConfigError(f"{path}: this is no text, nor a format that is known here")
    try:
        return data.decode("utf-8"), ()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        note = f"Line {line} is not UTF-8; the file was read as Windows-1252."
        return data.decode("cp1252", errors="replace"), (note,)


def dialect(text: str) -> tuple[str, str]:
    """Return the delimiter and the quote of most of the first lines."""
    sample = "".join(text[:SNIFFED_CHARS].splitlines(keepends=True)[:SNIFFED_LINES])
    found = clevercsv.Sniffer().sniff(sample, delimiters=",;\t| ")
    if found is None or not found.delimiter:
        return ",", '"'
    return found.delimiter, found.quotechar or '"'


def _are_names(cells: list[str], below: list[str]) -> bool:
    """Tell whether the first line has names: no number in it, and none twice or numbers below."""
    names = [cell for cell in cells if cell]
    if not names or any(map(is_number, names)):
        return False
    return len(set(names)) == len(names) or any(cell and is_number(cell) for cell in below)


def _name(delimiter: str) -> str:
    return {"\t": "tabs", " ": "spaces", ";": "semicolons", "|": "bars"}.get(delimiter, delimiter)


def label_column(file: TableFile, label: str | None) -> str:
    """Return the name of the label's column.

    Args:
        file: The table.
        label: Its name or number (from 0; -1 is the last); None: the last, if nothing is named.

    Raises:
        ConfigError: There is no such column; the text lists them.
    """
    names: list[str] = file.table.column_names
    if label is None and not file.named:
        return names[-1]
    if label in names:
        return str(label)
    if label is not None and re.fullmatch(r"-?\d+", label):
        index = int(label)
        if -len(names) <= index < len(names):
            return names[index]
    listed = ", ".join(names[:30]) + (f" and {len(names) - 30} more" if len(names) > 30 else "")
    asked = "name the label's column" if label is None else f"there is no column {label!r}"
    raise ConfigError(f"{file.path}: {asked}; the columns are {listed}; or give its number from 0")
