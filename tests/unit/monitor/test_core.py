from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.helpers.streams import Stream
from undrift.errors import ConfigError, StoreError
from undrift.evidence import DriftKind, Evidence, Level
from undrift.monitor.join import LabelCounts
from undrift.monitor.monitor import Monitor
from undrift.monitor.settings import MonitorSettings
from undrift.records import Labels, Predictions
from undrift.views import SummaryView, plain, read

SETTINGS = MonitorSettings(label_lag_rows=1_000, join_window_rows=20_000, probation_labels=200)
LAG = 300
TICK = 100


class Feed:
    """Ticks of 100 rows whose labels come 300 rows later."""

    def __init__(self, monitor: Monitor, stream: Stream) -> None:
        self.monitor = monitor
        self.stream = stream
        self.owed: list[Labels] = []

    def tick(self, *, labelled: bool = True, **change: float) -> None:
        predictions, labels = self.stream.take(
            TICK, version=self.monitor.version, shift=change.get("shift", 0.0),
            flipped=change.get("flipped", 0.0),
        )  # fmt: skip
        self.owed.append(labels)
        due = self.owed.pop(0) if len(self.owed) > LAG // TICK else None
        self.monitor.fold(predictions, due if labelled else None)

    def ticks(self, n: int, *, labelled: bool = True, **change: float) -> list[Evidence]:
        evidence = []
        for _ in range(n):
            self.tick(labelled=labelled, **change)
            evidence.append(self.monitor.evidence())
        return evidence


def feed(seed: int = 0, settings: MonitorSettings = SETTINGS) -> Feed:
    stream = Stream(seed)
    return Feed(Monitor(settings, stream.reference(), version=1), stream)


@pytest.mark.thorough
def test_pure_concept_drift_is_caught_while_label_free_signals_are_silent() -> None:
    kinds = []
    for seed in range(6):
        source = feed(seed)
        assert {e.level for e in source.ticks(20)} == {Level.NONE}
        last = source.ticks(12, flipped=0.5)[-1]
        assert last.level is Level.DRIFT
        assert last.change_row is not None
        assert 1_900 <= last.change_row <= 2_100
        assert last.regime_rows == 2_000 + 12 * TICK - LAG - last.change_row
        kinds.append(last.kind)
    assert kinds.count(DriftKind.CONCEPT) >= 5  # label-free signals may warn once in 7,500 rows


@pytest.mark.thorough
def test_harmless_shift_stays_a_warning_while_labels_are_fine() -> None:
    for seed in range(3):
        source = feed(seed, SETTINGS.model_copy(update={"escalate_without_labels": True}))
        source.ticks(10)
        evidence = source.ticks(40, shift=2.0)
        assert max(e.level for e in evidence) is Level.WARNING
        assert {s.name: s.level for s in evidence[-1].signals} == {
            "input": Level.DRIFT,
            "output": Level.DRIFT,
            "performance": Level.NONE,
            "challenger": Level.NONE,
        }
        assert evidence[-1].kind is DriftKind.COVARIATE
        assert not evidence[-1].labels_missing


def test_shift_that_hurts_is_both() -> None:
    source = feed(1)
    source.ticks(10)
    last = source.ticks(15, shift=2.0, flipped=0.4)[-1]
    assert (last.level, last.kind) == (Level.DRIFT, DriftKind.BOTH)


def test_missing_labels_are_told_apart_from_fine() -> None:
    source = feed(2)
    assert not source.ticks(20)[-1].labels_missing
    blind = source.ticks(12, labelled=False)
    assert [e.labels_missing for e in blind] == [False] * 7 + [True] * 5
    assert "labels are missing" in blind[-1].reason
    source.owed = source.owed[-4:]
    assert not source.ticks(1)[-1].labels_missing


def test_labels_that_never_came_are_missing_too() -> None:
    evidence = feed(3).ticks(11, labelled=False)
    assert [e.labels_missing for e in evidence] == [False] * 10 + [True]


def test_escalation_without_labels_when_the_estimate_falls() -> None:
    policy = SETTINGS.model_copy(update={"escalate_without_labels": True})
    levels = {}
    for settings in (SETTINGS, policy):
        source = feed(4, settings)
        source.ticks(10)
        # Shrunken inputs are answered with less confidence.
        for _ in range(30):
            predictions, _ = source.stream.take(TICK)
            source.monitor.fold(shrunken(predictions), None)
        levels[settings.escalate_without_labels] = source.monitor.evidence()
    assert levels[False].level is Level.WARNING
    assert levels[True].level is Level.DRIFT
    assert "escalated by policy" in levels[True].reason
    assert levels[True].labels_missing


def shrunken(rows: Predictions) -> Predictions:
    output = 0.5 + 0.1 * (rows.output - 0.5)
    return replace(rows, x=0.1 * rows.x, output=output)


@pytest.mark.thorough
def test_saved_and_loaded_mid_stream_gives_the_same_evidence() -> None:
    whole, other = feed(5), feed(5)
    reference = Stream(99).reference(80)
    arrays: dict[str, np.ndarray] = {}
    for step in range(60):
        change = {"flipped": 0.5} if 20 <= step < 35 else {"shift": 1.0} if step > 45 else {}
        whole.tick(**change)
        other.tick(**change)
        if step == 38:
            for each in (whole, other):
                each.monitor.rearm(2, each.stream.reference(), 2_000, against=True, run_id="r")
        if step % 7 == 0 or step == 38:
            arrays, meta = other.monitor.state()
            fresh = Monitor(SETTINGS, reference, version=9)
            fresh.load(arrays, json.loads(json.dumps(meta)))
            other.monitor = fresh
        assert other.monitor.evidence() == whole.monitor.evidence()
        assert other.monitor.probation == whole.monitor.probation
        assert other.monitor.summary() == whole.monitor.summary()
    assert whole.monitor.run_id == other.monitor.run_id == "r"
    assert all(a.dtype != object for a in arrays.values())


def test_state_of_another_release_is_refused() -> None:
    monitor = feed().monitor
    arrays, meta = monitor.state()
    with pytest.raises(StoreError, match="format 0"):
        monitor.load(arrays, meta | {"format": 0})


def test_rows_of_other_versions_are_joined_but_not_watched() -> None:
    source = feed(6)
    for _ in range(10):
        predictions, labels = source.stream.take(TICK, version=2, shift=3.0, flipped=0.5)
        counts = source.monitor.fold(predictions, labels)
        assert counts == LabelCounts(joined=TICK)
    evidence = source.monitor.evidence()
    assert (evidence.level, evidence.labelled, evidence.rows) == (Level.NONE, 1_000, 1_000)
    assert all(s.statistic == 0.0 for s in evidence.signals)


def test_late_labels_of_the_replaced_version_do_not_count_against_the_new_one() -> None:
    source = feed(7)
    source.ticks(10)
    source.ticks(12, flipped=0.5)
    assert source.monitor.evidence().level is Level.DRIFT
    source.monitor.rearm(2, source.stream.reference(), regime_start=1_000)
    assert source.monitor.evidence().regime_rows == 2_200 - LAG - 1_000
    evidence = source.ticks(3)  # only labels of version 1 come in
    assert {e.level for e in evidence} == {Level.NONE}
    assert evidence[-1].signals[2].statistic == 0.0
    assert evidence[-1].version == 2
    assert source.ticks(10)[-1].level is Level.NONE
    assert source.monitor.summary().accuracy.window > 0.7


def test_probation_is_held_against_the_error_just_before() -> None:
    outcomes = {}
    for now, flipped in (("good", 0.0), ("bad", 0.9)):
        source = feed(8)
        source.ticks(10)
        source.ticks(15, flipped=0.4)
        source.monitor.rearm(2, source.stream.reference(), 1_000, against=True)
        assert source.monitor.probation.status == "running"
        source.ticks(8, flipped=flipped)
        outcomes[now] = source.monitor.probation
    assert outcomes["good"].status == "passed"
    assert outcomes["bad"].status == "failed"
    assert outcomes["good"].labels == 200
    assert outcomes["bad"].labels < 200
    assert 0.3 < outcomes["good"].baseline < 0.55
    assert outcomes["good"].error < outcomes["good"].baseline


def test_probation_without_labels_of_the_old_version_uses_its_reference() -> None:
    source = feed(9)
    source.monitor.rearm(2, source.stream.reference(), 0, against=True)
    source.ticks(4)
    assert source.monitor.probation.baseline == pytest.approx(0.17, abs=0.06)


def test_baseline_takes_in_labels_of_the_old_version_that_come_after_the_swap() -> None:
    source = feed(9)
    source.ticks(3, flipped=1.0)  # none of their labels has come yet
    source.monitor.rearm(2, source.stream.reference(), 0, against=True)
    source.ticks(4)
    assert source.monitor.probation.baseline == pytest.approx(0.83, abs=0.06)


def test_labels_from_an_earlier_stint_of_a_version_do_not_count_in_a_later_one() -> None:
    source = feed(14)
    source.ticks(3, flipped=1.0)
    source.monitor.rearm(2, source.stream.reference(), 0)
    source.monitor.rearm(1, source.stream.reference(), 0)
    source.ticks(3)
    assert source.monitor.evidence().signals[2].statistic == 0.0
    assert source.monitor.summary().accuracy.window is None


def test_what_was_learnt_beside_a_version_is_there_when_it_comes_back() -> None:
    source = feed(17)
    source.ticks(12, flipped=0.5)
    left = source.monitor.mixture()
    assert left is not None
    source.monitor.rearm(2, source.stream.reference(), 0)
    source.ticks(6)
    between = source.monitor.mixture()
    assert between is not None
    assert between.labels < left.labels
    arrays, meta = source.monitor.state()
    source.monitor = Monitor(SETTINGS, source.stream.reference(), version=9)
    source.monitor.load(arrays, meta)
    source.monitor.rearm(1, source.stream.reference(), 0)
    back = source.monitor.mixture()
    assert back is not None
    assert back.name == left.name
    np.testing.assert_array_equal(back.heads, left.heads)
    np.testing.assert_array_equal(back.shares, left.shares)
    assert {c.rows for c in source.monitor.evidence().challengers} == {0}  # contests begin anew
    source.monitor.rearm(3, source.stream.reference(), 0)
    assert source.monitor.mixture() is None


def test_tick_of_two_versions_counts_only_the_watched_one() -> None:
    plain, mixed = feed(15), feed(15)
    plain.ticks(5)
    for _ in range(5):
        predictions, _ = mixed.stream.take(TICK)
        other, _ = Stream(16).take(40, version=2, shift=3.0)
        mixed.monitor.fold(Predictions.concat([predictions, other]), None)
    for name in (0, 1):
        assert mixed.monitor.evidence().signals[name] == plain.monitor.evidence().signals[name]


def test_rearm_without_probation_ends_a_running_one() -> None:
    source = feed(10)
    source.monitor.rearm(2, source.stream.reference(), 0, against=True)
    source.monitor.rearm(1, source.stream.reference(), 0)
    assert source.monitor.probation.status == "none"


def test_rearm_on_an_unusable_reference_changes_nothing() -> None:
    source = feed(11)
    source.ticks(5)
    before = source.monitor.evidence()
    with pytest.raises(ConfigError, match="fewer than"):
        source.monitor.rearm(2, source.stream.reference(10), 0, against=True)
    assert source.monitor.evidence() == before
    assert source.monitor.probation.status == "none"


def test_summary_is_json_and_counts_every_label() -> None:
    source = feed(12)
    empty = source.monitor.summary()
    assert empty.labels.coverage is None
    assert empty.accuracy.window is None
    source.ticks(20)
    odd = Labels(("id-0", "id-0", "nobody"), np.array([0, 1, 1]), np.zeros(3))
    source.monitor.fold(None, odd)
    summary = source.monitor.summary()
    assert read(SummaryView, json.loads(json.dumps(plain(summary)))) == summary
    labels, accuracy = summary.labels, summary.accuracy
    assert labels.outcomes["joined"] == 1_700
    assert [labels.outcomes[k] for k in ("duplicate", "conflict", "unknown")] == [1, 1, 1]
    assert labels.waiting == 1
    assert labels.coverage == pytest.approx(0.85)
    assert labels.coverage_beyond_lag == 1.0
    assert LAG <= (labels.lag["rows"] or {})["p50"] <= LAG + TICK
    assert (labels.lag["seconds"] or {})["p99"] == pytest.approx(50.0)
    assert accuracy.window == pytest.approx(0.83, abs=0.06)
    assert accuracy.estimated == pytest.approx(0.83, abs=0.06)
    assert accuracy.window_labels == 500


def test_empty_tick_changes_nothing() -> None:
    source = feed(13)
    source.ticks(3)
    before = source.monitor.evidence()
    assert source.monitor.fold(None, None) == LabelCounts()
    nothing = Labels((), np.zeros(0, dtype=np.int64), np.zeros(0))
    assert source.monitor.fold(source.stream.take(0)[0], nothing) == LabelCounts()
    assert source.monitor.evidence() == before


def test_errors_in_one_segment_are_a_warning_that_names_it() -> None:
    settings = SETTINGS.model_copy(
        update={"segments": ("night",), "features": ("a", "b", "c", "d", "e", "night")}
    )
    stream = Stream(6)
    source = Feed(Monitor(settings, stream.reference(2_000), version=1), stream)
    source.ticks(20)
    for _ in range(60):
        predictions, labels = stream.take(TICK)
        hit = (predictions.x[:, 5] == 1) & (stream.rng.random(TICK) < 0.25)
        source.owed.append(
            Labels(labels.ids, np.where(hit, 1 - labels.label, labels.label), labels.at)
        )
        source.monitor.fold(predictions, source.owed.pop(0))
        evidence = source.monitor.evidence()
        if evidence.level > Level.NONE:
            break
    assert evidence.level is Level.WARNING
    assert evidence.kind is DriftKind.CONCEPT
    assert "errors have risen in night=1" in evidence.reason
    named = [c.name for c in evidence.signals[2].changes if c.what == "segment"]
    assert named == ["night=1"]
    levels = {s.name: s.level for s in source.monitor.summary().segments}
    assert levels["night=0"] == "none"
    assert levels["night=1"] != "none"


def test_unlearnt_class_is_named_as_the_user_names_it() -> None:
    stream = Stream(7)
    monitor = Monitor(SETTINGS, stream.reference(), version=1, class_names=("down", "up"))
    source = Feed(monitor, stream)
    source.ticks(10)
    last = source.ticks(12, flipped=0.5)[-1]
    classes = {c.name: c for c in last.signals[2].changes if c.what == "class"}
    assert classes.keys() == {"down", "up"}
    assert classes["up"].now < classes["up"].before - 0.2
    assert "moved most" in last.reason


def test_detector_of_river_takes_the_place_of_the_performance_signal() -> None:
    settings = SETTINGS.model_copy(update={"performance_statistic": "river.drift:ADWIN"})
    source = feed(8, settings)
    assert {e.level for e in source.ticks(20)} == {Level.NONE}
    assert source.ticks(12, flipped=0.5)[-1].level is Level.DRIFT
    notes = source.monitor.summary().calibration["performance"].notes
    assert "sets its own false-alarm rate" in notes[0]
