from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.helpers.streams import Stream
from undrift.evidence import Level
from undrift.monitor.base import Measures
from undrift.monitor.settings import MonitorSettings
from undrift.monitor.signals.error import PerformanceSignal
from undrift.records import Reference

SETTINGS = MonitorSettings()


def reference_with(wrong: np.ndarray) -> Reference:
    """A two-class model that is sure, and wrong where it is said to be."""
    reference = Stream(0).reference(len(wrong))
    output = np.tile(np.array([0.9, 0.1], dtype=np.float32), (len(wrong), 1))
    return replace(reference, output=output, y=wrong.astype(np.int64))


def measures(wrong: np.ndarray, first: int = 0) -> Measures:
    values = np.column_stack([wrong, np.zeros((len(wrong), 2))])
    return Measures(np.arange(first, first + len(wrong)), values)


def test_good_reference_has_nothing_to_say() -> None:
    wrong = np.random.default_rng(0).random(2_000) < 0.05
    calibration = PerformanceSignal(SETTINGS).fit(reference_with(wrong))
    assert calibration.rows == 2_000
    assert calibration.correlation_time == 1.0
    assert calibration.notes == ()


def test_short_reference_is_told_in_words() -> None:
    wrong = np.random.default_rng(1).random(60) < 0.2
    few, coarse = PerformanceSignal(SETTINGS).fit(reference_with(wrong)).notes
    assert "60 rows is worth 60 independent ones" in few
    assert "show a lasting rise to" in coarse


def test_correlated_reference_is_worth_fewer_rows() -> None:
    wrong = np.repeat(np.random.default_rng(2).random(50) < 0.1, 8)
    calibration = PerformanceSignal(SETTINGS).fit(reference_with(wrong))
    assert calibration.correlation_time > 4.0
    assert "too few to tell how alike" in calibration.notes[0]


def test_model_that_is_wrong_all_the_time_is_told_in_words() -> None:
    signal = PerformanceSignal(SETTINGS)
    assert "can hardly be seen" in signal.fit(reference_with(np.ones(500))).notes[-1]
    signal.advance(measures(np.ones(20_000)))
    assert signal.report().level is Level.NONE


def test_gaps_between_reference_rows_count() -> None:
    wrong = np.repeat(np.random.default_rng(3).random(100) < 0.2, 5)
    close = reference_with(wrong)
    apart = replace(close, row=np.arange(500) * 200)
    assert PerformanceSignal(SETTINGS).fit(close).correlation_time > 3.0
    assert PerformanceSignal(SETTINGS).fit(apart).correlation_time == 1.0


def test_change_of_a_healthy_stream_is_dated_by_its_predictions() -> None:
    errors = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        signal = PerformanceSignal(SETTINGS)
        signal.fit(reference_with(rng.random(500) < 0.1))
        signal.advance(measures(rng.random(3_000) < 0.1, 10_000))
        signal.advance(measures(rng.random(100) < 0.6, 13_000))
        report = signal.report()
        assert report.level is Level.DRIFT
        errors.append(abs((report.change_row or 0) - 13_000))
    assert np.median(errors) <= 10
