"""Shares of several models in one answer."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from undrift.monitor.challengers.hedge import Hedge


def rewards(n: int, *chances: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n, len(chances))) < np.array(chances)


def test_the_live_model_begins_with_most_of_the_answer() -> None:
    assert Hedge(5).shares().tolist() == pytest.approx([0.8, 0.05, 0.05, 0.05, 0.05])
    assert Hedge(1).shares().tolist() == [1.0]


def test_among_equals_the_live_model_keeps_most() -> None:
    hedge, together = Hedge(5), []
    for _ in range(50):
        hedge.update(np.repeat(rewards(64, 0.7, seed=len(together)), 5, axis=1))
        together.append(hedge.shares())
    assert np.mean(together, axis=0)[0] == pytest.approx(0.8)


def test_the_best_is_followed_and_the_next_after_a_change() -> None:
    hedge = Hedge(3)
    hedge.update(rewards(1000, 0.5, 0.9, 0.5))
    assert hedge.shares().argmax() == 1
    hedge.update(rewards(200, 0.5, 0.1, 0.9, seed=1))
    assert hedge.shares().argmax() == 2
    assert hedge.shares().sum() == pytest.approx(1.0)


def test_batches_do_not_matter() -> None:
    right, hedges = rewards(500, 0.6, 0.7, 0.5), [Hedge(3), Hedge(3)]
    for hedge, cuts in zip(hedges, (range(0, 501, 125), (0, 1, 64, 65, 300, 500)), strict=True):
        for start, stop in itertools.pairwise(cuts):
            hedge.update(right[start:stop])
    np.testing.assert_array_equal(hedges[0].shares(), hedges[1].shares())


def test_saved_and_loaded_it_goes_on_alike() -> None:
    hedge, other = Hedge(3), Hedge(3)
    hedge.update(rewards(100, 0.6, 0.7, 0.5))
    other.load(hedge.state())
    for each in (hedge, other):
        each.update(rewards(100, 0.6, 0.7, 0.5, seed=1))
    assert hedge.count == other.count == 200
    np.testing.assert_array_equal(hedge.shares(), other.shares())


def test_a_million_labels_leave_the_shares_finite() -> None:
    hedge = Hedge(2)
    hedge.update(rewards(1_000_000, 0.0, 1.0))
    assert np.isfinite(hedge.shares()).all()
    hedge.update(rewards(1000, 1.0, 0.0))
    assert hedge.shares()[0] > 0.99
