from __future__ import annotations

import numpy as np

from undrift.monitor.probation import Probation
from undrift.monitor.settings import MonitorSettings

SETTINGS = MonitorSettings(probation_labels=200, probation_alpha=0.05, probation_tolerance=0.05)


def held(rate: float, baseline: float, seed: int, batch: int = 200) -> Probation:
    probation = Probation(SETTINGS)
    probation.start()
    wrong = np.random.default_rng(seed).random(200) < rate
    for part in np.array_split(wrong, 200 // batch):
        probation.update(part, baseline)
    return probation


def test_version_as_good_as_before_passes() -> None:
    statuses = [held(0.3, 0.3, seed).report().status for seed in range(60)]
    assert statuses.count("passed") >= 55  # alpha bounds the share that fails


def test_worse_version_fails_before_its_labels_are_over() -> None:
    for seed in range(20):
        report = held(0.7, 0.3, seed).report()
        assert report.status == "failed"
        assert report.labels < 100
        assert "failed after" in report.detail


def test_batch_cut_changes_nothing() -> None:
    for seed in range(5):
        assert held(0.5, 0.3, seed).report() == held(0.5, 0.3, seed, batch=1).report()


def test_labels_outside_a_probation_are_ignored() -> None:
    probation = Probation(SETTINGS)
    probation.update(np.ones(50, dtype=np.bool_), 0.1)
    assert probation.report().status == "none"
    probation.start()
    probation.update(np.ones(50, dtype=np.bool_), 0.1)
    verdict = probation.report()
    assert verdict.status == "failed"
    probation.update(np.zeros(50, dtype=np.bool_), 0.1)
    assert probation.report() == verdict


def test_restart_forgets_the_verdict() -> None:
    probation = held(0.9, 0.1, 0)
    probation.start()
    assert probation.report().status == "running"
    assert probation.report().labels == 0


def test_state_round_trip_in_the_middle() -> None:
    probation, loaded = held(0.3, 0.3, 1, batch=50), Probation(SETTINGS)
    probation.start()
    wrong = np.random.default_rng(2).random(150) < 0.5
    probation.update(wrong[:20], 0.3)
    loaded.load(probation.state())
    for each in (probation, loaded):
        each.update(wrong[20:], 0.3)
    assert probation.report() == loaded.report()
    assert probation.report().status == "failed"


def test_hopeless_baseline_and_perfect_version() -> None:
    assert held(0.0, 1.0, 0).report().status == "passed"
    assert held(0.0, 0.0, 0).report().status == "passed"
