"""What the control plane knows, as metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from undrift.control.fullness import Room
from undrift.control.state import Phase, State
from undrift.control.story import Story, Times
from undrift.control.views import rollout
from undrift.evidence import ComparisonReport, Evidence, RolloutView
from undrift.monitor.report import MonitorReport
from undrift.serve.metrics import Family, Snapshot

_Values = Mapping[Any, float]  # by a tuple of the labels' values

TRAINING = {
    "step": ("steps", "Gradient steps of the present retraining"),
    "share": ("progress_ratio", "Share of the present retraining that is over, 0 to 1"),
    "loss": ("loss", "Training loss of the present retraining"),
    "flops": ("flops", "Operations that the present retraining has spent"),
    "seconds": ("elapsed_seconds", "Wall time that the present retraining has spent"),
    "eta_s": ("remaining_seconds", "Wall time that the present retraining still needs"),
}
"""Gauges of a retraining in progress: name and help, by key of its progress."""


LOOKED_UP = ("found", "unknown", "skipped")  # outcomes of a look-up; skipped never was one

ROLLOUT = {
    "share": ("share_ratio", "Share of the requests that the version in a rollout gets, 0 to 1"),
    "rows": ("rows", "Labelled rows compared in the present stage of a rollout"),
    "wanted": ("wanted_rows", "Labelled rows after which the present stage is passed"),
    "asked": ("asked_rows", "Rows that both versions were asked in the present stage"),
}
"""Gauges of a rollout in progress: name and help, by attribute of its view."""

ACCURACIES = {"labels": "window", "reference": "reference", "estimate": "estimated"}
"""What an accuracy is of, by the label ``of``; the values are keys of the monitor's summary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlFacts:
    """What the control plane knows, for the metrics page; what is left out is not shown.

    Attributes:
        model: Name of the model.
        live_version: Version that serves.
        phase: Present lifecycle phase.
        phases: All phases.
        evidence: What the monitor has found; None before its first report.
        labels: The monitor's summary of labels: outcomes of the join, coverage, lag, late ones.
        accuracy: The monitor's accuracies: of the newest labels, the reference, and estimated.
        swaps: Number of swaps by outcome.
        swap_seconds: Time that successful swaps took.
        rollbacks: Number of rollbacks.
        retrainings: Number of retrainings by trigger and outcome.
        retraining_seconds: Time from the order to the verdict, of the retrainings.
        training: How far the present retraining is; keys of `TRAINING`.
        rollout: How far a rollout by stages is; None without one.
        lost_rows: Rows that the monitor took and could not store.
        room: What the disk of the state has left; None if that is not known.
        webhooks: Number of events by what became of their delivery.
    """

    model: str
    live_version: int
    phase: str = ""
    phases: Sequence[str] = ()
    evidence: Evidence | None = None
    labels: Mapping[str, Any] = field(default_factory=dict)
    accuracy: Mapping[str, float | None] = field(default_factory=dict)
    swaps: Mapping[str, int] = field(default_factory=dict)
    swap_seconds: Times = field(default_factory=Times)
    rollbacks: int = 0
    retrainings: Mapping[tuple[str, str], int] = field(default_factory=dict)
    retraining_seconds: Times = field(default_factory=Times)
    training: Mapping[str, float] = field(default_factory=dict)
    rollout: RolloutView | None = None
    lost_rows: int = 0
    room: Room | None = None
    webhooks: Mapping[str, int] = field(default_factory=dict)

    def snapshot(self) -> Snapshot:
        """Return the facts in the form that replicas use."""
        gauge, counter, times = self._gauge, self._counter, self._times
        page = {
            **gauge("live_version", "Version that serves", {(): self.live_version}),
            **gauge(
                "lifecycle_phase",
                "1 for the present phase",
                {(p,): float(p == self.phase) for p in self.phases},
                "phase",
            ),
            **counter("swaps", "Changes of version", _by(self.swaps), "outcome"),
            **times("swap_duration_seconds", "Time that swaps took", self.swap_seconds),
            **counter("rollbacks", "Returns to an older version", {(): self.rollbacks}),
            **counter(
                "retrainings", "Retrainings that ended", self.retrainings, "trigger", "outcome"
            ),
            **counter("webhook_events", "Events for webhooks", _by(self.webhooks), "outcome"),
            **times(
                "retraining_duration_seconds",
                "Time from a retraining's order to its verdict",
                self.retraining_seconds,
            ),
        }
        for key, value in self.training.items():
            name, text = TRAINING[key]
            page |= gauge(f"training_{name}", text, {(): value})
        if self.rollout is not None:
            told = {key: getattr(self.rollout, key) for key in ROLLOUT}
            for key, value in told.items():
                name, text = ROLLOUT[key]
                page |= gauge(f"rollout_{name}", text, {(): value})
        page |= self._left(self.room) if self.room else {}
        return page if self.evidence is None else {**page, **self._heard(self.evidence)}

    def _left(self, room: Room) -> Snapshot:
        """Return what the disk of the state has left."""
        full = {} if room.days_left is None else {(): 86_400.0 * room.days_left}
        return {
            **self._gauge(
                "state_free_bytes", "What the disk of the state has left", {(): room.free_bytes}
            ),
            **self._gauge(
                "state_free_ratio", "Share of that disk that is free, 0 to 1", {(): room.free_share}
            ),
            **self._gauge(
                "state_full_in_seconds",
                "When that disk is full at the present rate; left out if never, or not known",
                full,
            ),
        }

    def _heard(self, evidence: Evidence) -> Snapshot:
        """Return what the monitor has found."""
        gauge, signals = self._gauge, evidence.signals
        levels = {"ensemble": evidence.level} | {s.name: s.level for s in signals}
        limits = {(s.name, "warning"): s.warning_at for s in signals}
        limits |= {(s.name, "drift"): s.drift_at for s in signals}
        lag = {
            unit: {(f"{int(key[1:]) / 100:g}",): value for key, value in (found or {}).items()}
            for unit, found in self.labels["lag"].items()
        }
        known = {name: self.accuracy[key] for name, key in ACCURACIES.items()}
        accuracy = {(name,): value for name, value in known.items() if value is not None}
        coverage = self.labels["coverage_beyond_lag"]
        due = {} if coverage is None else {(): coverage}
        lead = {} if evidence.better is None else {(): evidence.better.lead}
        late = self.labels["late"]
        return {
            **gauge("drift_level", "0 none, 1 warning, 2 drift", _by(levels), "signal"),
            **gauge(
                "drift_statistic",
                "Statistic of a signal",
                {(s.name,): s.statistic for s in signals},
                "signal",
            ),
            **gauge("drift_limit", "Statistic at which a level begins", limits, "signal", "level"),
            **gauge(
                "accuracy_ratio",
                "Share of right answers, 0 to 1, or R2 of a regression",
                accuracy,
                "of",
            ),
            **gauge(
                "challenger_lead_ratio",
                "Accuracy that retraining would gain, by the challenger that shows that it pays",
                lead,
            ),
            **self._counter(
                "lost_rows", "Rows that were taken and not stored", {(): self.lost_rows}
            ),
            **self._counter(
                "labels_joined",
                "Labels by outcome of the join",
                _by(self.labels["outcomes"]),
                "outcome",
            ),
            **self._counter(
                "labels_looked_up",
                "Labels too late for the signals, by whether the store has their prediction",
                {(name,): late[name] for name in LOOKED_UP if late},
                "outcome",
            ),
            **gauge(
                "labels_to_look_up",
                "Labels too late for the signals that wait to be looked up in the store",
                {(): late["waiting"]} if late else {},
            ),
            **gauge(
                "labels_missing",
                "1 if no label has come for longer than label_lag_rows",
                {(): evidence.labels_missing},
            ),
            **gauge("label_coverage_ratio", "Share of rows whose label was due and came", due),
            **gauge("label_lag_rows", "Rows from prediction to label", lag["rows"], "quantile"),
            **gauge(
                "label_lag_seconds", "Time from prediction to label", lag["seconds"], "quantile"
            ),
        }

    def _gauge(self, name: str, text: str, values: _Values, *labels: str) -> Snapshot:
        return {f"undrift_{name}": self._family("gauge", name, text, values, labels)}

    def _counter(self, name: str, text: str, values: _Values, *labels: str) -> Snapshot:
        family = self._family("counter", f"{name}_total", text, values, labels)
        return {f"undrift_{name}": family}

    def _times(self, name: str, text: str, times: Times) -> Snapshot:
        family = Family("summary", text)
        for part, value in (("sum", times.seconds), ("count", times.count)):
            family.samples[f"undrift_{name}_{part}", (("model", self.model),)] = value
        return {f"undrift_{name}": family}

    def _family(
        self, kind: str, sample: str, text: str, values: _Values, labels: Sequence[str]
    ) -> Family:
        family = Family(kind, text)
        for key, value in values.items():
            named = {"model": self.model, **dict(zip(labels, key, strict=True))}
            family.samples[f"undrift_{sample}", tuple(sorted(named.items()))] = float(value)
        return family


def _by(values: Mapping[str, float]) -> _Values:
    return {(key,): value for key, value in values.items()}


def facts(
    model: str,
    state: State,
    story: Story,
    report: MonitorReport | None,
    training: Mapping[str, Any] | None,
    room: Room | None = None,
    webhooks: Mapping[str, int] | None = None,
) -> ControlFacts:
    """Return what the control plane knows, for the metrics page.

    Args:
        model: Name of the model.
        state: What the lifecycle remembers.
        story: What has happened.
        report: What the monitor told last; None before its first report.
        training: How far the training of the present run is.
        room: What the disk of the state has left; None if that is not known.
        webhooks: Number of events by what became of their delivery.
    """
    summary = report.summary if report else None
    return ControlFacts(
        model=model,
        live_version=state.live,
        phase=state.phase,
        phases=[phase.value for phase in Phase],
        swaps=story.swaps,
        swap_seconds=story.swap_seconds,
        rollbacks=story.counts.get("rolled_back", 0),
        retrainings=story.retrainings,
        retraining_seconds=story.retraining_seconds,
        training=training or {} if state.phase == Phase.RETRAINING else {},
        rollout=rollout(state, report.comparison if report else ComparisonReport()),
        evidence=report.evidence if report else None,
        labels=asdict(summary.labels) if summary else {},
        accuracy=asdict(summary.accuracy) if summary else {},
        lost_rows=report.lost_rows if report else 0,
        room=room,
        webhooks=webhooks or {},
    )
