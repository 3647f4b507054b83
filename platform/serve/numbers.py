"""Labels of a regression, as feedback brings them: a finite number to a row, or a list of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from undrift.errors import RequestError
from undrift.records import FloatArray
from undrift.serve.body import show

_LARGEST = float(np.finfo(np.float32).max)

Numbers = tuple[float, ...]


def number_labels(given: Any, targets: int) -> list[Numbers]:
    """Return the label of each row of one item.

    Args:
        given: A number, or a list of them for several rows; with several targets, a list of as many
            numbers, or a list of such lists.
        targets: Numbers to a row.

    Raises:
        RequestError: It is something else, or a number is not finite in 32 bits.

    Example:
        >>> number_labels([1, 2.5], targets=1), number_labels([1, 2.5], targets=2)
        ([(1.0,), (2.5,)], [(1.0, 2.5)])
    """
    if targets == 1:
        return [(_number(value, given),) for value in (given if type(given) is list else [given])]
    nested = type(given) is list and given and type(given[0]) is list
    return [_vector(row, targets) for row in (given if nested else [given])]


def as_labels(rows: list[Numbers], targets: int) -> FloatArray:
    """Return (n,) labels, or (n, targets) of several targets."""
    array = np.array(rows, np.float32).reshape(len(rows), targets)
    return array[:, 0] if targets == 1 else array


def _vector(given: Any, targets: int) -> Numbers:
    if type(given) is not list or len(given) != targets:
        raise RequestError(f"'label' must be a list of {targets} numbers; got {show(given)}")
    return tuple(_number(value, given) for value in given)


def _number(value: Any, given: Any) -> float:
    if type(value) in (int, float) and abs(value) <= _LARGEST:
        return float(value)
    of = "" if given is value else f", in {show(given)}"
    raise RequestError(f"'label' must be a finite 32-bit number; got {show(value)}{of}")
