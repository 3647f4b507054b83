"""A candidate beside the live version, row by row, for classes and for numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from tests.helpers.streams import NumberStream, Stream
from undrift.events import Compare, Rearm
from undrift.monitor.history import Moment, take
from undrift.monitor.monitor import Monitor
from undrift.monitor.settings import MonitorSettings
from undrift.records import Labels, Predictions
from undrift.serve.candidate import with_answers

SETTINGS = MonitorSettings(
    probation_alpha=0.05, probation_tolerance=0.05, label_lag_rows=1_000, join_window_rows=5_000
)
ORDER = Compare(run_id="run-1", version=2, against=1, canary=False, step=0, rows=300)
CANARY = replace(ORDER, canary=True, step=1)


def outputs_of(classes: np.ndarray) -> np.ndarray:
    return np.eye(3, dtype=np.float32)[classes]


def batches(
    stream: Stream, worse: float, seed: int, canary: bool
) -> Iterator[tuple[Predictions, Labels]]:
    """Yield rows that both versions were asked; the candidate errs on a further share of them."""
    rng = np.random.default_rng(seed)
    for _ in range(12):
        rows, labels = stream.take(50)
        other = rows.output.copy()
        spoilt = rng.random(50) < worse
        if rows.answered is None:
            other[spoilt] = outputs_of((rows.answers[spoilt] + 1) % 3)[:, : other.shape[1]]
        else:
            other[spoilt] += 3.0 * labels.label.std()
        which = rng.random(50) < 0.8
        if canary:
            answered = other if rows.answered is not None else None
            asked = replace(rows, output=other, answered=answered, version=rows.version + 1)
            yield with_answers(asked, which, rows.output[which], 1), labels
        else:
            yield with_answers(rows, which, other[which], 2), labels


def compared(
    kind: type[Stream] | type[NumberStream], worse: float, seed: int, order: Compare
) -> Monitor:
    stream = kind(seed)
    monitor = Monitor(SETTINGS, stream.reference(), 1)
    take(monitor, Moment(0, rearm=order), lambda _: stream.reference())
    for rows, labels in batches(stream, worse, seed, order.canary):
        monitor.fold(rows, labels)
    return monitor


@pytest.mark.parametrize("kind", [Stream, NumberStream])
@pytest.mark.parametrize("order", [ORDER, CANARY], ids=["shadow", "canary"])
def test_as_good_a_version_passes_and_a_worse_one_fails_soon(
    kind: type[Stream], order: Compare
) -> None:
    for seed in range(4):
        good = compared(kind, 0.0, seed, order).comparison.report()
        assert (good.status, good.rows, good.step) == ("passed", 300, order.step)
        assert good.error == pytest.approx(good.baseline)
        assert good.differs == 0.0
        bad = compared(kind, 0.5, seed, order).comparison.report()
        assert (bad.status, bad.run_id) == ("failed", "run-1")
        assert bad.rows < 150
        assert bad.error > bad.baseline + 0.1
        assert bad.differs is not None
        assert bad.error - bad.baseline <= bad.differs + 0.3


def test_only_rows_that_both_were_asked_in_this_stage_count() -> None:
    stream = Stream(0)
    monitor = Monitor(SETTINGS, stream.reference(), 1)
    monitor.comparison.start(CANARY)
    for rows, labels in batches(stream, 0.9, 0, canary=False):
        monitor.fold(rows, labels)
    report = monitor.comparison.report()
    assert (report.status, report.rows, report.asked, report.differs) == ("running", 0, 0, None)


def test_rows_of_a_rollout_are_no_evidence_in_a_probation_against_another_version() -> None:
    stream = Stream(0)
    monitor = Monitor(SETTINGS, stream.reference(), 3)
    monitor.rearm(1, stream.reference(), 0, against=True, run_id="run-0")
    for rows, labels in batches(stream, 0.9, 0, canary=False):
        monitor.fold(rows, labels)
    assert monitor.probation.labels > 0
    assert "version 3 was asked too" not in monitor.probation.detail


def test_a_stage_goes_on_from_a_saved_state_and_ends_with_a_rearming() -> None:
    stream = Stream(1)
    monitor = Monitor(SETTINGS, stream.reference(), 1)
    monitor.comparison.start(ORDER)
    parts = list(batches(stream, 0.3, 1, canary=False))
    for rows, labels in parts[:2]:
        monitor.fold(rows, labels)
    loaded = Monitor(SETTINGS, stream.reference(), 1)
    assert loaded.comparison.report() != monitor.comparison.report()
    loaded.load(*monitor.state())
    assert loaded.comparison.report() == monitor.comparison.report()
    for each in (monitor, loaded):
        for rows, labels in parts[2:]:
            each.fold(rows, labels)
    assert loaded.comparison.report() == monitor.comparison.report()
    assert loaded.comparison.report().rows > 60
    take(loaded, Moment(9, rearm=Rearm(version=2)), lambda _: stream.reference())
    assert loaded.comparison.report().status == "none"


def test_a_comparison_changes_no_signal() -> None:
    stream = Stream(2)
    reference = stream.reference()
    plain, comparing = (Monitor(SETTINGS, reference, 1) for _ in range(2))
    comparing.comparison.start(ORDER)
    for rows, labels in batches(stream, 0.5, 2, canary=False):
        for monitor in (plain, comparing):
            monitor.fold(rows, labels)
        assert plain.evidence() == comparing.evidence()
