"""What the columns of a table are: labels, numbers, categories, or nothing that a model can use."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from undrift.errors import ConfigError

MOSTLY = 0.9
"""Share of the cells that are no missing words which must be numbers for a column of numbers."""

EXACT = 2**53
"""Largest integer up to which floating-point numbers hold each one."""

_WORDS = (
    "? - -- . na n/a #n/a #na <na> nan -nan nat null none nil \\n (null) inf +inf -inf infinity"
)
MISSING = pa.array(["", *_WORDS.split()])
"""Words for what is missing in a feature, in lower case."""

_TRUTHS = pa.array(["false", "true"])
_CHANCE = 30  # fewer numbers may grow by chance
_DOT = r"^[+-]?(\d+\.?\d*|\.\d+|\d{1,3}(,\d{3})+(\.\d*)?)([eE][+-]?\d+)?$"
_COMMA = r"^[+-]?(\d+,?\d*|,\d+|\d{1,3}(\.\d{3})+(,\d*)?)([eE][+-]?\d+)?$"
_PLAIN = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_SHORT_COMMA = r"^[+-]?(\d*,\d{1,2}|\d*,\d{4,}|0*,\d+|\d{4,},\d+)$"  # no groups of thousands
_WHOLE = r"^[+-]?\d+$"
_DRESSED = re.compile(
    r"^([-+]?)([^\w\s.,()+-]?)\s?([-+]?[\d.,]*\d(?:[eE][+-]?\d+)?)\s?([^\d\s.,()]{0,5})$"
)
_GROUPS = r"(\d)[ '\x{2019}\x{a0}\x{2009}\x{202f}](\d{3})"
_AROUND = r"^[^\d.,+-]+|[^\d.,]+$"
_FEW = 20  # different texts that may as well be categories
_WHOLE_LABEL = r"^-?(0|[1-9]\d*)(\.0*)?$"


@dataclass(slots=True)
class Features:
    """Columns that a model can use.

    Attributes:
        columns: Numbers as float64 with nulls for gaps, categories as text.
        notes: What was done, a sentence each.
        unused: Names of the columns that were left out.
    """

    columns: dict[str, pa.Array] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)


def is_number(text: str) -> bool:
    """Tell whether a cell is a number, or a word for a missing one.

    Example:
        >>> [is_number(text) for text in ("1.5", "1,5", "-2e3", "NaN", "temp", "1-2")]
        [True, True, True, True, False, False]
    """
    plain = text.strip()
    return bool(re.match(_DOT, plain) or re.match(_COMMA, plain)) or plain.lower() in set(
        MISSING.to_pylist()
    )


def label_texts(column: pa.ChunkedArray) -> pa.Array:
    """Return labels as text, null where the cell is empty; whole floats lose their zeros.

    Example:
        >>> label_texts(pa.chunked_array([["01", " None ", ""]])).to_pylist()
        ['01', 'None', None]
        >>> label_texts(pa.chunked_array([[1.0, 2.0, None]])).to_pylist()
        ['1', '2', None]
    """
    texts = pc.utf8_trim_whitespace(_flat(column).cast(pa.string()))
    texts = pc.if_else(pc.equal(texts, ""), None, texts)
    if pc.all(pc.match_substring_regex(texts, _WHOLE_LABEL)).as_py():
        texts = pc.replace_substring_regex(texts, r"\.0*$", "")
    return texts


def class_names(labels: pa.Array) -> list[str]:
    """Return the different labels, in order of their values if all are numbers."""
    names: list[str] = pc.unique(labels.drop_null()).to_pylist()
    if all(re.match(_PLAIN, name) for name in names):
        return sorted(names, key=lambda name: (float(name), name))
    return sorted(names)


def features(table: pa.Table, keep: frozenset[str] = frozenset()) -> Features:
    """Return what a model can use of a table without its label.

    Left out, and told, are dates and nested values, integers that 64-bit floating-point numbers do
    not hold (they are ids), and numbers that grow with every row (they only say when it was).

    Args:
        table: The table.
        keep: Columns that are used even if they grow with every row.
    """
    found = Features()
    comma = _decimal_comma(table)
    if comma:
        found.notes.append("The decimal mark is a comma.")
    for name in table.column_names:
        cells = _flat(table[name])
        if pa.types.is_string(cells.type) or pa.types.is_large_string(cells.type):
            values = _numbers(name, cells.cast(pa.string()), comma, found.notes)
        else:
            values = _typed(cells)
        if values is None:
            found.unused.append(name)
        elif pa.types.is_string(values.type):
            found.columns[name] = values
        elif name not in keep and (why := _says_nothing(values)):
            found.notes.append(f"Column {name!r} is not used: {why}.")
        else:
            found.columns[name] = _finite(values.cast(pa.float64(), safe=False))
    return found


def as_numbers(
    name: str, found: Features, path: Path, dtype: type[np.floating] = np.float32
) -> NDArray[Any]:
    """Return a column as (n,) numbers, as a model takes them; true and false are 1 and 0.

    Raises:
        ConfigError: It is no column of numbers, or some are missing or infinite.
    """
    column = found.columns.get(name)
    if column is not None and pa.types.is_string(column.type):
        truth = pc.index_in(pc.utf8_lower(column), value_set=_TRUTHS)
        column = truth if truth.null_count == column.null_count else column
    if column is None or pa.types.is_string(column.type):
        raise ConfigError(f"{path}: column {name!r} is not numbers, which the model takes")
    kind = pa.from_numpy_dtype(dtype)
    values = column.cast(kind, safe=False).to_numpy(zero_copy_only=False)
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise ConfigError(
            f"{path}: column {name!r} has {len(bad):,} missing or infinite values, the first "
            f"in row {bad[0]:,}; the platform would refuse those rows"
        )
    return np.asarray(values, dtype)


def _finite(values: pa.Array) -> pa.Array:
    return pc.if_else(pc.is_finite(values), values, None)


def _flat(column: pa.ChunkedArray) -> pa.Array:
    values = column.combine_chunks()
    if isinstance(values, pa.ChunkedArray):
        values = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    return values


def _typed(values: pa.Array) -> pa.Array | None:
    """Return a column of a file that has types; None if a model cannot use it."""
    kind = values.type
    if pa.types.is_boolean(kind):
        return values.cast(pa.string())
    if pa.types.is_integer(kind):
        return values
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return values.cast(pa.float64(), safe=False)
    return None


def _numbers(name: str, cells: pa.Array, comma: bool, notes: list[str]) -> pa.Array:
    """Return numbers, null where there is none, if nearly all cells are; else the texts."""
    cells = pc.utf8_trim_whitespace(cells)
    missing = pc.fill_null(pc.is_in(pc.utf8_lower(cells), value_set=MISSING), True)
    texts = pc.if_else(missing, None, cells)
    pattern = _COMMA if comma else _DOT
    texts = _undressed(name, texts, pattern, notes)
    number = pc.match_substring_regex(texts, pattern)
    count, told = pc.sum(number).as_py() or 0, len(texts) - texts.null_count
    if not told or count < MOSTLY * told:
        return texts
    if count < told:
        odd = pc.unique(texts.filter(pc.invert(number))).to_pylist()
        listed = ", ".join(map(repr, odd[:3])) + (", ..." if len(odd) > 3 else "")
        notes.append(
            f"{told - count:,} of {len(texts):,} cells of {name!r} are no numbers ({listed}); "
            "they count as missing."
        )
    texts = pc.if_else(pc.fill_null(number, False), texts, None)
    if pc.all(pc.match_substring_regex(texts, _WHOLE)).as_py():
        try:
            return pc.replace_substring_regex(texts, r"^\+", "").cast(pa.int64())
        except pa.ArrowInvalid:
            return pa.array([None if t is None else EXACT + 1 for t in texts.to_pylist()])
    texts = pc.replace_substring_regex(texts, r"^\+|\." if comma else r"^\+|,", "")
    return pc.replace_substring(texts, ",", ".").cast(pa.float64())


def _undressed(name: str, texts: pa.Array, pattern: str, notes: list[str]) -> pa.Array:
    """Return numbers without their unit, sign of a currency, or spaces between thousands.

    That is only if nearly all cells have the same; what is no number then, stays as it is.
    """
    odd = texts.filter(pc.invert(pc.match_substring_regex(texts, pattern)).fill_null(False))
    if len(odd) <= (1.0 - MOSTLY) * (len(texts) - texts.null_count):
        return texts
    plain = pc.replace_substring_regex(texts, r"^[\x{2212}\x{2013}]", "-")
    for _ in range(2):  # 1 234 567: the groups share a digit
        plain = pc.replace_substring_regex(plain, _GROUPS, r"\1\2")
    match = _DRESSED.match(next(t for t in plain.to_pylist() if t is not None))
    before, unit = (match[2], match[4]) if match else ("", "")
    if unit.isalpha() and len(pc.unique(texts)) <= _FEW:
        return texts  # as good as categories
    if before or unit:
        lead = rf"^([-+]?){re.escape(before)}\s?" if before else r"^()"
        dressed = rf"{lead}([-+]?[\d.,]*\d(?:[eE][+-]?\d+)?)\s?{re.escape(unit)}$"
        plain = pc.replace_substring_regex(plain, dressed, r"\1\2")
    number = pc.match_substring_regex(plain, pattern)
    if (pc.sum(number).as_py() or 0) < MOSTLY * (len(texts) - texts.null_count):
        return texts
    worn = " and ".join(repr(part) for part in (before, unit) if part)
    worn = worn or "spaces between thousands or typographic signs"
    notes.append(f"The numbers of {name!r} are written with {worn}; that was left out.")
    return pc.if_else(number, plain, texts)


def _decimal_comma(table: pa.Table) -> bool:
    """Tell whether more cells have a decimal comma than a decimal dot.

    A cell like 1,234 may be either a decimal or a group of thousands, and says nothing.
    """
    commas = dots = 0
    for column in table.columns:
        if pa.types.is_string(column.type):
            cells = pc.replace_substring_regex(_flat(column), _AROUND, "")
            commas += pc.sum(pc.match_substring_regex(cells, _SHORT_COMMA)).as_py() or 0
            dots += pc.sum(pc.match_substring_regex(cells, r"^[+-]?\d*\.\d+$")).as_py() or 0
    return commas > dots


def _says_nothing(values: pa.Array) -> str:
    """Return why numbers can be no feature; empty if they can."""
    if pa.types.is_integer(values.type):
        edges = pc.min_max(values).as_py()
        if edges["max"] is not None and max(edges["max"], -edges["min"]) > EXACT:
            return "its integers are larger than a number can hold exactly, so they are ids"
    plain = values.to_numpy(zero_copy_only=False)
    if len(plain) >= _CHANCE and values.null_count == 0 and bool(np.all(plain[1:] > plain[:-1])):
        return "it grows with every row, so it only says when that was"
    return ""
