"""What the driver of a demo writes down: an array entry for each row, a snapshot for each poll."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from undrift.records import IntArray, TimeArray
from undrift.streams.stream import Stream

LEVELS = ("none", "warning", "drift")
MAX_FAILURES = 100


@dataclass(frozen=True, slots=True)
class SignalPoint:
    """One signal at one poll; limits are on the scale of the statistic."""

    name: str
    level: str
    statistic: float
    warning_at: float
    drift_at: float
    change_row: int | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the platform said at one poll.

    Attributes:
        asked_at: When it was asked, Unix seconds.
        at: When it had answered.
        row: Rows that the driver had sent.
        phase: Phase of the lifecycle.
        live_version: Version that answers requests; 0 if the platform did not say.
        level: Level of the ensemble.
        kind: What it thinks has changed.
        reason: Why, in a sentence.
        labelled: Labels that it has joined.
        signals: Its signals.
    """

    asked_at: float
    at: float
    row: int
    phase: str = ""
    live_version: int = 0
    level: str = "none"
    kind: str = "none"
    reason: str = ""
    labelled: int = 0
    signals: tuple[SignalPoint, ...] = ()


@dataclass(slots=True)
class Recording:
    """What happened to each row, and what the platform said meanwhile.

    Attributes:
        y: (n,) true class, or ``UNKNOWN``.
        frozen: (n,) class that the first model predicts.
        predicted: (n,) class that the platform answered, -1 without an answer.
        version: (n,) version that answered, 0 without an answer.
        due_at: (n,) when the schedule says to send, Unix seconds.
        sent_at: (n,) when it was sent; NaN if it was not.
        answered_at: (n,) when the answer or the failure was there; NaN without either.
        status: (n,) HTTP status, 0 without an answer.
        sent: Rows sent.
        labels_sent: Labels that the platform took.
        labels_rejected: Labels that it refused one by one.
        failed: Failed requests, for answers or for labels.
        failures: The first of them in words.
        reconnects: Requests repeated because the peer had closed a kept connection.
        polls_failed: Polls of status or drift without an answer.
        hashes: Weights hashes seen with each version.
        snapshots: One for each poll.
        events: Notable events that the platform told of, oldest first.
        versions: Versions as the platform describes them.
    """

    y: IntArray
    frozen: IntArray
    predicted: IntArray
    version: IntArray
    due_at: TimeArray
    sent_at: TimeArray
    answered_at: TimeArray
    status: IntArray
    sent: int = 0
    labels_sent: int = 0
    labels_rejected: int = 0
    failed: int = 0
    failures: list[str] = field(default_factory=list)
    reconnects: int = 0
    polls_failed: int = 0
    hashes: dict[int, set[str]] = field(default_factory=dict)
    snapshots: list[Snapshot] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    versions: list[dict[str, Any]] = field(default_factory=list)

    @staticmethod
    def of(stream: Stream, frozen: IntArray) -> Recording:
        """Return an empty recording of ``stream``; ``frozen`` (n,) is the first model's answer."""
        n = len(stream)
        return Recording(
            y=stream.live.y,
            frozen=frozen,
            predicted=np.full(n, -1, dtype=np.int64),
            version=np.zeros(n, dtype=np.int64),
            due_at=np.full(n, np.nan),
            sent_at=np.full(n, np.nan),
            answered_at=np.full(n, np.nan),
            status=np.zeros(n, dtype=np.int64),
        )

    def fail(self, text: str) -> None:
        """Count a failed request and keep the first ones in words."""
        self.failed += 1
        if len(self.failures) < MAX_FAILURES:
            self.failures.append(text)

    def tell(self, events: list[dict[str, Any]]) -> None:
        """Add the events that are new; the platform repeats its recent ones at every poll."""
        known = {_key(e) for e in self.events[-500:]}
        fresh = [e for e in events if isinstance(e, Mapping) and "kind" in e and "at" in e]
        self.events += [dict(e) for e in fresh if _key(e) not in known]


def snapshot(
    status: Mapping[str, Any], drift: Mapping[str, Any], asked_at: float, at: float, row: int
) -> Snapshot:
    """Read what the platform answered; keys that are missing keep their defaults."""
    return Snapshot(
        asked_at=asked_at,
        at=at,
        row=row,
        phase=str(status.get("phase", "")),
        live_version=int(status.get("live_version") or 0),
        level=_level(drift.get("level", "none")),
        kind=str(drift.get("kind", "none")),
        reason=str(drift.get("reason", "")),
        labelled=int(drift.get("labelled") or 0),
        signals=tuple(_signal(s) for s in drift.get("signals") or ()),
    )


def _signal(data: Mapping[str, Any]) -> SignalPoint:
    change_row = data.get("change_row")
    return SignalPoint(
        name=str(data.get("name", "")),
        level=_level(data.get("level", "none")),
        statistic=_number(data.get("statistic")),
        warning_at=_number(data.get("warning_at")),
        drift_at=_number(data.get("drift_at")),
        change_row=None if change_row is None else int(change_row),
    )


def _level(value: Any) -> str:
    if isinstance(value, int):
        return LEVELS[min(max(value, 0), 2)]
    return str(value).lower()


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _key(event: Mapping[str, Any]) -> tuple[Any, ...]:
    return event["at"], event["kind"], event.get("text")
