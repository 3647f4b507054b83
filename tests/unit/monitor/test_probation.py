from __future__ import annotations

import numpy as np

from tests.helpers.rows import joined
from undrift.monitor.probation import Probation
from undrift.monitor.settings import MonitorSettings
from undrift.records import PASSED_OVER

SETTINGS = MonitorSettings(probation_labels=200, probation_alpha=0.05, probation_tolerance=0.05)


def held(rate: float, baseline: float, seed: int, batch: int = 200) -> Probation:
    probation = Probation(SETTINGS)
    probation.start(1)
    wrong = np.random.default_rng(seed).random(200) < rate
    for part in np.array_split(wrong, 200 // batch):
        probation.update(joined(part), baseline)
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
    probation.update(joined(np.ones(50, dtype=np.bool_)), 0.1)
    assert probation.report().status == "none"
    probation.start(1)
    probation.update(joined(np.ones(50, dtype=np.bool_)), 0.1)
    verdict = probation.report()
    assert verdict.status == "failed"
    probation.update(joined(np.zeros(50, dtype=np.bool_)), 0.1)
    assert probation.report() == verdict


def test_restart_forgets_the_verdict() -> None:
    probation = held(0.9, 0.1, 0)
    probation.start(1)
    assert probation.report().status == "running"
    assert probation.report().labels == 0


def test_state_round_trip_in_the_middle() -> None:
    probation, loaded = held(0.3, 0.3, 1, batch=50), Probation(SETTINGS)
    probation.start(1)
    wrong = np.random.default_rng(2).random(150) < 0.5
    probation.update(joined(wrong[:20]), 0.3)
    loaded.load(probation.state())
    for each in (probation, loaded):
        each.update(joined(wrong[20:]), 0.3)
    assert probation.report() == loaded.report()
    assert probation.report().status == "failed"


def test_hopeless_baseline_and_perfect_version() -> None:
    assert held(0.0, 1.0, 0).report().status == "passed"
    assert held(0.0, 0.0, 0).report().status == "passed"


def compared(
    hard: np.ndarray,
    worse: float,
    better: float,
    seed: int,
    *,
    asked: float = 1.0,
    batch: int = 200,
) -> Probation:
    """Hold one where a share of rows is hard for both, and some for one of the two alone."""
    rng = np.random.default_rng(seed)
    alone = rng.random(len(hard))
    wrong, former = hard | (alone < worse), hard | (alone > 1.0 - better)
    rows = joined(wrong, former_wrong=former)
    rows.former[rng.random(len(hard)) >= asked] = -1
    probation = Probation(SETTINGS)
    probation.start(1)
    for part in np.array_split(np.arange(len(hard)), 200 // batch):
        probation.update(rows.take(part), 0.05)
    return probation


def test_world_that_grows_harder_is_not_taken_for_a_worse_version() -> None:
    hard = np.arange(200) % 5 > 0
    for seed in range(20):
        report = compared(hard, 0.02, 0.02, seed).report()
        assert report.status == "passed"
        assert report.error > 0.75
        assert report.baseline > 0.75, "what the version before would have erred, not what it did"
        assert "200 of them of rows that version 1 was asked too" in report.detail


def test_as_good_as_the_version_before_passes_at_any_difficulty() -> None:
    rng = np.random.default_rng(0)
    statuses = [
        compared(rng.random(200) < rng.random(), 0.3, 0.25, seed).report().status
        for seed in range(200)
    ]
    assert statuses.count("failed") <= 20  # alpha bounds it by 10 on average, at the boundary


def test_worse_version_fails_where_the_world_grows_easier() -> None:
    hard = np.arange(200) % 20 == 0
    for seed in range(20):
        report = compared(hard, 0.4, 0.0, seed).report()
        assert report.status == "failed"
        assert report.labels < 150


def test_rows_for_which_the_version_before_had_no_time_count_for_nothing() -> None:
    probation = Probation(SETTINGS)
    probation.start(1)
    probation.update(joined(np.ones(500, np.bool_), beside=PASSED_OVER), 0.0)
    assert (probation.report().status, probation.report().labels) == ("running", 0)
    right = np.zeros(200, np.bool_)
    probation.update(joined(right, former_wrong=right), 0.0)
    assert probation.report().status == "passed"


def test_rows_that_only_the_new_version_was_asked_are_held_against_the_error_before() -> None:
    hard = np.zeros(200, np.bool_)
    assert compared(hard, 0.4, 0.4, 1).report().status == "passed"
    assert compared(hard, 0.4, 0.4, 1, asked=0.0).report().status == "failed"
    mixed = compared(hard, 0.4, 0.4, 1, asked=0.5)
    assert mixed.report().status == "failed"
    assert mixed.report() == compared(hard, 0.4, 0.4, 1, asked=0.5, batch=1).report()
