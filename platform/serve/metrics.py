"""Prometheus metrics of all replicas and of the control plane, as one page.

A scrape reaches one replica of many, behind a load balancer. So each replica counts for itself
and hands out snapshots as plain data; the page sums them. Labels name model, version, signal and
outcome, never a replica or a request: their number stays bounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024, 4096)

TRAINING = {
    "step": ("steps", "Gradient steps of the present retraining"),
    "share": ("progress_ratio", "Share of the present retraining that is over, 0 to 1"),
    "loss": ("loss", "Training loss of the present retraining"),
    "flops": ("flops", "Operations that the present retraining has spent"),
    "seconds": ("elapsed_seconds", "Wall time that the present retraining has spent"),
    "eta_s": ("remaining_seconds", "Wall time that the present retraining still needs"),
}
"""Gauges of a retraining in progress: name and help, by key of its progress."""

SampleKey = tuple[str, tuple[tuple[str, str], ...]]
"""Name of a sample and its labels."""


@dataclass(slots=True)
class Family:
    """One metric as plain data: picklable, and summable over replicas."""

    type: str
    help: str
    samples: dict[SampleKey, float] = field(default_factory=dict)


Snapshot = dict[str, Family]


class ReplicaMetrics:
    """What one replica counts.

    Args:
        model: Name of the model, the first label of every metric.
    """

    def __init__(self, model: str) -> None:
        self._registry = CollectorRegistry()
        self._model = model
        self._requests = self._counter("requests", "Inference requests answered", "version", "code")
        self._offered = self._counter("tap_rows", "Answered rows offered to the monitor")
        self._dropped = self._counter("tap_dropped_rows", "Answered rows the monitor never got")
        self._labels = self._counter("feedback_labels", "Labels received", "outcome")
        self._duration = Histogram(
            "undrift_request_duration_seconds",
            "Time from a request's arrival to its answer",
            ["model"],
            buckets=_SECONDS,
            registry=self._registry,
        ).labels(model)
        self._batch = Histogram(
            "undrift_batch_rows",
            "Rows computed together",
            ["model"],
            buckets=_ROWS,
            registry=self._registry,
        ).labels(model)

    def request(self, version: int | None, code: int, seconds: float) -> None:
        """Count one answered request.

        Args:
            version: Version that answered; None if none did.
            code: HTTP status.
            seconds: Time it took.
        """
        self._requests.labels(self._model, "" if version is None else str(version), code).inc()
        self._duration.observe(seconds)

    def batch(self, rows: int) -> None:
        """Count one forward pass over ``rows`` rows."""
        self._batch.observe(rows)

    def tap(self, offered: int, dropped: int) -> None:
        """Count rows offered to the tap and rows lost there, both since the last call."""
        self._offered.labels(self._model).inc(offered)
        self._dropped.labels(self._model).inc(dropped)

    def labels(self, outcome: str, n: int) -> None:
        """Count ``n`` labels received; ``outcome`` is ``accepted`` or ``rejected``."""
        self._labels.labels(self._model, outcome).inc(n)

    def snapshot(self) -> Snapshot:
        """Return all counts so far as plain data."""
        return {
            metric.name: Family(
                metric.type,
                metric.documentation,
                {
                    (s.name, tuple(sorted(s.labels.items()))): s.value
                    for s in metric.samples
                    if not s.name.endswith("_created")
                },
            )
            for metric in self._registry.collect()
        }

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"undrift_{name}", text, ["model", *labels], registry=self._registry)


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlFacts:
    """What the control plane knows, for the metrics page; what is left out is not shown.

    Attributes:
        model: Name of the model.
        live_version: Version that serves.
        phase: Present lifecycle phase.
        phases: All phases.
        drift_level: Level 0, 1 or 2 by signal; ``ensemble`` is a signal here.
        drift_statistic: Statistic by signal.
        labels: Number of labels by outcome of the join.
        label_lag_rows: Quantiles of the label lag, by quantile (0.5, 0.9, ...).
        swaps: Number of swaps by outcome.
        swap_seconds: Time that each successful swap took.
        rollbacks: Number of rollbacks.
        retrainings: Number of retrainings by trigger and outcome.
        training: How far the present retraining is; keys of `TRAINING`.
    """

    model: str
    live_version: int
    phase: str = ""
    phases: Sequence[str] = ()
    drift_level: Mapping[str, int] = field(default_factory=dict)
    drift_statistic: Mapping[str, float] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)
    label_lag_rows: Mapping[float, float] = field(default_factory=dict)
    swaps: Mapping[str, int] = field(default_factory=dict)
    swap_seconds: Sequence[float] = ()
    rollbacks: int = 0
    retrainings: Mapping[tuple[str, str], int] = field(default_factory=dict)
    training: Mapping[str, float] = field(default_factory=dict)

    def snapshot(self) -> Snapshot:
        """Return the facts in the form that replicas use."""
        phase = {p: float(p == self.phase) for p in self.phases}
        lag = {f"{q:g}": v for q, v in self.label_lag_rows.items()}
        swap = {"sum": sum(self.swap_seconds), "count": len(self.swap_seconds)}
        duration = Family("summary", "Time that swaps took")
        for part, value in swap.items():
            duration.samples[f"undrift_swap_duration_seconds_{part}", self._labelled()] = value
        retrainings = Family("counter", "Retrainings that ended")
        for (trigger, outcome), value in self.retrainings.items():
            labels = self._labelled(trigger=trigger, outcome=outcome)
            retrainings.samples["undrift_retrainings_total", labels] = value
        gauge, counter = self._gauge, self._counter
        training: Snapshot = {}
        for key, value in self.training.items():
            name, text = TRAINING[key]
            training |= gauge(f"training_{name}", text, "", {"": value})
        return {
            **training,
            **gauge("live_version", "Version that serves", "", {"": self.live_version}),
            **gauge("lifecycle_phase", "1 for the present phase", "phase", phase),
            **gauge("drift_level", "0 none, 1 warning, 2 drift", "signal", self.drift_level),
            **gauge("drift_statistic", "Statistic of a signal", "signal", self.drift_statistic),
            **gauge("label_lag_rows", "Rows from prediction to label", "quantile", lag),
            **counter("labels_joined", "Labels by outcome of the join", "outcome", self.labels),
            **counter("swaps", "Changes of version", "outcome", self.swaps),
            **counter("rollbacks", "Returns to an older version", "", {"": self.rollbacks}),
            "undrift_retrainings": retrainings,
            "undrift_swap_duration_seconds": duration,
        }

    def _gauge(self, name: str, text: str, label: str, values: Mapping[str, float]) -> Snapshot:
        return {f"undrift_{name}": self._family("gauge", name, text, label, values)}

    def _counter(self, name: str, text: str, label: str, values: Mapping[str, float]) -> Snapshot:
        return {f"undrift_{name}": self._family("counter", f"{name}_total", text, label, values)}

    def _family(
        self, kind: str, sample: str, text: str, label: str, values: Mapping[str, float]
    ) -> Family:
        family = Family(kind, text)
        for key, value in values.items():
            labels = self._labelled(**{label: key}) if label else self._labelled()
            family.samples[f"undrift_{sample}", labels] = value
        return family

    def _labelled(self, **labels: str) -> tuple[tuple[str, str], ...]:
        return tuple(sorted({"model": self.model, **labels}.items()))


def total(snapshots: Iterable[Snapshot]) -> Snapshot:
    """Sum snapshots; keep the sum of dead replicas, so that no total ever goes backwards."""
    result: Snapshot = {}
    for snapshot in snapshots:
        for name, family in snapshot.items():
            into = result.setdefault(name, Family(family.type, family.help))
            for key, value in family.samples.items():
                into.samples[key] = into.samples.get(key, 0.0) + value
    return result


def exposition(snapshots: Iterable[Snapshot]) -> bytes:
    """Return the text of ``/metrics``, of the media type ``CONTENT_TYPE``.

    Args:
        snapshots: One per replica, the sum over dead ones, and one of the control plane.
    """
    registry = CollectorRegistry()
    registry.register(_Fixed(total(snapshots)))
    return generate_latest(registry)


class _Fixed(Collector):
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterable[Metric]:
        for name, family in self._snapshot.items():
            metric = Metric(name, family.help, family.type)
            for (sample, labels), value in family.samples.items():
                metric.add_sample(sample, dict(labels), value)
            yield metric
