from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.helpers.streams import Stream
from undrift.errors import ConfigError
from undrift.evidence import Level
from undrift.monitor.monitor import Monitor
from undrift.monitor.settings import MonitorSettings
from undrift.monitor.signals.performance import performance_signal_for
from undrift.monitor.signals.segments import Segments
from undrift.monitor.statistics.error_rate import ErrorTest
from undrift.monitor.statistics.season import Season
from undrift.records import Labels

PERIOD, LIMIT = 5_000, 20_000


def drifts(wrong: np.ndarray, *, seasonal: bool, known: float = 0.1) -> list[int]:
    """Return the rows at which a test comes to drift anew, in errors that have a season."""
    test = ErrorTest(LIMIT, LIMIT, seasonal=seasonal)
    reference = np.random.default_rng(9).random(1_000) < known
    test.fit(reference, np.zeros(1_000, np.int64), np.arange(1_000))
    phase = np.arange(len(wrong)) % PERIOD * 24 // PERIOD
    found, before = [], Level.NONE
    for at in range(0, len(wrong), 64):
        rows = np.arange(at, min(at + 64, len(wrong)))
        test.update(wrong[rows], np.zeros(len(rows), np.int64), rows, phase[rows])
        if before < Level.DRIFT <= test.level:
            found.append(at)
        before = test.level
    return found


def cycle(n: int, seed: int) -> np.ndarray:
    rate = 0.1 * (1.0 + 0.5 * np.sin(2.0 * np.pi * (seed * 700 + np.arange(n)) / PERIOD))
    return np.random.default_rng(seed).random(n) < rate


@pytest.mark.thorough
def test_hard_hours_that_come_again_are_no_drift() -> None:
    plain = [len(drifts(cycle(40_000, seed), seasonal=False)) for seed in range(4)]
    told = [len(drifts(cycle(40_000, seed), seasonal=True)) for seed in range(4)]
    assert sum(plain) >= 8
    assert sum(told) <= 4 * 40_000 / LIMIT / 2, "the budget allows twice as many"


def test_a_rise_in_every_phase_is_found_beside_the_season() -> None:
    for seed in range(3):
        wrong = cycle(22_000, seed)
        wrong[20_000:] |= np.random.default_rng(seed + 100).random(2_000) < 0.25
        assert any(20_000 <= at < 21_000 for at in drifts(wrong, seasonal=True))


def test_a_rise_in_hours_that_were_easy_is_found() -> None:
    """At the height of the season as many errors would be usual."""
    wrong, low = cycle(20_000, 0), slice(18_300, 19_200)
    wrong[low] = np.random.default_rng(3).random(900) < 0.25
    assert any(low.start <= at < low.stop for at in drifts(wrong, seasonal=True))


@pytest.mark.parametrize(
    ("text", "phases"), [("24 h", 24), ("24h", 24), ("7 d", 168), ("12 h", 12), ("50 rows", 24)]
)
def test_season_has_a_phase_an_hour(text: str, phases: int) -> None:
    settings = MonitorSettings(season=text)
    assert Season(settings.season).phases == phases


@pytest.mark.parametrize("text", ["3 h", "11 d", "20 rows", "0 d"])
def test_season_without_phases_to_tell_apart_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=rf"monitor.season: {text} has no phases"):
        performance_signal_for(MonitorSettings(season=text))


@pytest.mark.parametrize("text", ["daily", "24", "-1 h", "24 h 3", ""])
def test_season_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="season"):
        MonitorSettings(season=text)


def test_season_is_for_errors_only() -> None:
    with pytest.raises(ConfigError, match="only performance_statistic = 'error' knows seasons"):
        performance_signal_for(MonitorSettings(season="24 h", performance_statistic="loss"))


def test_phase_is_that_of_the_time_of_the_prediction_or_of_its_row() -> None:
    rows, _ = Stream(0).take(4)
    rows = replace(rows, at=np.array([0.0, 3_599.0, 3_600.0, 86_400.0 + 23 * 3_600.0]))
    rows = replace(rows, row=np.array([0, 4_999, 5_000, 7_500]))
    assert Season("24 h").note(rows)[:, 0].tolist() == [0, 0, 1, 23]
    assert Season("5000 rows").note(rows)[:, 0].tolist() == [0, 23, 0, 12]
    assert Season(None).note(rows).shape == (4, 0)


@pytest.mark.parametrize("segments", [(), (0, 1)])
def test_monitor_follows_phases_through_late_labels_and_saves(segments: tuple[int, ...]) -> None:
    """Errors come in one phase of four only; a monitor that is saved and loaded knows them."""
    settings = MonitorSettings(
        season="48 rows", segments=segments, label_lag_rows=1_000, join_window_rows=10_000
    )
    stream = Stream(4)
    reference = stream.reference(400)
    right = reference.output.argmax(axis=1)
    reference = replace(reference, y=np.where(np.arange(400) % 4 == 3, 1 - right, right))
    monitor = Monitor(settings, reference, 1)
    owed: list[Labels] = []
    for tick in range(60):
        predictions, labels = stream.take(48)
        right = predictions.output.argmax(axis=1)
        owed.append(replace(labels, label=np.where(np.arange(48) >= 36, 1 - right, right)))
        monitor.fold(predictions, owed.pop(0) if tick > 2 else None)
        if tick == 30:
            arrays, meta = monitor.state()
            monitor = Monitor(settings, reference, 1)
            monitor.load(arrays, meta)
    phases = monitor.state()[0]["_performance._test._phases._rows"]
    assert (phases[:24] > 50).all()
    assert phases[24:].sum() == 0
    wrong = monitor.state()[0]["_performance._test._phases._errors"]
    assert (wrong[18:24] == phases[18:24]).all()
    assert wrong[:18].sum() == 0
    if segments:
        test = Segments(settings)
        assert test.width == len(segments) + 1
        kept = {k: v for k, v in monitor.state()[0].items() if k.endswith("_phases._errors")}
        assert sum(v[18:24].sum() for k, v in kept.items() if k.startswith("_segments.")) > 200
