"""Tensors of the Open Inference Protocol: out of JSON or bytes, and back into bytes.

Reference: the binary tensor data extension,
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md.
"""

from __future__ import annotations

import math
from array import array
from base64 import b64decode
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from undrift.errors import RequestError
from undrift.model.layout import limits
from undrift.records import FloatArray, IntArray
from undrift.serve.body import kind, show

WHOLE = ("BOOL", *(f"{sign}INT{bits}" for sign in ("U", "") for bits in (8, 16, 32, 64)))
"""Datatypes of whole numbers."""

_INTEGERS = {datatype: limits(datatype) for datatype in WHOLE}
_BYTES = {  # as they lie in a body: little-endian; NumPy has no bfloat16
    **{f"UINT{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
    **{f"INT{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    "BOOL": np.dtype("u1"),
    "BF16": np.dtype("<u2"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
_WIDE = ("FP64", "INT32", "UINT32", "INT64", "UINT64")
_AT_ONCE = 2**14
_HELD = 2**24
"""Up to here 32-bit floats hold every whole number."""

DATATYPES = ("FP16", "FP32", "FP64", "BF16", *_INTEGERS)
"""What an input of floats may consist of; the model gets 32-bit floats whatever it is."""


def from_json(data: Any, shape: tuple[int, ...], datatype: str) -> FloatArray:
    """Return a tensor that came as JSON numbers, flat or nested.

    Args:
        data: The value of ``data``.
        shape: Shape that it must have.
        datatype: One of ``DATATYPES``.

    Raises:
        RequestError: 400, it has another shape, or holds what is no finite number of that type, or
            a whole number that 32-bit floats would round.

    Example:
        >>> from_json([[1, 2]], (1, 2), "INT8")
        array([[1., 2.]], dtype=float32)
    """
    data = _flat(data, shape)
    try:
        wide = np.frombuffer(array("d", data))  # strict: takes neither text nor null nor lists
    except (TypeError, OverflowError):
        i, value = next((i, v) for i, v in enumerate(data) if not _is_number(v))
        raise RequestError(f"'data' must hold numbers; number {i} is {show(value)}") from None
    x = _finite(wide)
    if datatype in _INTEGERS:
        low, high = _INTEGERS[datatype]
        bad = np.flatnonzero((wide != np.floor(wide)) | (wide < low) | (wide > high))
        if len(bad):
            i = int(bad[0])
            raise RequestError(f"number {i} of 'data', {show(data[i])}, is not {datatype}")
    _check_whole(x, data, datatype, "'data'")
    return x.reshape(shape)


def from_bytes(raw: memoryview, shape: tuple[int, ...], datatype: str) -> FloatArray:
    r"""Return a tensor that came as bytes: little-endian, row by row, without gaps.

    FP32 that lies at a multiple of four is not copied; nobody may write into it.

    Args:
        raw: The bytes.
        shape: Shape that it must have.
        datatype: One of ``DATATYPES``.

    Raises:
        RequestError: 400, there are more or fewer bytes, numbers that are not finite, or whole
            numbers that 32-bit floats would round.

    Example:
        >>> from_bytes(memoryview(b"\x01\x02"), (1, 2), "UINT8")
        array([[1., 2.]], dtype=float32)
    """
    values = _binary(raw, shape, datatype)
    if datatype == "BF16":
        values = (values.astype(np.uint32) << 16).view(np.float32)
    if datatype == "BOOL" and values.max() > 1:
        i = int(np.flatnonzero(values > 1)[0])
        raise RequestError(f"byte {i} of the binary data, {values[i]}, is not BOOL")
    x = _finite(values)
    _check_whole(x, values, datatype, "the binary data")
    return x.reshape(shape)


def whole_from_json(data: Any, shape: tuple[int, ...], datatype: str, wanted: str) -> IntArray:
    """Return a tensor of whole numbers that came as JSON, each exactly.

    Args:
        data: The value of ``data``, flat or nested.
        shape: Shape that it must have.
        datatype: What it says that it is, one of ``WHOLE``.
        wanted: What the model takes, another one of them.

    Raises:
        RequestError: 400, it has another shape, or holds what is no number of both types.

    Example:
        >>> whole_from_json([[2**60 + 1]], (1, 1), "INT64", "INT64").tolist()
        [[1152921504606846977]]
    """
    data = _flat(data, shape)
    try:
        values = np.frombuffer(array("q", data), np.int64)  # strict: takes no floats
    except (TypeError, OverflowError):
        i, value = next((i, v) for i, v in enumerate(data) if not _is_whole(v))
        raise RequestError(f"number {i} of 'data', {show(value)}, is not {wanted}") from None
    return _within(values, datatype, wanted, "'data'").reshape(shape)


def whole_from_bytes(
    raw: memoryview, shape: tuple[int, ...], datatype: str, wanted: str
) -> IntArray:
    """Return a tensor of whole numbers that came as bytes; otherwise as `whole_from_json`."""
    values = _binary(raw, shape, datatype)
    return _within(values, datatype, wanted, "the binary data").reshape(shape)


def texts_from_json(data: Any, n: int, *, base64: bool) -> tuple[bytes, ...]:
    """Return n values that came as JSON strings, flat or one in each list.

    Args:
        data: The value of ``data``.
        n: How many there are.
        base64: Whether they are base64; else UTF-8.

    Raises:
        RequestError: 400, there are more or fewer, or they are no such strings.

    Example:
        >>> texts_from_json(["aGk="], 1, base64=True), texts_from_json([["hi"]], 1, base64=False)
        ((b'hi',), (b'hi',))
    """
    if not isinstance(data, list) or len(data) != n:
        got = f"{len(data)} of them" if isinstance(data, list) else kind(data)
        raise RequestError(f"'data' must be a list of {n} strings; got {got}")
    found: list[bytes] = []
    for i, item in enumerate(data):
        value = item[0] if isinstance(item, list) and len(item) == 1 else item
        try:
            found.append(b64decode(value, validate=True) if base64 else value.encode())
        except (AttributeError, TypeError, ValueError):
            what = "base64" if base64 else "a string of UTF-8"
            raise RequestError(f"value {i} of 'data', {show(item)}, is not {what}") from None
    return tuple(found)


def texts_from_bytes(raw: memoryview, n: int) -> tuple[bytes, ...]:
    r"""Return n values that came as bytes, each with its length before it.

    Raises:
        RequestError: 400, there are more or fewer, or one has not so many bytes.

    Example:
        >>> texts_from_bytes(memoryview(b"\x02\x00\x00\x00hi"), 1)
        (b'hi',)
    """
    found: list[bytes] = []
    at = 0
    while at < len(raw) and len(found) < n:
        end = at + 4 + int.from_bytes(raw[at : at + 4], "little")
        if at + 4 > len(raw) or end > len(raw):
            raise RequestError(f"value {len(found)} of the binary data goes beyond its end")
        found.append(bytes(raw[at + 4 : end]))
        at = end
    if len(found) < n or at < len(raw):
        raise RequestError(
            f"the binary data has {len(found)} values and then {len(raw) - at} bytes; the shape "
            f"has {n} values"
        )
    return tuple(found)


def to_bytes(values: NDArray[Any], datatype: str) -> bytes:
    r"""Return a tensor as the bytes that ``from_bytes`` reads; of BYTES each with its length.

    Args:
        values: The tensor; of BYTES an array of str.
        datatype: FP32, INT64 or BYTES.

    Example:
        >>> to_bytes(np.array(["no"], object), "BYTES")
        b'\x02\x00\x00\x00no'
    """
    if datatype != "BYTES":
        return values.astype(_BYTES[datatype], copy=False).tobytes()
    encoded = [item.encode() for item in values.ravel()]
    return b"".join(len(item).to_bytes(4, "little") + item for item in encoded)


def _binary(raw: memoryview, shape: tuple[int, ...], datatype: str) -> NDArray[Any]:
    dtype = _BYTES[datatype]
    size = math.prod(shape) * dtype.itemsize
    if len(raw) != size:
        raise RequestError(
            f"{len(raw)} bytes of binary data; shape {list(shape)} of {datatype} needs {size}"
        )
    return np.frombuffer(raw, dtype)


def _within(values: NDArray[Any], datatype: str, wanted: str, where: str) -> IntArray:
    """Return whole numbers as 64-bit ones; RequestError if one is not of both datatypes."""
    (low, high), (least, most) = _INTEGERS[datatype], _INTEGERS[wanted]
    bad = np.flatnonzero((values < max(low, least)) | (values > min(high, most)))
    if len(bad):
        i = int(bad[0])
        value = values[i].item()
        kind_ = wanted if not least <= value <= most else datatype
        raise RequestError(f"number {i} of {where}, {value}, is not {kind_}")
    return values.astype(np.int64)


def _finite(values: NDArray[Any]) -> FloatArray:
    """Return 32-bit floats, aligned, copied if they are not that already.

    Raises:
        RequestError: 400, one is not finite.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        x = values.astype(np.float32, copy=not values.flags.aligned)
    if not np.isfinite(x).all():
        i = int(np.flatnonzero(~np.isfinite(x))[0])
        raise RequestError(
            f"'data' must be finite 32-bit numbers; number {i} is {show(values[i].item())}"
        )
    return x


def _check_whole(x: FloatArray, given: list[Any] | NDArray[Any], datatype: str, where: str) -> None:
    """Raise RequestError if a whole number of a wide type is another one in ``x``."""
    if datatype not in _WIDE:
        return
    for start in range(0, len(x), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        far = start + np.flatnonzero(np.abs(x[part]) >= _HELD)
        if len(far):
            _check_far(x, given, far, datatype, where)


def _check_far(
    x: FloatArray,
    given: list[Any] | NDArray[Any],
    far: NDArray[np.intp],
    datatype: str,
    where: str,
) -> None:
    numbers = [given[i] for i in far.tolist()] if isinstance(given, list) else given[far]
    wide = np.array(numbers, np.float64)
    suspect = (wide == np.floor(wide)) & ((wide != x[far]) | (np.abs(wide) >= 2**53))
    high = _INTEGERS.get(datatype, (0, math.inf))[1]
    for i in far[suspect].tolist():
        value, kept = given[i] if isinstance(given, list) else given[i].item(), int(x[i])
        if value > high:  # as floats, 2^63 and 2^64 are not told from the number before
            raise RequestError(f"number {i} of {where}, {value}, is not {datatype}")
        if value != kept:
            raise RequestError(
                f"number {i} of {where}, {value}, would become {kept} as a 32-bit float; "
                "scale it, or send FP32 if that is no loss"
            )


def _is_number(value: Any) -> bool:
    return type(value) in (float, bool) or (type(value) is int and value.bit_length() <= 1023)


def _is_whole(value: Any) -> bool:
    low, high = _INTEGERS["INT64"]
    return type(value) in (int, bool) and low <= value <= high


def _flat(data: Any, shape: tuple[int, ...]) -> list[Any]:
    """Return the numbers of a tensor one after the other, as many as its shape has."""
    numbers: list[Any] = data
    if not isinstance(data, list):
        raise RequestError(f"'data' must be a list of numbers, not {kind(data)}")
    if data and isinstance(data[0], list):
        numbers = _flatten(data, shape)
    if len(numbers) != math.prod(shape):
        raise RequestError(
            f"'data' has {len(numbers)} numbers; shape {list(shape)} needs {math.prod(shape)}"
        )
    return numbers


def _flatten(data: list[Any], shape: tuple[int, ...]) -> list[Any]:
    if len(data) != shape[0]:
        raise RequestError(f"'data' has {len(data)} rows; shape {list(shape)} needs {shape[0]}")
    for size in shape[1:]:
        for item in data:
            if not isinstance(item, list) or len(item) != size:
                got = f"{len(item)} items" if isinstance(item, list) else kind(item)
                raise RequestError(
                    f"'data' is nested unlike shape {list(shape)}: "
                    f"expected a list of {size}, got {got}"
                )
        data = list(chain.from_iterable(data))
    return data
