from __future__ import annotations

import numpy as np
import pytest

from benchmarks.retraining.figures import Figures, forgetting
from benchmarks.retraining.scoring import allowed_forgetting, interval, mean_ranks


def test_best_method_of_every_cell_has_rank_one() -> None:
    cells = [{"a": 0.9, "b": 0.8, "c": 0.1}, {"a": 0.7, "b": 0.2, "c": 0.3}]
    assert mean_ranks(cells) == {"a": 1.0, "b": 2.5, "c": 2.5}


def test_ties_share_their_rank() -> None:
    assert mean_ranks([{"a": 0.5, "b": 0.5, "c": 0.4}]) == {"a": 1.5, "b": 1.5, "c": 3.0}


def test_forgetting_is_measured_from_when_a_regime_was_learnt() -> None:
    base, second = 0.9, 0.8
    assert forgetting([[base], [0.7, second], [0.5, 0.6, 0.9]]) == pytest.approx(
        ((base - 0.5) + (second - 0.6)) / 2
    )


def test_learning_that_helps_older_regimes_is_negative_forgetting() -> None:
    assert forgetting([[0.8], [0.9, 0.9]]) == pytest.approx(-0.1)


def test_half_of_fine_tunings_forgetting_is_allowed_but_no_less_than_a_point() -> None:
    assert allowed_forgetting(0.5) == 0.25
    assert allowed_forgetting(0.001) == 0.01
    assert allowed_forgetting(-0.2) == 0.01


def test_interval_covers_the_mean_and_is_reproducible() -> None:
    values = np.random.default_rng(1).normal(2.0, 1.0, 40)
    mean, low, high = interval(values)
    assert low < mean < high
    assert mean == pytest.approx(values.mean())
    assert interval(values) == (mean, low, high)


def test_costs_of_steps_add_up_and_memory_is_their_peak() -> None:
    figures = Figures(0.9)
    for peak in (10.0, 30.0, 20.0):
        figures.spent(peak, flops=5.0, steps=2)
        figures.learnt([0.8] * (len(figures.accuracy) + 1), ahead=0.6)
    plain = figures.plain()
    assert (plain["flops"], plain["steps"], plain["peak_mb"]) == (15.0, 6, 30.0)
    assert plain["new"] == pytest.approx(0.6)
    assert plain["old"] == pytest.approx(0.8)
    assert plain["mean"] == pytest.approx(0.7)
