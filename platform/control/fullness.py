"""When the disk of a state is full, given what retention holds flat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from undrift.store.settings import RetentionSettings

NEVER_DAYS = 36_500.0
"""A disk that is full only after so many days is as good as never full."""

_SLACK = 1.25  # retention drops in steps of a quarter of its limit
_RECORD, _EVENTS = ("table predictions", "table labels"), ("table events", "table told")


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the state.

    Attributes:
        name: What it is.
        bytes: What it takes.
        bytes_a_day: How many come in a day; None if that is not known.
        items: Rows of a table, or versions.
        most: Bytes at which retention holds it; None if nothing does.
    """

    name: str
    bytes: int
    bytes_a_day: float | None = None
    items: int = 0
    most: float | None = None


@dataclass(frozen=True, slots=True)
class Room:
    """What the disk of a state has left.

    Attributes:
        free_bytes: Bytes that are free.
        free_share: Their share of the disk, 0 to 1.
        days_left: When it is full at the present rate, in days, retention allowed for; None if it
            never is, or that is not known.
    """

    free_bytes: int
    free_share: float
    days_left: float | None


def ceiling(part: Part, limits: RetentionSettings) -> float | None:
    """Return the bytes at which retention holds a part, None if nothing does.

    The rows that a retraining reads, and versions in use, may take more.
    """
    if part.name == "versions":
        return limits.versions * part.bytes / part.items if part.items else None
    if part.name in _RECORD:
        days, items, most = limits.days, limits.rows, limits.max_bytes
    elif part.name in _EVENTS:
        days, items, most = limits.event_days, limits.events, limits.max_event_bytes
    else:
        return None
    bounds = [
        None if days is None or part.bytes_a_day is None else days * part.bytes_a_day,
        None if items is None or not part.items else items * part.bytes / part.items,
        most,
    ]
    known = [bound for bound in bounds if bound is not None]
    return _SLACK * min(known) if known else None


def days_until_full(free: float, parts: Sequence[Part]) -> float | None:
    """Return after how many days parts have taken the free bytes; None if they never do.

    Example:
        >>> days_until_full(100.0, [Part("a", 0, 10.0, most=50.0), Part("b", 0, 5.0)])
        10.0
        >>> days_until_full(100.0, [Part("a", 0, 10.0, most=50.0)]) is None
        True
    """
    growing = sorted((_flat_after(part), part.bytes_a_day or 0.0) for part in parts)
    rate, now = sum(rate for _, rate in growing), 0.0
    for day, own in growing:
        if free <= rate * (day - now):
            break
        free -= rate * (day - now)
        rate, now = rate - own, day
    else:
        return None
    return now + free / rate if rate > 0 else None


def fullness(free: float | None, parts: Sequence[Part]) -> tuple[float | None, float | None]:
    """Return days until the disk is full, or the bytes at which the state stays flat.

    Both are None where that is not known, as without free bytes.
    """
    growing = [part for part in parts if part.bytes_a_day]
    if free is None or not growing:
        return None, None
    days = days_until_full(free, growing)
    if days is not None and (days < NEVER_DAYS or not any(part.most for part in growing)):
        return days, None
    return None, sum(max(p.bytes, p.most or 0.0) for p in growing)


def _flat_after(part: Part) -> float:
    """Return after how many days a part grows no more."""
    rate = part.bytes_a_day
    if not rate:
        return 0.0
    return float("inf") if part.most is None else max(part.most - part.bytes, 0.0) / rate
