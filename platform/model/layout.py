"""How several named inputs lie in one row of 32-bit floats, which is what is stored of a row."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from undrift.model.settings import InputSettings, ModelSettings
from undrift.records import FloatArray, IntArray

DIGIT = 2**24
"""Up to here 32-bit floats hold every whole number; larger ones are several digits of this base."""

EXACT = 2**53
"""Up to here 64-bit floats do."""

_DIGITS = {"INT32": 2, "INT64": 3}


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each input lies in a row: one after the other, and behind all the higher digits.

    So a column of a table is the same column of the row, whatever the inputs are, and every whole
    number of 64 bits is held exactly. Digits have the sign of their number.

    Attributes:
        inputs: The inputs, in order.

    Example:
        >>> ids = InputSettings(name="ids", shape=(2,), datatype="INT32")
        >>> layout = Layout((ids, InputSettings(name="speed", shape=(1,))))
        >>> layout.pack({"ids": np.array([[7, -(2**24) - 1]]), "speed": np.array([[0.5]])}).tolist()
        [[7.0, -1.0, 0.5, 0.0, -1.0]]
    """

    inputs: tuple[InputSettings, ...]

    @property
    def columns(self) -> int:
        """Numbers that all inputs have together."""
        return sum(math.prod(one.shape) for one in self.inputs)

    @property
    def width(self) -> int:
        """Length of a row."""
        return sum(math.prod(one.shape) * _DIGITS.get(one.datatype, 1) for one in self.inputs)

    @property
    def numbers(self) -> IntArray:
        """Columns that are numbers, which have distances; whole ones may be ids."""
        kinds = [np.full(math.prod(one.shape), one.is_integer) for one in self.inputs]
        return np.flatnonzero(~np.concatenate(kinds)).astype(np.int64)

    def parts(self) -> Iterator[tuple[InputSettings, list[slice]]]:
        """Yield each input with the columns of its digits, the lowest first."""
        begin, more = 0, self.columns
        for one in self.inputs:
            size = math.prod(one.shape)
            digits = [slice(begin, begin + size)]
            begin += size
            for _ in range(_DIGITS.get(one.datatype, 1) - 1):
                digits.append(slice(more, more + size))
                more += size
            yield one, digits

    def digits(self) -> dict[int, tuple[int, ...]]:
        """Return the columns of the higher digits, lowest first, of each column that has them."""
        return {
            places[0].start + i: tuple(place.start + i for place in places[1:])
            for one, places in self.parts()
            for i in range(math.prod(one.shape))
            if places[1:]
        }

    def pack(self, arrays: Mapping[str, NDArray[Any]]) -> FloatArray:
        """Return (n, width) rows of (n, *shape) arrays by name, each within its datatype."""
        n = len(arrays[self.inputs[0].name])
        rows = np.empty((n, self.width), np.float32)
        for one, digits in self.parts():
            left = arrays[one.name].reshape(n, math.prod(one.shape))
            if len(digits) > 1:
                left = left.astype(np.int64)
            for place in digits[:-1]:
                low = np.fmod(left, DIGIT)
                rows[:, place] = low
                left = (left - low) // DIGIT
            rows[:, digits[-1]] = left
        return rows


def held(values: NDArray[Any], one: InputSettings) -> NDArray[Any]:
    """Return values of an input, whole numbers as such.

    Raises:
        ValueError: They are not of its datatype; the text names the first that is not.

    Example:
        >>> held(np.array([3.0]), InputSettings(name="i", datatype="INT8"))
        array([3])
        >>> held(np.array([200]), InputSettings(name="i", datatype="INT8"))
        Traceback (most recent call last):
        ValueError: 200 in row 0 of 'i' is not INT8
    """
    if one.is_integer:
        low, high = limits(one.datatype)
        bad = (values < low) | (values > high)
        if values.dtype.kind == "f":
            bad |= (values != np.floor(values)) | (np.abs(values) > EXACT)
        what: str = one.datatype
    else:
        with np.errstate(over="ignore"):
            bad = ~np.isfinite(values.astype(np.float32))
        what = "a finite 32-bit float"
    if bad.any():
        row = int(np.argwhere(bad)[0][0])
        value = values[bad][0].item()
        raise ValueError(f"{value!r} in row {row} of {one.name!r} is not {what}")
    return values.astype(np.int64) if one.is_integer else values


def rows_of(
    arrays: Mapping[str, NDArray[Any]], shape: tuple[int, ...], layout: Layout | None
) -> FloatArray:
    """Return the rows that arrays are: ``x``, or one for each of several inputs.

    Args:
        arrays: The arrays, (n, *shape) each, by name.
        shape: Shape of one row of ``x``.
        layout: The inputs, if there are several.

    Raises:
        ValueError: One is missing, has another shape, or holds what it cannot.
    """
    inputs = (InputSettings(name="x", shape=shape),) if layout is None else layout.inputs
    found: dict[str, NDArray[Any]] = {}
    for one in inputs:
        if one.name not in arrays:
            wanted = ", ".join(each.name for each in inputs)
            raise ValueError(f"there is no array {one.name}; expected {wanted}")
        x = arrays[one.name]
        if x.ndim == 0 or x.shape[1:] != one.shape or x.dtype.kind not in "fiub":
            expected = f"(n, {', '.join(map(str, one.shape))})"
            raise ValueError(f"{one.name} is {x.dtype} {x.shape}, expected numbers {expected}")
        if found and len(x) != len(arrays[inputs[0].name]):
            raise ValueError(
                f"{one.name} has {len(x)} rows, {inputs[0].name} {len(arrays[inputs[0].name])}"
            )
        found[one.name] = held(x, one)
    return found["x"].astype(np.float32) if layout is None else layout.pack(found)


def limits(datatype: str) -> tuple[int, int]:
    """Return the least and the largest whole number of a datatype.

    Example:
        >>> limits("UINT8"), limits("BOOL")
        ((0, 255), (0, 1))
    """
    if datatype == "BOOL":
        return 0, 1
    bits = int(datatype.removeprefix("U").removeprefix("INT"))
    return (0, 2**bits - 1) if datatype[0] == "U" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def layout_of(model: ModelSettings) -> Layout | None:
    """Return how a model's named inputs lie in a row; None if it takes one tensor."""
    return Layout(model.inputs) if model.inputs else None


def blank(model: ModelSettings, n: int) -> FloatArray:
    """Return (n, *row_shape) rows of zeros, and of ones where whole numbers are: masks, ids."""
    if not model.inputs:
        return np.zeros((n, *model.input_shape), np.float32)
    ones = {one.name: np.full((n, *one.shape), int(one.is_integer)) for one in model.inputs}
    return Layout(model.inputs).pack(ones)


def row_shape(model: ModelSettings) -> tuple[int, ...]:
    """Return the shape of one row as it is stored."""
    return (Layout(model.inputs).width,) if model.inputs else model.input_shape
