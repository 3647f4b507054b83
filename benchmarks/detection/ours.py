"""The product's monitor on a stream, fed in ticks with labels late by a lag, as it is live."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from benchmarks.detection.rows import Rows, Stream
from undrift.evidence import Evidence, Level
from undrift.monitor.monitor import Monitor
from undrift.monitor.settings import MonitorSettings

TICK = 50
VERSION = 1


@dataclass(frozen=True, slots=True)
class Point:
    """What counts as an alarm, and how often a false one may come.

    Attributes:
        budget: ``monitor.rows_per_false_drift``.
        level: An alarm is this level or a higher one, of the ensemble.
        statistic: ``monitor.performance_statistic``.
    """

    budget: int
    level: Level
    statistic: str = "error"

    @property
    def settings(self) -> MonitorSettings:
        """Settings of the monitor; all others are as shipped."""
        return MonitorSettings(
            rows_per_false_drift=self.budget, performance_statistic=self.statistic
        )

    @property
    def rows_per_false_alarm(self) -> float:
        """Stated mean number of rows between false alarms of the ensemble at this level."""
        if self.level is Level.DRIFT:
            return float(self.budget)
        return self.budget / self.settings.warnings_per_drift

    def __str__(self) -> str:
        end = "" if self.statistic == "error" else f"-{self.statistic}"
        return f"{self.level.name.lower()}-{self.budget}{end}"


@dataclass(slots=True)
class Outcome:
    """What the monitor said on one stream.

    Attributes:
        rows: Rows until it was stopped.
        false: Rows of the alarms before the drift; after each it was armed anew.
        alert: Rows before the drift at which the level was above none, in whole ticks.
        detected: Row of the first alarm at or after the drift.
        arrival: Newest row when that alarm was raised; later than ``detected`` for late labels.
        kind: What it said has changed.
        change_row: Where it said the change was.
        signals: Signals above none at that time.
        moved: What it said moved most.
        warned: True if it warned at or after the drift.
    """

    rows: int = 0
    false: list[int] = field(default_factory=list)
    alert: int = 0
    detected: int | None = None
    arrival: int | None = None
    kind: str = ""
    change_row: int | None = None
    signals: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    warned: bool = False

    def plain(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def watch(stream: Stream, point: Point, lag: int) -> Outcome:
    """Run the monitor over a stream until its first alarm at or after the drift.

    Args:
        stream: Reference and rows.
        point: Budget, and what counts as an alarm.
        lag: Rows by which labels are late.

    Returns:
        Its alarms. One before the drift is false: it is counted, and the monitor is armed anew on
        the same reference.
    """
    reference = stream.reference.reference()
    monitor = Monitor(point.settings, reference, VERSION)
    onset = len(stream.rows) if stream.onset is None else stream.onset
    outcome = Outcome()
    for newest in ticks(monitor, stream.rows, lag):
        outcome.rows = newest
        evidence = monitor.evidence()
        outcome.warned |= any((s.since_row or 0) >= onset for s in evidence.signals)
        if newest <= onset and evidence.level > Level.NONE:
            outcome.alert += TICK
        if evidence.level < point.level:
            continue
        row, arrival = raised(evidence, point.level, lag)
        if row < onset:
            outcome.false.append(row)
            monitor.rearm(VERSION, reference, regime_start=row)
            continue
        outcome.detected, outcome.arrival = row, arrival
        _describe(outcome, evidence)
        return outcome
    return outcome


def ticks(monitor: Monitor, rows: Rows, lag: int, tick: int = TICK) -> Iterator[int]:
    """Feed ``rows`` to ``monitor``, labels ``lag`` rows late; yield the number of rows so far.

    When the rows have ended, the labels that are still due come on, without predictions.
    """
    n = len(rows)
    predictions = rows.predictions()
    for start in range(0, n + lag, tick):
        stop = start + tick
        batch = predictions.take(np.arange(start, min(stop, n))) if start < n else None
        due = slice(max(0, start - lag), min(max(0, stop - lag), n))
        labels = rows.labels(due.start, due.stop, lag) if due.stop > due.start else None
        monitor.fold(batch, labels)
        yield min(stop, n)


def raised(evidence: Evidence, level: Level, lag: int) -> tuple[int, int]:
    """Return at which row the ensemble reached ``level``, and the newest row at that time.

    A signal's level is reached at the row of a prediction; if that took its label, the news came
    ``lag`` rows later. Label-free signals make no drift.
    """
    found = []
    for signal in evidence.signals:
        late = signal.name == "performance"
        if signal.level < level or (level is Level.DRIFT and not late):
            continue
        assert signal.since_row is not None
        found.append((signal.since_row + lag * late, signal.since_row))
    arrival, row = min(found)
    return row, arrival


def _describe(outcome: Outcome, evidence: Evidence) -> None:
    outcome.kind = evidence.kind.value
    outcome.change_row = evidence.change_row
    above = [s for s in evidence.signals if s.level > Level.NONE]
    outcome.signals = [s.name for s in above]
    outcome.moved = [
        f"{c.what} {c.name}: {c.measure} {c.effect:.2f}" for s in above for c in s.changes
    ]
