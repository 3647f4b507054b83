from __future__ import annotations

import numpy as np
import pytest

from benchmarks.detection.scoring import Score, delays, mean_time_interval, missed, score, tune


def test_alarms_before_the_onset_are_false() -> None:
    assert score([10, 99, 100, 150], onset=100, lag=0) == Score(false=2, delay=1)


def test_lag_is_part_of_the_delay() -> None:
    assert score([120], onset=100, lag=200) == Score(false=0, delay=221)


def test_alarm_from_labels_of_rows_before_the_drift_is_false_even_if_it_comes_after() -> None:
    assert score([95], onset=100, lag=50) == Score(false=1, delay=None)


def test_miss_counts_as_the_horizon() -> None:
    scores = [Score(0, 5), Score(1, None), Score(0, 4_000)]
    np.testing.assert_array_equal(delays(scores, 3_000), [5, 3_000, 3_000])
    assert missed(scores) == pytest.approx(1 / 3)


def test_tuning_finds_the_laxest_threshold_within_the_limit() -> None:
    found = tune(lambda t: int(100 * np.exp(-t)), (0.0, 10.0), allowed=9, steps=20)
    assert found == pytest.approx(np.log(10), abs=1e-4)
    assert int(100 * np.exp(-found)) <= 9


def test_tuning_stays_strict_where_no_threshold_keeps_the_limit() -> None:
    assert tune(lambda _: 50, (0.0, 10.0), allowed=9) == 10.0


def test_mean_time_without_alarms_is_infinite_and_has_a_lower_limit() -> None:
    middle, low, high = mean_time_interval(0, 10_000)
    assert middle == high == np.inf
    assert 2_000 < low < 5_000
