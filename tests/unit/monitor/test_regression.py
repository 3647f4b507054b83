"""The monitor of a model that answers numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from tests.helpers.streams import NumberStream
from undrift.evidence import Level
from undrift.monitor.monitor import Monitor
from undrift.monitor.settings import MonitorSettings
from undrift.records import Labels, Predictions, Reference

SETTINGS = MonitorSettings(rows_per_false_drift=20_000)
SECOND = np.array([0.0, 0.5, -1.0, 0.0, 2.0, 0.0], dtype=np.float32)


class Two(NumberStream):
    """Two numbers to a row, of which the second alone changes, and is a hundred times as large."""

    def take(
        self, n: int, *, shift: float = 0.0, flipped: float = 0.0, version: int = 1
    ) -> tuple[Predictions, Labels]:
        rows, told = super().take(n, shift=shift, version=version)
        other = 100.0 * (rows.x @ SECOND)
        sign = np.where(self.rng.random(n) < flipped, -1.0, 1.0)
        noise = 100.0 * self.rng.normal(size=n)
        answer = np.column_stack([rows.output, other]).astype(np.float32)
        label = np.column_stack([told.label, sign * other + noise]).astype(np.float32)
        return replace(rows, output=answer, answered=answer), replace(told, label=label)


def played(
    stream: NumberStream, n: int, lag: int, change: int, **how: float
) -> Iterator[tuple[Predictions, Labels]]:
    """Yield commits of 50 rows, and the labels that come ``lag`` rows after theirs."""
    waiting: list[Labels] = []
    for start in range(0, n, 50):
        rows, labels = stream.take(50, **(how if start >= change else {}))
        waiting.append(labels)
        due = (
            waiting.pop(0)
            if len(waiting) > lag // 50
            else Labels((), labels.label[:0], rows.at[:0])
        )
        yield rows, due


@pytest.fixture(params=[NumberStream, Two], ids=["one output", "two outputs"])
def kind(request: pytest.FixtureRequest) -> type[NumberStream]:
    found: type[NumberStream] = request.param
    return found


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(NumberStream, id="one output", marks=pytest.mark.thorough),
        pytest.param(Two, id="two outputs", marks=pytest.mark.slow),
    ],
)
def test_false_alarms_keep_to_the_budget(kind: type[NumberStream]) -> None:
    drifts = warnings = 0
    for seed in range(10):
        stream = kind(seed)
        monitor = Monitor(SETTINGS, stream.reference(300), 1)
        seen = set()
        for rows, labels in played(stream, 5_000, lag=0, change=5_000):
            monitor.fold(rows, labels)
            seen.add(monitor.evidence().level)
        drifts += Level.DRIFT in seen
        warnings += Level.WARNING in seen
    # 50,000 rows at one false drift in 20,000 and a warning in 1,000, at most and on average.
    assert drifts <= 4
    assert warnings < 10


@pytest.mark.parametrize("lag", [0, 200, 1_000])
def test_change_of_concept_is_found_however_late_labels_come(
    kind: type[NumberStream], lag: int
) -> None:
    stream = kind(3)
    monitor = Monitor(SETTINGS, stream.reference(300), 1)
    found = None
    for n, (rows, labels) in enumerate(played(stream, 3_000 + lag, lag, change=1_500, flipped=1.0)):
        monitor.fold(rows, labels)
        if monitor.evidence().level is Level.DRIFT:
            found = 50 * (n + 1)
            break
    assert found is not None
    assert 1_500 + lag < found <= 1_700 + lag
    evidence = monitor.evidence()
    assert evidence.kind.value == "concept"
    assert abs((evidence.change_row or 0) - 1_500) <= 50
    assert monitor.summary().accuracy.window is not None


def test_moved_inputs_and_answers_warn_without_labels(kind: type[NumberStream]) -> None:
    stream = kind(4)
    monitor = Monitor(SETTINGS, stream.reference(300), 1)
    for rows, _ in played(stream, 1_000, 0, change=500, shift=2.0):
        monitor.fold(rows, None)
    evidence = monitor.evidence()
    assert evidence.level is Level.WARNING
    output = evidence.signals[1]
    assert output.level > Level.NONE
    assert output.changes[0].name.startswith("output[")
    summary = monitor.summary()
    assert summary.accuracy.estimated is None
    assert any("no classes" in note for note in summary.calibration["output"].notes)


def test_quality_is_r2(kind: type[NumberStream]) -> None:
    stream = kind(5)
    reference = stream.reference(400)
    monitor = Monitor(SETTINGS, reference, 1)
    rows, labels = stream.take(400)
    monitor.fold(rows, labels)
    y = labels.label.reshape(400, -1)
    scale = reference.y.reshape(400, -1).var(axis=0)
    r2 = 1.0 - (((rows.output - y) ** 2).mean(axis=0) / scale).mean()
    assert monitor.summary().accuracy.window == pytest.approx(r2, abs=1e-5)


def test_saved_and_loaded_mid_stream_decides_alike(kind: type[NumberStream]) -> None:
    stream = kind(6)
    reference = stream.reference(300)
    one, other = Monitor(SETTINGS, reference, 1), Monitor(SETTINGS, reference, 1)
    for n, (rows, labels) in enumerate(played(stream, 2_000, 200, change=1_000, flipped=1.0)):
        one.fold(rows, labels)
        if n == 15:
            one.fold(None, Labels(("id-900", "x"), labels.label[:2], labels.at[:2]))
            other.load(*one.state())
        elif n > 15:
            other.fold(rows, labels)
        if n == 25:
            for monitor in (one, other):
                monitor.rearm(2, scaled(reference, 3.0), 1_000, against=True, run_id="r")
    other_again = Monitor(SETTINGS, scaled(reference, 3.0), 2)
    other_again.load(*other.state())
    assert one.evidence() == other.evidence() == other_again.evidence()
    assert one.summary() == other.summary()
    for name, value in one.state()[0].items():
        np.testing.assert_array_equal(value, other_again.state()[0][name])
    for monitor in (one, other_again):  # what was learnt beside the version before is there still
        monitor.rearm(1, reference, 1_000, run_id="back")
    rows, labels = stream.take(300)
    for monitor in (one, other_again):
        monitor.fold(rows, labels)
    assert one.evidence() == other_again.evidence()


def scaled(reference: Reference, factor: float) -> Reference:
    return replace(reference, y=(factor * reference.y).astype(np.float32))


def test_answers_that_moved_alone_are_told_by_the_output_signal(kind: type[NumberStream]) -> None:
    stream = kind(12)
    monitor = Monitor(SETTINGS, stream.reference(300), 1)
    for n in range(20):
        rows, _ = stream.take(50)
        moved = rows.output + (n >= 10) * rows.output.std(axis=0)
        monitor.fold(replace(rows, output=moved.astype(np.float32)), None)
    inputs, outputs = monitor.evidence().signals[:2]
    assert (inputs.level, outputs.level > Level.NONE) == (Level.NONE, True)


def test_error_before_is_taken_over_in_the_units_of_the_new_reference(
    kind: type[NumberStream],
) -> None:
    stream = kind(13)
    reference = stream.reference(300)
    monitor = Monitor(SETTINGS, reference, 1)
    for rows, labels in played(stream, 500, 0, change=500):
        monitor.fold(rows, labels)
    error = 1.0 - (monitor.summary().accuracy.window or 0.0)
    monitor.rearm(2, scaled(reference, 2.0), 0, against=True)
    monitor.fold(*stream.take(5, version=2))
    assert monitor.probation.baseline == pytest.approx(error / 4.0, rel=1e-6)


@pytest.mark.parametrize(("worse", "status"), [(0.0, "passed"), (1.0, "failed")])
def test_probation_is_held_on_the_difference_of_squared_errors(
    kind: type[NumberStream], worse: float, status: str
) -> None:
    stream = kind(7)
    reference = stream.reference(300)
    monitor = Monitor(SETTINGS, reference, 1)
    monitor.rearm(2, reference, 0, against=True)
    for _ in range(8):
        rows, labels = stream.take(50, version=2)
        moved = (rows.output + worse * rows.output.std(axis=0)).astype(np.float32)
        rows = replace(rows, output=moved, answered=moved, former=rows.output)
        monitor.fold(rows, labels)
    assert monitor.probation.status == status
    assert "rows that version 1 was asked too" in monitor.probation.detail


@pytest.mark.parametrize(("worse", "status"), [(0.0, "passed"), (1.0, "failed")])
def test_probation_without_pairs_is_held_against_the_error_before(
    kind: type[NumberStream], worse: float, status: str
) -> None:
    stream = kind(8)
    reference = stream.reference(300)
    monitor = Monitor(SETTINGS, reference, 1)
    for rows, labels in played(stream, 500, 0, change=500):
        monitor.fold(rows, labels)
    monitor.rearm(2, reference, 0, against=True)
    for _ in range(8):
        rows, labels = stream.take(50, version=2)
        moved = (rows.output + worse * rows.output.std(axis=0)).astype(np.float32)
        monitor.fold(replace(rows, output=moved, answered=moved), labels)
    assert monitor.probation.status == status


def test_challenger_of_numbers_leads_where_the_concept_changed(kind: type[NumberStream]) -> None:
    stream = kind(9)
    monitor = Monitor(SETTINGS, stream.reference(300), 1)
    for rows, labels in played(stream, 2_500, 0, change=500, flipped=1.0):
        monitor.fold(rows, labels)
    evidence = monitor.evidence()
    assert evidence.better is not None
    assert evidence.better.lead > 0.2
    assert "would have an R2" in evidence.reason
    assert monitor.mixture() is None


def test_label_said_again_and_otherwise(kind: type[NumberStream]) -> None:
    stream = kind(10)
    monitor = Monitor(SETTINGS, stream.reference(300), 1)
    rows, labels = stream.take(50)
    early = monitor.fold(None, labels)
    joined = monitor.fold(rows, None)
    again = monitor.fold(None, labels)
    other = monitor.fold(None, replace(labels, label=labels.label + 1.0))
    assert (early.unknown, joined.joined, again.duplicate, other.conflict) == (50, 50, 50, 50)
