"""What a drift policy makes of a stream, and the fold over recorded steps that finds out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from undrift.events import Codec, Rearm
from undrift.evidence import Evidence, Level
from undrift.monitor.history import Moment, take
from undrift.monitor.monitor import Monitor
from undrift.records import IntArray, Reference

Observe = Callable[[Moment, Evidence], None]


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened.

    Attributes:
        row: Predictions seen when it happened.
        kind: ``warning``, ``drift``, ``calm`` (back to none) or ``rearmed``; in a simulation
            ``retraining`` and ``failed``, and ``promoted`` and ``rolled_back`` for ``rearmed``.
        text: One sentence for a person.
        version: Model version that was watched.
        evidence: What the monitor knew, if it rose to this level.
    """

    row: int
    kind: str
    text: str
    version: int
    evidence: Evidence | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        evidence = None if self.evidence is None else Codec.encode(self.evidence)
        return {
            "row": self.row,
            "kind": self.kind,
            "text": self.text,
            "version": self.version,
            "evidence": evidence,
        }


@dataclass(frozen=True, slots=True)
class Trace:
    """The statistic of each signal after each commit, and its limits.

    Attributes:
        names: k names of signals.
        row: (m,) predictions seen.
        statistic: (m, k) statistics.
        warning_at: (m, k) their warning limits.
        drift_at: (m, k) their drift limits.
    """

    names: tuple[str, ...]
    row: IntArray
    statistic: NDArray[np.float64]
    warning_at: NDArray[np.float64]
    drift_at: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Timeline:
    """What a policy made of a stream; the same stream and policy give the same timeline.

    Attributes:
        entries: What happened, in order.
        trace: The signals over the stream.
        last: What the monitor knew at the end.
    """

    entries: tuple[Entry, ...]
    trace: Trace
    last: Evidence

    @property
    def counts(self) -> dict[str, int]:
        """Entries by kind."""
        return dict(Counter(entry.kind for entry in self.entries))


class Scribe:
    """Writes a timeline: an entry when the level goes higher than since it was last none, or back.

    So one drift whose evidence comes and goes is one entry until all is calm again, or another
    version is watched.
    """

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._rows: list[int] = []
        self._figures: list[list[tuple[float, float, float]]] = []
        self._highest = Level.NONE
        self._last: Evidence | None = None

    def look(self, evidence: Evidence) -> None:
        """Take in the evidence after a commit."""
        self._last = evidence
        if evidence.level > self._highest:
            self._enter(evidence, evidence.level.name.lower(), evidence.reason, evidence)
            self._highest = evidence.level
        elif evidence.level is Level.NONE and self._highest > Level.NONE:
            self._enter(evidence, "calm", evidence.reason)
            self._highest = Level.NONE
        self._rows.append(evidence.rows)
        self._figures.append([(s.statistic, s.warning_at, s.drift_at) for s in evidence.signals])

    def rearmed(self, evidence: Evidence, text: str, kind: str = "rearmed") -> None:
        """Take in the first evidence after a re-arming; levels rise from none again."""
        self._last = evidence
        self._highest = Level.NONE
        self._enter(evidence, kind, text)

    def note(self, kind: str, text: str) -> None:
        """Enter what somebody else decided; there was a commit before."""
        assert self._last is not None
        self._enter(self._last, kind, text)

    def timeline(self) -> Timeline | None:
        """Return what was written, None if there was no commit."""
        if self._last is None:
            return None
        figures = np.array(self._figures, dtype=np.float64).reshape(
            len(self._rows), len(self._last.signals), 3
        )
        trace = Trace(
            tuple(s.name for s in self._last.signals),
            np.array(self._rows, dtype=np.int64),
            *(figures[:, :, i] for i in range(3)),
        )
        return Timeline(tuple(self._entries), trace, self._last)

    def _enter(self, at: Evidence, kind: str, text: str, evidence: Evidence | None = None) -> None:
        self._entries.append(Entry(at.rows, kind, text, at.version, evidence))


def replay_recording(
    moments: Iterable[Moment],
    monitor: Monitor,
    reference: Callable[[int], Reference],
    *,
    observe: Observe | None = None,
) -> Timeline | None:
    """Fold recorded steps through a monitor.

    With the settings of the live run, the evidence after every step is that of the live run, byte
    for byte.

    Args:
        moments: Recorded commits, and the re-armings between them.
        monitor: The monitor where the record begins, with the drift policy.
        reference: Returns the reference of a version.
        observe: Called after each step with the evidence.

    Returns:
        What the policy makes of the stream; None if there is no step.

    Raises:
        ConfigError: A reference cannot calibrate the signals under these settings.
    """
    scribe = Scribe()
    for moment in moments:
        take(monitor, moment, reference)
        evidence = monitor.evidence()
        if not isinstance(moment.rearm, Rearm):
            scribe.look(evidence)
        else:
            since = f"for the regime since row {moment.rearm.regime_start:,}"
            scribe.rearmed(evidence, f"version {evidence.version}, {since}")
        if observe is not None:
            observe(moment, evidence)
    return scribe.timeline()
