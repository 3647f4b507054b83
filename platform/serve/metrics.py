"""Prometheus metrics of all replicas and of the control plane, as one page.

A scrape reaches one replica of many, behind a load balancer. So each replica counts for itself
and hands out snapshots as plain data; the page sums them. Labels name model, version, signal and
outcome, never a replica or a request, and old versions are dropped: their number stays bounded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
VERSIONS = 4  # that a replica counts: more than are shown, so a series ends in all at once
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024, 4096)


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
        self._versions: dict[str, None] = {}  # the one that answered last comes last
        self._answered: dict[tuple[str, int], Counter] = {}
        self._requests = self._counter("requests", "Inference requests answered", "version", "code")
        self._offered = self._counter("tap_rows", "Answered rows offered to the monitor")
        self._dropped = self._counter("tap_dropped_rows", "Answered rows the monitor never got")
        self._left_out = self._counter(
            "tap_left_out_rows", "Answered rows left out, for there are more than are watched"
        )
        self._left_out.labels(model)  # 0 until there are any
        self._tried = self._counter(
            "candidate_rows", "Rows of requests that fell to a version in a rollout", "outcome"
        )
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
        name = _name(version)
        counter = self._answered.get((name, code))
        if counter is None:
            counter = self._requests.labels(self._model, name, code)
            self._answered[name, code] = counter
        counter.inc()
        self._duration.observe(seconds)
        if name:
            self._versions.pop(name, None)
            self._versions[name] = None
        if len(self._versions) > VERSIONS:
            oldest = next(iter(self._versions))
            del self._versions[oldest]
            self._requests.remove_by_labels({"version": oldest})
            self._answered.clear()

    def batch(self, rows: int) -> None:
        """Count one forward pass over ``rows`` rows."""
        self._batch.observe(rows)

    def tap(self, offered: int, dropped: int) -> None:
        """Count rows offered to the tap and rows lost there, both since the last call."""
        self._offered.labels(self._model).inc(offered)
        self._dropped.labels(self._model).inc(dropped)

    def left_out(self, rows: int) -> None:
        """Count answered rows that were not drawn to be watched."""
        self._left_out.labels(self._model).inc(rows)

    def tried(self, outcome: str, n: int) -> None:
        """Count ``n`` rows that fell to a version in a rollout.

        Args:
            outcome: ``answered`` by a canary, ``asked`` of a shadow, ``dropped`` as the shadow was
                busy, or ``failed``, which the live version answered.
            n: How many.
        """
        self._tried.labels(self._model, outcome).inc(n)

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


def total(snapshots: Iterable[Snapshot]) -> Snapshot:
    """Sum snapshots; keep the sum of dead replicas, so that no total ever goes backwards."""
    result: Snapshot = {}
    for snapshot in snapshots:
        for name, family in snapshot.items():
            into = result.setdefault(name, Family(family.type, family.help))
            for key, value in family.samples.items():
                into.samples[key] = into.samples.get(key, 0.0) + value
    return result


def of_versions(snapshot: Snapshot, versions: Collection[int | None]) -> Snapshot:
    """Return a snapshot without the counts of other versions; None is where no version answered."""
    wanted = {_name(version) for version in versions}
    return {
        name: replace(
            family,
            samples={
                (sample, labels): value
                for (sample, labels), value in family.samples.items()
                if dict(labels).get("version", "") in wanted
            },
        )
        for name, family in snapshot.items()
    }


def exposition(snapshots: Iterable[Snapshot]) -> bytes:
    """Return the text of ``/metrics``, of the media type ``CONTENT_TYPE``.

    Args:
        snapshots: One per replica, the sum over dead ones, and one of the control plane.
    """
    registry = CollectorRegistry()
    registry.register(_Fixed(total(snapshots)))
    return generate_latest(registry)


def _name(version: int | None) -> str:
    return "" if version is None else str(version)


class _Fixed(Collector):
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterable[Metric]:
        for name, family in self._snapshot.items():
            metric = Metric(name, family.help, family.type)
            for (sample, labels), value in family.samples.items():
                metric.add_sample(sample, dict(labels), value)
            yield metric
