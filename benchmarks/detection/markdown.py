"""Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from numpy.typing import NDArray

from benchmarks.detection.figures import quartiles

Row = Sequence[object]


def table(head: Row, rows: Iterable[Row]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def spread(values: Sequence[float] | NDArray[Any], form: str = ".0f") -> str:
    """Return a median and, in brackets, the quartiles."""
    if not len(values):
        return "none"
    middle, low, high = quartiles(values)
    return f"{middle:{form}} [{low:{form}}, {high:{form}}]"
