"""Whether a reference is like the traffic that it is compared with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.helpers.streams import Stream
from undrift.evidence import Level
from undrift.monitor.monitor import Monitor
from undrift.monitor.settings import MonitorSettings
from undrift.records import Labels

SETTINGS = MonitorSettings(rows_per_false_drift=20_000)


def watched(easier: float, rows: int, seed: int, *, later: float = 0.0) -> Monitor:
    """A monitor whose reference errs in 10 %, and the traffic in ``easier`` more from row 0 on.

    From row 2,000 on it errs in ``later`` more.
    """
    rng, stream = np.random.default_rng(seed), Stream(seed)
    reference = stream.reference(1_000)

    def labels(output: np.ndarray, rate: np.ndarray | float) -> np.ndarray:
        right = output.argmax(axis=1)
        return np.where(rng.random(len(right)) < rate, 1 - right, right)

    monitor = Monitor(SETTINGS, replace(reference, y=labels(reference.output, 0.1)), 1)
    for start in range(0, rows, 50):
        predictions, told = stream.take(50)
        rate = 0.1 + easier + (later if start >= 2_000 else 0.0)
        label = labels(predictions.output, rate)
        monitor.fold(predictions, Labels(told.ids, label, told.at))
    return monitor


def note(monitor: Monitor) -> str:
    return " ".join(monitor.summary().calibration["performance"].notes)


def test_a_reference_easier_than_the_traffic_is_told() -> None:
    told = [note(watched(0.1, 1_000, seed)) for seed in range(6)]
    assert all("it is easier than this traffic" in text for text in told)
    assert "reference 1" in told[0] or "reference 9" in told[0] or "reference 8" in told[0]
    assert not any("easier" in note(watched(0.1, 200, seed)) for seed in range(3)), "too early"


def test_a_reference_like_the_traffic_is_not_blamed() -> None:
    told = [note(watched(0.0, 1_000, seed)) for seed in range(20)]
    assert sum("easier" in text for text in told) <= 1


def test_later_changes_are_no_fault_of_the_reference() -> None:
    monitor = watched(0.0, 3_000, 0, later=0.4)
    assert "easier" not in note(monitor)
    evidence = monitor.evidence()
    assert evidence.level is Level.DRIFT
    assert "first rows" not in evidence.reason


def test_a_drift_from_the_first_row_on_names_the_reference() -> None:
    evidence = watched(0.4, 400, 1).evidence()
    assert evidence.level is Level.DRIFT
    assert "since the first rows of this version" in evidence.reason


@pytest.mark.parametrize("cut", [1, 50, 1_000])
def test_the_first_labels_are_the_same_however_they_come(cut: int) -> None:
    whole, parts = watched(0.1, 1_000, 2), watched(0.1, 0, 2)
    rng, stream = np.random.default_rng(2), Stream(2)
    stream.reference(1_000)
    rng.random(1_000)
    for start in range(0, 1_000, 50):
        predictions, told = stream.take(50)
        right = predictions.output.argmax(axis=1)
        label = np.where(rng.random(50) < 0.2, 1 - right, right)
        parts.fold(predictions, None)
        for at in range(0, 50, cut):
            piece = slice(at, min(at + cut, 50))
            parts.fold(None, Labels(told.ids[piece], label[piece], told.at[piece]))
        assert start < 1_000
    assert note(parts) == note(whole)
