"""What all HTTP bodies have in common: JSON within limits, identifiers, texts of errors."""

from __future__ import annotations

import gc
import reprlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic_core import from_json

from undrift.errors import RequestError
from undrift.ids import KEY_HEADER, MAX_ID_LENGTH, MAX_KEY_LENGTH
from undrift.serve.settings import ServeSettings

ALL_REJECTED = 422
"""Status of an answer to feedback of which nothing is accepted; it lists what is rejected."""

WEIGHTS = "weights"
"""What takes weights that were trained elsewhere; its body is their file."""

FEEDBACK_BYTES = 2 * 2**20
"""Bytes that one request of feedback may have."""

MAX_ORIGIN = 200
"""Characters that the name of such a file may have."""

_JSON = "application/json"
_COUNTED_AT_ONCE = 2**20


def parse_json(body: bytes, content_type: str, settings: ServeSettings) -> Any:
    """Return the JSON value in a body.

    It must be called JSON by its Content-Type: a web page can send a body of no type, or of some
    others, to whom it likes without asking first.

    Raises:
        RequestError: 400, 413 or 415.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type != _JSON:
        got = show(media_type) if media_type else "a body without Content-Type"
        raise RequestError(f"send {_JSON}, not {got}", status=415)
    _check_size(body, settings)
    try:
        with unswept():
            return from_json(body, cache_strings="keys")
    except ValueError as error:
        raise RequestError(f"the body is not JSON: {error}") from None


def _check_size(body: bytes, settings: ServeSettings) -> None:
    """Raise RequestError, 413, if reading the JSON would hold up other requests for long."""
    if len(body) > settings.max_json_bytes:
        raise RequestError(
            f"{len(body):,} bytes of JSON; at most {settings.max_json_bytes:,} are accepted: send "
            "parts, or tensors as bytes",
            status=413,
        )
    if len(body) < settings.max_json_values:
        return  # no sign is shorter than a byte
    starts = range(0, len(body), _COUNTED_AT_ONCE)
    values = 1 + sum(
        body.count(sign, start, start + _COUNTED_AT_ONCE) for sign in b",[{" for start in starts
    )
    if values > settings.max_json_values:
        raise RequestError(
            f"{values:,} values of JSON; at most {settings.max_json_values:,} are accepted: send "
            "parts, or tensors as bytes",
            status=413,
        )


@contextmanager
def unswept() -> Iterator[None]:
    """Keep the garbage collector from looking through many values while they are made."""
    ours = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if ours:
            gc.enable()


def check_keys(got: dict[str, Any], known: set[str], what: str) -> None:
    """Raise RequestError if the object called ``what`` has a key that is not known."""
    if got.keys() <= known:
        return
    unknown = sorted(got.keys() - known)[0]
    raise RequestError(
        f"{what} has an unknown key {show(unknown)}; known are {', '.join(sorted(known)) or 'none'}"
    )


def present(value: dict[str, Any]) -> dict[str, Any]:
    """Return an object without the keys whose value is null, which is as good as absent.

    Example:
        >>> present({"id": None, "label": 1})
        {'label': 1}
    """
    return {key: item for key, item in value.items() if item is not None}


def check_id(value: Any, rows: bool = False) -> str:
    """Check a request id, or with ``rows`` one that may carry a row number after a colon."""
    if isinstance(value, str) and value:
        name, colon, number = value.partition(":") if rows else (value, "", "")
        if (
            len(name) <= MAX_ID_LENGTH
            and name.isprintable()
            and ":" not in name
            and (not colon or (number.isdecimal() and len(number) <= 9))
        ):
            return value
    raise RequestError(
        f"'id' must be a string of 1 to {MAX_ID_LENGTH} printable characters without ':'"
        f"{' (but for a row number at its end)' if rows else ''}; got {show(value)}"
    )


def check_key(key: str) -> str:
    """Return the key of an order, empty if it has none, unless it is too long."""
    if len(key) > MAX_KEY_LENGTH:
        raise RequestError(f"{KEY_HEADER} may have {MAX_KEY_LENGTH} characters, not {len(key)}")
    return key


def kind(value: Any) -> str:
    """Return what sort of JSON value this is, for an error text."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}
    return "null" if value is None else names.get(type(value), "a number")


def show(value: Any) -> str:
    """Return a short text of any JSON value, for an error text."""
    if isinstance(value, int) and value.bit_length() > 256:
        return "a huge number"
    return reprlib.repr(value)
