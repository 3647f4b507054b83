from __future__ import annotations

import sys

import numpy as np
import pytest

from tests.helpers.streams import Stream
from undrift.errors import ConfigError
from undrift.evidence import Level
from undrift.monitor.base import Measures
from undrift.monitor.settings import MonitorSettings
from undrift.monitor.signals.performance import performance_signal_for
from undrift.monitor.signals.river import RiverSignal
from undrift.records import Reference


def settings(path: str, **options: float) -> MonitorSettings:
    return MonitorSettings(performance_statistic=path, performance_options=options)


def fitted(path: str, errors: np.ndarray, **options: float) -> RiverSignal:
    """A signal whose reference has these errors."""
    n = len(errors)
    flat = np.zeros((n, 1), dtype=np.float32)
    output = np.stack([1.0 - errors, errors], axis=1).astype(np.float32)
    all_rows = np.ones(n, dtype=np.bool_)
    signal = RiverSignal(settings(path, **options))
    signal.fit(Reference(flat, np.zeros(n, dtype=np.int64), flat, output, all_rows))
    return signal


def errors(n: int, rate: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(n) < rate


def take(signal: RiverSignal, wrong: np.ndarray, first_row: int) -> None:
    rows = np.arange(first_row, first_row + len(wrong))
    signal.advance(Measures(rows, wrong[:, None].astype(np.float64)))


@pytest.mark.parametrize(
    "path",
    [
        "river.drift:ADWIN",
        "river.drift:PageHinkley",
        "river.drift.binary:DDM",
        "river.drift.binary:HDDMA",
    ],
)
def test_rise_of_errors_is_found_by_any_detector_and_stays(path: str) -> None:
    signal = fitted(path, errors(400, 0.1))
    take(signal, errors(1_000, 0.1, seed=1), 0)
    assert signal.report().level is not Level.DRIFT
    take(signal, errors(600, 0.5, seed=2), 1_000)
    report = signal.report()
    assert report.level is Level.DRIFT
    assert report.change_row is not None
    assert 950 <= report.change_row <= 1_050
    take(signal, errors(2_000, 0.1, seed=3), 1_600)
    assert signal.report() == report


def test_alarm_on_the_reference_is_not_listened_to() -> None:
    signal = fitted("river.drift:ADWIN", np.concatenate([errors(500, 0.1), errors(500, 0.6)]))
    assert signal.report().level is Level.NONE


def test_warning_comes_from_the_detector_and_goes_with_it() -> None:
    signal = fitted("river.drift.binary:DDM", errors(1_000, 0.1))
    levels, wrong = [], np.concatenate([errors(40, 0.3, seed=1), errors(2_000, 0.05)])
    for row in range(len(wrong)):
        take(signal, wrong[row : row + 1], row)
        levels.append(signal.report().level)
    assert Level.WARNING in levels
    assert Level.DRIFT not in levels
    assert levels[-1] is Level.NONE
    assert signal.report().since_row is None


def test_options_are_passed_on() -> None:
    wrong = errors(400, 0.4, seed=1)
    levels = []
    for delta in (0.5, 1e-12):
        signal = fitted("river.drift:ADWIN", errors(400, 0.1), delta=delta)
        take(signal, wrong[:64], 0)
        levels.append(signal.report().level)
    assert levels == [Level.DRIFT, Level.NONE]


def test_detector_that_draws_at_random_gets_the_seed_of_the_settings() -> None:
    reports = []
    for _ in range(2):
        signal = fitted("river.drift:KSWIN", errors(200, 0.1), alpha=0.02)
        take(signal, errors(400, 0.9, seed=1), 0)
        reports.append(signal.report())
    assert reports[0] == reports[1]
    assert reports[0].level is Level.DRIFT


def test_saved_state_is_one_bit_an_error_beside_the_newest_rows() -> None:
    signal = fitted("river.drift:ADWIN", errors(400, 0.1))
    take(signal, errors(20_000, 0.1, seed=1), 0)
    state = signal.state()
    assert state["errors"].nbytes == 20_400 // 8
    assert len(state["rows"]) == RiverSignal.REACH


def test_reason_is_given_that_the_budget_does_not_bind() -> None:
    signal = RiverSignal(settings("river.drift:ADWIN"))
    notes = signal.fit(Stream().reference()).notes
    assert "river.drift:ADWIN sets its own false-alarm rate" in notes[0]


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("no_such_module:Thing", {}, "cannot import no_such_module"),
        ("river.drift:NoSuchThing", {}, "river.drift has no class NoSuchThing"),
        ("river.drift:binary", {}, "river.drift has no class binary"),
        ("river.drift:ADWIN", {"speed": 1}, r"refuses .*'speed': 1.*; it takes \(delta=0.002"),
        ("river.drift:KSWIN", {"alpha": 3}, "Alpha must be between 0 and 1"),
        ("river.stats:Mean", {}, "Mean is no drift detector"),
    ],
)
def test_detector_that_cannot_be_built_is_refused_in_words(
    path: str, options: dict[str, float], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        performance_signal_for(settings(path, **options))


def test_options_without_a_detector_to_take_them_are_refused() -> None:
    with pytest.raises(ConfigError, match="delta given, but performance_statistic = 'error'"):
        performance_signal_for(settings("error", delta=0.1))


def test_missing_river_is_told_how_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "river"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "river", None)
    with pytest.raises(ConfigError, match="pip install river"):
        performance_signal_for(settings("river.drift:ADWIN"))
