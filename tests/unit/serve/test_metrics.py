from __future__ import annotations

import pickle
from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families

from undrift.control.facts import ControlFacts
from undrift.control.fullness import Room
from undrift.control.story import Times
from undrift.evidence import Challenger, DriftKind, Evidence, Level, SignalReport
from undrift.serve.metrics import ReplicaMetrics, Snapshot, exposition, of_versions, total

SIGNALS = ("input", "output", "performance")
EVIDENCE = Evidence(
    level=Level.DRIFT,
    kind=DriftKind.CONCEPT,
    signals=tuple(SignalReport(name, Level.WARNING, 4.5, 10.0, 100.0) for name in SIGNALS),
    version=3,
    rows=900,
    labelled=7,
    labels_missing=True,
    better=Challenger("250 rows", 250, True, weight=0.5, lead=0.25, low=0.125, rows=400),
)
QUANTILES = {"p50": 100.0, "p90": 300.0, "p99": 400.0}
FACTS = ControlFacts(
    model="m",
    live_version=3,
    phase="drift",
    phases=("healthy", "drift"),
    evidence=EVIDENCE,
    labels={
        "outcomes": {"joined": 7, "unknown": 1},
        "coverage_beyond_lag": 0.75,
        "lag": {"rows": QUANTILES, "seconds": None},
        "late": {"found": 5, "unknown": 2, "skipped": 0, "waiting": 3},
    },
    accuracy={"window": 0.75, "reference": 0.5, "estimated": None},
    swaps={"done": 2, "failed": 1},
    swap_seconds=Times(2, 0.75),
    rollbacks=1,
    retrainings={("drift", "accepted"): 2, ("manual", "rejected"): 1},
    retraining_seconds=Times(2, 9.0),
    lost_rows=5,
    room=Room(1 << 30, 0.25, 2.0),
    webhooks={"delivered": 3, "failed": 1},
)


def read(page: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (s.name, tuple(sorted((k, v) for k, v in s.labels.items() if k != "model"))): s.value
        for family in text_string_to_metric_families(page.decode())
        for s in family.samples
    }


def replica(requests: int) -> ReplicaMetrics:
    metrics = ReplicaMetrics("m")
    for _ in range(requests):
        metrics.request(3, 200, 0.004)
        metrics.batch(2)
    metrics.request(None, 400, 0.5)
    metrics.tap(offered=10 * requests, dropped=requests)
    metrics.labels("accepted", 4)
    return metrics


def test_counters_and_histograms_are_summed_over_replicas() -> None:
    page = read(exposition([replica(2).snapshot(), replica(3).snapshot()]))
    assert page["undrift_requests_total", (("code", "200"), ("version", "3"))] == 5
    assert page["undrift_requests_total", (("code", "400"), ("version", ""))] == 2
    assert page["undrift_tap_rows_total", ()] == 50
    assert page["undrift_tap_dropped_rows_total", ()] == 5
    assert page["undrift_feedback_labels_total", (("outcome", "accepted"),)] == 8
    assert page["undrift_request_duration_seconds_bucket", (("le", "0.005"),)] == 5
    assert page["undrift_request_duration_seconds_bucket", (("le", "+Inf"),)] == 7
    assert page["undrift_request_duration_seconds_count", ()] == 7
    assert abs(page["undrift_request_duration_seconds_sum", ()] - 1.02) < 1e-9
    assert page["undrift_batch_rows_sum", ()] == 10


def test_sum_of_dead_replicas_stays_in_the_total() -> None:
    dead = total([replica(2).snapshot(), replica(3).snapshot()])
    key = ("undrift_requests_total", (("code", "200"), ("version", "3")))
    assert read(exposition([dead, replica(1).snapshot()]))[key] == 6
    assert read(exposition([total([dead, replica(1).snapshot()])]))[key] == 6


def versions(snapshot: Snapshot) -> set[str]:
    return {dict(labels)["version"] for _, labels in snapshot["undrift_requests"].samples}


def test_replica_counts_the_versions_that_answered_last() -> None:
    metrics = ReplicaMetrics("m")
    for version in (None, *range(1, 301), 297, 300):  # 297 was rolled back to, for a while
        metrics.request(version, 200, 0.001)
        metrics.request(version, 499, 0.001)
    assert versions(metrics.snapshot()) == {"", "297", "298", "299", "300"}
    metrics.request(301, 200, 0.001)
    assert versions(metrics.snapshot()) == {"", "297", "299", "300", "301"}


def test_counts_of_other_versions_are_left_out_and_all_else_stays() -> None:
    metrics = replica(2)
    metrics.request(4, 200, 0.001)
    whole = metrics.snapshot()
    found = of_versions(whole, {None, 4})
    assert versions(found) == {"", "4"}
    assert versions(whole) == {"", "3", "4"}
    assert {k: v for k, v in found.items() if k != "undrift_requests"} == {
        k: v for k, v in whole.items() if k != "undrift_requests"
    }


def test_summing_leaves_the_snapshots_alone() -> None:
    snapshot = replica(1).snapshot()
    before = pickle.dumps(snapshot)
    total([snapshot, snapshot])
    assert pickle.dumps(snapshot) == before


def test_snapshots_and_facts_survive_pickling() -> None:
    snapshot = replica(1).snapshot()
    assert pickle.loads(pickle.dumps(snapshot)) == snapshot
    assert pickle.loads(pickle.dumps(FACTS)).snapshot() == FACTS.snapshot()


def test_control_plane_is_shown_beside_the_replicas() -> None:
    page = read(exposition([replica(1).snapshot(), FACTS.snapshot()]))
    assert page["undrift_live_version", ()] == 3
    assert page["undrift_lifecycle_phase", (("phase", "drift"),)] == 1
    assert page["undrift_lifecycle_phase", (("phase", "healthy"),)] == 0
    assert page["undrift_drift_level", (("signal", "ensemble"),)] == 2
    assert page["undrift_drift_statistic", (("signal", "input"),)] == 4.5
    limits = {k[1]: v for k, v in page.items() if k[0] == "undrift_drift_limit"}
    assert limits[("level", "drift"), ("signal", "input")] == 100
    assert limits[("level", "warning"), ("signal", "input")] == 10
    assert len(limits) == 6
    assert page["undrift_labels_joined_total", (("outcome", "unknown"),)] == 1
    late = {k[1][0][1]: v for k, v in page.items() if k[0] == "undrift_labels_looked_up_total"}
    assert late == {"found": 5, "unknown": 2, "skipped": 0}
    assert page["undrift_labels_to_look_up", ()] == 3
    assert page["undrift_labels_missing", ()] == 1
    assert page["undrift_challenger_lead_ratio", ()] == 0.25
    assert page["undrift_lost_rows_total", ()] == 5
    assert page["undrift_webhook_events_total", (("outcome", "failed"),)] == 1
    assert page["undrift_state_free_bytes", ()] == 1 << 30
    assert page["undrift_state_free_ratio", ()] == 0.25
    assert page["undrift_state_full_in_seconds", ()] == 2 * 86_400
    assert page["undrift_label_coverage_ratio", ()] == 0.75
    assert page["undrift_label_lag_rows", (("quantile", "0.9"),)] == 300
    assert page["undrift_label_lag_rows", (("quantile", "0.99"),)] == 400
    assert page["undrift_swaps_total", (("outcome", "failed"),)] == 1
    assert page["undrift_swap_duration_seconds_sum", ()] == 0.75
    assert page["undrift_swap_duration_seconds_count", ()] == 2
    assert page["undrift_rollbacks_total", ()] == 1
    labels = (("outcome", "accepted"), ("trigger", "drift"))
    assert page["undrift_retrainings_total", labels] == 2
    assert page["undrift_retraining_duration_seconds_sum", ()] == 9
    assert page["undrift_accuracy_ratio", (("of", "labels"),)] == 0.75


def test_what_nobody_knows_yet_is_not_shown() -> None:
    page = read(exposition([FACTS.snapshot()]))
    assert ("undrift_accuracy_ratio", (("of", "estimate"),)) not in page
    assert not [name for name, _ in page if name == "undrift_label_lag_seconds"]
    even = replace(FACTS, evidence=replace(EVIDENCE, better=None))
    assert not [name for name, _ in read(exposition([even.snapshot()])) if "lead" in name]
    none = replace(FACTS, labels={**FACTS.labels, "late": None})
    assert not [name for name, _ in read(exposition([none.snapshot()])) if "look" in name]
    before = read(exposition([replace(FACTS, evidence=None).snapshot()]))
    assert not [name for name, _ in before if name.startswith(("undrift_drift", "undrift_label"))]
    assert before["undrift_live_version", ()] == 3


def test_retraining_in_progress_is_shown_until_it_ends() -> None:
    told = {"step": 30, "share": 0.25, "loss": 0.5, "flops": 2e9, "seconds": 1.5, "eta_s": 4.5}
    page = read(exposition([replace(FACTS, training=told).snapshot()]))
    assert page["undrift_training_steps", ()] == 30
    assert page["undrift_training_progress_ratio", ()] == 0.25
    assert page["undrift_training_elapsed_seconds", ()] == 1.5
    assert page["undrift_training_remaining_seconds", ()] == 4.5
    assert not [name for name, _ in read(exposition([FACTS.snapshot()])) if "_training_" in name]


def test_labels_never_name_a_replica_or_a_request() -> None:
    families = text_string_to_metric_families(
        exposition([replica(1).snapshot(), FACTS.snapshot()]).decode()
    )
    names = {label for f in families for s in f.samples for label in s.labels}
    assert names == {
        *("model", "version", "code", "le", "outcome", "phase", "signal", "quantile", "trigger"),
        *("level", "of"),
    }
