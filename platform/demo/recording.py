"""What the driver of a demo writes down: an array entry for each row, a snapshot for each poll."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from undrift.records import IntArray, TargetArray, TimeArray
from undrift.streams.quality import Scores, none_of
from undrift.streams.stream import Stream
from undrift.views import DriftView, EventView, StatusView, VersionView

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
        y: (n,) true class, or ``UNKNOWN``; or (n,) or (n, c) numbers, or NaN.
        frozen: (n,) class that the first model predicts, or numbers.
        predicted: (n,) class that the platform answered, -1 without an answer; or numbers, or NaN.
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
        scores: Scores answers.
    """

    y: TargetArray
    frozen: TargetArray
    predicted: TargetArray
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
    events: list[EventView] = field(default_factory=list)
    versions: list[VersionView] = field(default_factory=list)
    scores: Scores = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.scores = Scores(self.y)

    @staticmethod
    def of(stream: Stream, frozen: TargetArray) -> Recording:
        """Return an empty recording of ``stream``; ``frozen`` (n,) is the first model's answer."""
        n = len(stream)
        return Recording(
            y=stream.live.y,
            frozen=frozen,
            predicted=none_of(stream.live.y),
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

    def tell(self, events: Sequence[EventView]) -> None:
        """Add the events that are new; the platform repeats its recent ones at every poll."""
        last = self.events[-1].seq if self.events else 0
        self.events += [event for event in events if event.seq > last]


def snapshot(
    status: StatusView, drift: DriftView, asked_at: float, at: float, row: int
) -> Snapshot:
    """Return what the platform said at one poll."""
    return Snapshot(
        asked_at=asked_at,
        at=at,
        row=row,
        phase=status.phase,
        live_version=status.live_version,
        level=drift.level,
        kind=drift.kind,
        reason=drift.reason,
        labelled=drift.labelled,
        signals=tuple(
            SignalPoint(s.name, s.level, s.statistic, s.warning_at, s.drift_at, s.change_row)
            for s in drift.signals
        ),
    )
