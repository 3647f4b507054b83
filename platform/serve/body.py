"""What all HTTP bodies have in common: JSON within limits, identifiers, texts of errors."""

from __future__ import annotations

import os
import reprlib
import threading
import time
from typing import Any

from pydantic_core import from_json

from undrift.errors import RequestError
from undrift.serve.settings import ServeSettings

MAX_ID_LENGTH = 128

_JSON_TYPES = ("", "application/json")


def row_ids(request_id: str, n: int) -> tuple[str, ...]:
    """Return the inference ids of a request of ``n`` rows.

    Example:
        >>> row_ids("a", 1), row_ids("a", 2)
        (('a',), ('a:0', 'a:1'))
    """
    return (request_id,) if n == 1 else tuple(f"{request_id}:{i}" for i in range(n))


class IdSource:
    """Makes UUIDv7 identifiers that increase strictly within one source.

    Within a millisecond, or when the clock steps back, the random part counts on by a random
    step (RFC 9562, section 6.2, method 2).

    Example:
        >>> new_id = IdSource()
        >>> new_id() < new_id()
        True
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ms = 0
        self._tail = 0  # the 74 bits that are not clock, version or variant

    def __call__(self) -> str:
        """Return a new identifier."""
        now = time.time_ns() // 1_000_000
        noise = int.from_bytes(os.urandom(10))
        with self._lock:
            if now > self._ms:
                self._ms = now
                self._tail = noise >> 7  # 73 random bits leave room to count on
            else:
                self._tail += 1 + (noise >> 48)
                if self._tail >> 74:
                    self._ms += 1
                    self._tail = noise >> 7
            ms, tail = self._ms, self._tail
        value = ms << 80 | 7 << 76 | (tail >> 62) << 64 | 2 << 62 | tail & (1 << 62) - 1
        h = f"{value:032x}"
        return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


new_id = IdSource()


def parse_json(body: bytes, content_type: str, settings: ServeSettings) -> Any:
    """Return the JSON value in a body.

    Raises:
        RequestError: 400, 413 or 415.
    """
    if len(body) > settings.max_body_bytes:
        raise RequestError(
            f"the body has {len(body)} bytes; at most {settings.max_body_bytes} are accepted",
            status=413,
        )
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type not in _JSON_TYPES:
        raise RequestError(f"send application/json, not {show(media_type)}", status=415)
    try:
        return from_json(body, cache_strings="keys")
    except ValueError as error:
        raise RequestError(f"the body is not JSON: {error}") from None


def check_keys(got: dict[str, Any], known: set[str], what: str) -> None:
    """Raise RequestError if the object called ``what`` has a key that is not known."""
    if got.keys() <= known:
        return
    unknown = sorted(got.keys() - known)[0]
    raise RequestError(
        f"{what} has an unknown key {show(unknown)}; known are {', '.join(sorted(known)) or 'none'}"
    )


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


def kind(value: Any) -> str:
    """Return what sort of JSON value this is, for an error text."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}
    return "null" if value is None else names.get(type(value), "a number")


def show(value: Any) -> str:
    """Return a short text of any JSON value, for an error text."""
    if isinstance(value, int) and value.bit_length() > 256:
        return "a huge number"
    return reprlib.repr(value)
