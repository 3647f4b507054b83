"""Names of requests and of their rows."""

from __future__ import annotations

import os
import threading
import time
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

KEY_HEADER, MAX_KEY_LENGTH = "Idempotency-Key", 200
"""Header that names an order: what comes again under the same name is carried out once."""

MAX_ID_LENGTH = 128

_NOISE_BYTES, _NOISES = 10, 256  # of one id; and so many at a time, for each call takes its time


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
        self._noise = b""
        self._used = 0

    def __call__(self) -> str:
        """Return a new identifier."""
        now = time.time_ns() // 1_000_000
        with self._lock:
            if self._used == len(self._noise):
                self._noise, self._used = os.urandom(_NOISE_BYTES * _NOISES), 0
            end = self._used + _NOISE_BYTES
            noise = int.from_bytes(self._noise[self._used : end])
            self._used = end
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


def uuid7_time(name: str) -> float:
    """Return the Unix seconds within a UUIDv7, or infinity for any other id."""
    if len(name) != 36 or name[14] != "7":
        return float("inf")
    try:
        return int(name[:8] + name[9:13], 16) / 1000.0
    except ValueError:
        return float("inf")


def join(
    ids: Sequence[str], at: Sequence[float], labelled: Sequence[str], labelled_at: Sequence[float]
) -> tuple[list[int], list[int]]:
    """Return which predictions have a label, in order, and which label each of them has.

    The rule of the monitor's `LabelJoin`, for a record that is there as a whole: an id names the
    newest prediction that has it when the label comes, or the first one after the label; and the
    first label of a prediction stands.

    Args:
        ids: Ids of predictions, oldest first.
        at: When each was answered.
        labelled: Ids of labels, in order of arrival.
        labelled_at: When each arrived.

    Example:
        >>> join(["a", "b", "c", "a"], [1, 2, 3, 4], ["a", "nobody", "b", "a"], [2, 3, 4, 5])
        ([0, 1, 3], [0, 2, 3])
    """
    uses: dict[str, list[int]] = {}
    for row, name in enumerate(ids):
        uses.setdefault(name, []).append(row)
    found: dict[int, int] = {}
    for i, name in enumerate(labelled):
        rows = uses.get(name)
        if rows is not None:
            then = bisect_right(rows, labelled_at[i], lo=1, key=at.__getitem__)
            found.setdefault(rows[then - 1], i)
    order = sorted(found)
    return order, [found[row] for row in order]


def pack(names: list[str]) -> NDArray[np.uint8]:
    """Return ids as bytes: four of length and then UTF-8, one after another."""
    coded = [name.encode(errors="surrogatepass") for name in names]
    return np.frombuffer(
        b"".join(len(c).to_bytes(4, "little") + c for c in coded), dtype=np.uint8
    ).copy()


def unpack(packed: NDArray[np.uint8]) -> list[str]:
    """Return the ids that `pack` made bytes of."""
    raw, at, names = packed.tobytes(), 0, []
    while at < len(raw):
        end = at + 4 + int.from_bytes(raw[at : at + 4], "little")
        names.append(raw[at + 4 : end].decode(errors="surrogatepass"))
        at = end
    return names
