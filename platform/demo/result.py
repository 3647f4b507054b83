"""What a demo showed: accuracy beside the frozen model, requests, and how the loop closed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from undrift.demo.recording import Recording, Snapshot
from undrift.streams.stream import NEVER, Stream, known
from undrift.views import EventView, VersionView

CURVE_POINTS = 120
TIMELINE_POINTS = 800
GRACE_S = 2.0
COUNTED = ("warning", "drift", "retraining", "promoted", "rolled_back", "failed")


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Accuracy, or R2, over the rows from ``start`` to ``stop``; NaN if none can be judged.

    Attributes:
        start: First live row.
        stop: One past the last live row.
        rows: Rows that were answered and whose label is known.
        ours: Share of right answers of the platform, or R2.
        frozen: The same of the first model on the same rows.
    """

    start: int
    stop: int
    rows: int
    ours: float
    frozen: float

    @property
    def gap_points(self) -> float:
        """Percentage points by which the platform is better."""
        return 100.0 * (self.ours - self.frozen)


@dataclass(frozen=True, slots=True)
class Adaptation:
    """From a drift to the promotion that answered it.

    Attributes:
        drift_row: Rows sent when drift was declared.
        promoted_row: Rows sent when the new version was live.
        seconds: Time between the two.
    """

    drift_row: int
    promoted_row: int
    seconds: float

    @property
    def rows(self) -> int:
        """Rows sent between the two."""
        return self.promoted_row - self.drift_row


@dataclass(frozen=True, slots=True)
class Goal:
    """What a demo must show for its loop to count as closed.

    Attributes:
        min_gap_points: Points by which the last fifth must beat the frozen model.
        needed: Kinds of events that must have happened.
    """

    min_gap_points: float = 0.0
    needed: tuple[str, ...] = ("warning", "drift", "retraining", "promoted")


@dataclass(frozen=True, slots=True)
class DemoResult:
    """One run of a demo; every part is plain JSON.

    Attributes:
        name: Name of the stream.
        title: Its title.
        task: What is predicted.
        notes: What was done to the data.
        how: How the run was made, for the report.
        rows: Rows sent, out of ``stream_rows``.
        stream_rows: Rows of the stream.
        drift_row: Row at which the world starts to change, where known.
        label_lag_rows: Median distance of a label from its prediction, in rows.
        overall: Accuracy over all rows.
        fifths: Accuracy over each fifth of the stream.
        last_three_fifths: Accuracy over the last three fifths, of the whole file where the stream
            is the later part of one.
        after_drift: Accuracy from the second to the eleventh second after the first drift was told,
            when the first model still is the live version; None without a drift.
        curve: Accuracy over about a hundred equal stretches.
        failed_requests: Requests without a good answer.
        failures: The first of them in words.
        reconnects: Requests repeated because a kept connection had been closed.
        mixed_answers: Answered rows that contradict the version they should have come from.
        labels_sent: Labels taken by the platform.
        labels_rejected: Labels refused one by one.
        polls_failed: Looks at status and signals that failed.
        counts: Notable events of each kind.
        adaptations: Drifts that ended in a promotion.
        pace_asked: Rows a second on the schedule.
        pace: Rows a second as sent.
        seconds: Duration.
        latency_ms: Percentiles from the scheduled moment to the answer, milliseconds.
        spans: Stretches of rows answered by one version: (start, stop, version).
        timeline: Snapshots of the platform.
        events: Notable events, each with the ``row`` sent by then.
        versions: Versions as the platform describes them.
        measure: What is called accuracy here: ``accuracy``, or ``R2`` of numbers.
    """

    name: str
    title: str
    task: str
    notes: tuple[str, ...]
    how: dict[str, str]
    rows: int
    stream_rows: int
    drift_row: int | None
    label_lag_rows: float
    overall: Accuracy
    fifths: tuple[Accuracy, ...]
    last_three_fifths: Accuracy
    after_drift: Accuracy | None
    curve: tuple[Accuracy, ...]
    failed_requests: int
    failures: tuple[str, ...]
    reconnects: int
    mixed_answers: int
    labels_sent: int
    labels_rejected: int
    polls_failed: int
    counts: dict[str, int]
    adaptations: tuple[Adaptation, ...]
    pace_asked: float
    pace: float
    seconds: float
    latency_ms: dict[str, float]
    spans: tuple[tuple[int, int, int], ...]
    timeline: tuple[Snapshot, ...]
    events: tuple[EventView, ...]
    versions: tuple[VersionView, ...]
    measure: str = "accuracy"

    def closed(self, goal: Goal | None = None) -> tuple[bool, list[str]]:
        """Return whether the loop closed, and what is missing if it did not."""
        goal = goal or Goal()
        missing = []
        if self.rows < self.stream_rows:
            missing.append(f"the stream ended early, after {self.rows} of {self.stream_rows} rows")
        names = {"promoted": "promotion"}
        missing += [f"no {names.get(k, k)}" for k in goal.needed if not self.counts[k]]
        if self.failed_requests:
            missing.append(f"{self.failed_requests} failed requests")
        if self.mixed_answers:
            missing.append(f"{self.mixed_answers} answers of a version that should not be live")
        gap = self.fifths[-1].gap_points
        if not gap >= goal.min_gap_points:
            missing.append(
                f"the last fifth is {gap:+.1f} points from the frozen model, "
                f"not at least {goal.min_gap_points:+.1f}"
            )
        return not missing, missing

    def to_json(self) -> str:
        """Return everything as JSON text; numbers that are not finite become null."""
        return json.dumps(_plain(asdict(self)), indent=1)


def summarise(
    stream: Stream,
    recording: Recording,
    rows_per_s: float,
    how: Mapping[str, str] | None = None,
) -> DemoResult:
    """Turn a recording into a result.

    Args:
        stream: What was played.
        recording: What happened.
        rows_per_s: The pace asked for.
        how: How the run was made, for the report.
    """
    n, sent = len(stream), recording.sent
    fifths = stretches(recording, 5)
    events = tuple(replace(e, row=_row_at(recording, e.at)) for e in recording.events)
    seconds = _seconds(recording)
    return DemoResult(
        name=stream.name,
        title=stream.title,
        task=stream.task,
        notes=stream.notes,
        how=dict(how or {}),
        rows=sent,
        stream_rows=n,
        drift_row=stream.drift_row,
        label_lag_rows=_lag(stream),
        overall=accuracy(recording, 0, n),
        fifths=fifths,
        last_three_fifths=accuracy(recording, _two_fifths(stream), n),
        after_drift=_after_drift(recording, events),
        curve=stretches(recording, max(1, min(CURVE_POINTS, n // 20))),
        failed_requests=recording.failed,
        failures=tuple(recording.failures[:20]),
        reconnects=recording.reconnects,
        mixed_answers=mixed_answers(recording),
        labels_sent=recording.labels_sent,
        labels_rejected=recording.labels_rejected,
        polls_failed=recording.polls_failed,
        counts={kind: sum(e.kind == kind for e in events) for kind in COUNTED},
        adaptations=_adaptations(events),
        pace_asked=rows_per_s,
        pace=sent / seconds if seconds else math.nan,
        seconds=seconds,
        latency_ms=_latency(recording),
        spans=_spans(recording),
        timeline=_thin(recording.snapshots),
        events=events,
        versions=tuple(recording.versions),
        measure=recording.scores.measure,
    )


def accuracy(recording: Recording, start: int, stop: int) -> Accuracy:
    """Return the accuracy, or R2, over the live rows from ``start`` to ``stop``."""
    rows = slice(start, stop)
    y, predicted = recording.y[rows], recording.predicted[rows]
    judged = known(y) & known(predicted)
    count = int(judged.sum())
    if not count:
        return Accuracy(start, stop, 0, math.nan, math.nan)
    scores = recording.scores
    ours = float(scores(predicted, y)[judged].mean())
    frozen = float(scores(recording.frozen[rows], y)[judged].mean())
    return Accuracy(start, stop, count, ours, frozen)


def _after_drift(recording: Recording, events: Sequence[EventView]) -> Accuracy | None:
    told = [e.at for e in events if e.kind == "drift"][:1]
    if not told:
        return None
    return accuracy(recording, _row_at(recording, told[0] + 1), _row_at(recording, told[0] + 11))


def stretches(recording: Recording, count: int) -> tuple[Accuracy, ...]:
    """Return the accuracy over each of ``count`` equal stretches of the stream."""
    cut = np.linspace(0, len(recording.y), count + 1).astype(int).tolist()
    return tuple(accuracy(recording, a, b) for a, b in pairwise(cut))


def mixed_answers(recording: Recording) -> int:
    """Count the answered rows that contradict the version they should have come from.

    A row is counted if its version was seen with two weights hashes, or if it was sent after the
    platform had said that another version is live everywhere and its own version was not live at
    any look from then until shortly after the answer.
    """
    answered = np.flatnonzero(recording.version > 0)
    torn = [v for v, hashes in recording.hashes.items() if len(hashes) > 1]
    bad = np.isin(recording.version[answered], torn)
    looks = [s for s in recording.snapshots if s.live_version]
    if looks:
        asked = np.array([s.asked_at for s in looks])
        heard = np.array([s.at for s in looks])
        live = np.array([s.live_version for s in looks])
        low = np.searchsorted(heard, recording.sent_at[answered], side="right") - 1
        high = np.searchsorted(asked, recording.answered_at[answered] + GRACE_S, side="left")
        for i, row in enumerate(answered):
            if low[i] >= 0:
                said = live[low[i] : min(high[i], len(live) - 1) + 1]
                bad[i] |= recording.version[row] not in said
    return int(bad.sum())


def _two_fifths(stream: Stream) -> int:
    """Return the live row at two fifths of the stream, or of the file that it is a part of."""
    return max(0, 2 * (stream.rows_before + len(stream)) // 5 - stream.rows_before)


def _lag(stream: Stream) -> float:
    labelled = np.flatnonzero(stream.label_at < NEVER)
    lag = stream.label_at[labelled] - labelled - 1
    return float(np.median(lag)) if len(lag) else math.nan


def _row_at(recording: Recording, at: float) -> int:
    """Return the number of rows sent at a time."""
    return int(np.searchsorted(recording.sent_at[: recording.sent], at, side="right"))


def _seconds(recording: Recording) -> float:
    sent_at = recording.sent_at[: recording.sent]
    return float(sent_at[-1] - sent_at[0]) if len(sent_at) else 0.0


def _adaptations(events: tuple[EventView, ...]) -> tuple[Adaptation, ...]:
    """Pair each drift with the next promotion."""
    found: list[Adaptation] = []
    drift: EventView | None = None
    for event in events:
        if event.kind == "drift" and drift is None:
            drift = event
        elif event.kind == "promoted" and drift is not None:
            found.append(Adaptation(drift.row or 0, event.row or 0, event.at - drift.at))
            drift = None
    return tuple(found)


def _latency(recording: Recording) -> dict[str, float]:
    taken = (recording.answered_at - recording.due_at)[recording.version > 0] * 1000.0
    if not len(taken):
        return {}
    found = {f"p{q:g}": float(np.percentile(taken, q)) for q in (50, 90, 95, 99, 99.9)}
    return {**found, "max": float(taken.max())}


def _spans(recording: Recording) -> tuple[tuple[int, int, int], ...]:
    answered = np.flatnonzero(recording.version > 0)
    if not len(answered):
        return ()
    version = recording.version[answered]
    starts = np.concatenate([[0], np.flatnonzero(np.diff(version)) + 1])
    stops = [*answered[starts[1:]].tolist(), recording.sent]
    return tuple(
        (int(answered[s]), int(stop), int(version[s]))
        for s, stop in zip(starts, stops, strict=True)
    )


def _thin(snapshots: list[Snapshot]) -> tuple[Snapshot, ...]:
    """Keep a bounded number of snapshots, and every one at which something changed."""
    step = max(1, len(snapshots) // TIMELINE_POINTS)
    kept = []
    for i, s in enumerate(snapshots):
        before = snapshots[i - 1] if i else None
        changed = before is None or (s.phase, s.level) != (before.phase, before.level)
        if changed or i % step == 0 or i == len(snapshots) - 1:
            kept.append(s)
    return tuple(kept)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
