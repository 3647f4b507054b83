"""Gradient matching."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.helpers.setups import NEW, OLD, setup
from undrift.train.methods.gradmatch import MatchingSampler, matching_pursuit

NEW_ONLY = np.repeat([0.0, 1.0], [OLD, NEW])
GRADIENTS = np.random.default_rng(0).normal(1.0, 2.0, size=(100, 20))


def distance(weights: np.ndarray) -> float:
    """How far the weighted sum is from the sum of all, relative to that."""
    total = GRADIENTS.sum(axis=0)
    return float(np.linalg.norm(weights @ GRADIENTS - total) / np.linalg.norm(total))


def test_a_matched_subset_is_nearer_than_random_ones() -> None:
    matched = matching_pursuit(GRADIENTS @ GRADIENTS.T, 10)
    rng = np.random.default_rng(1)
    at_random = [
        distance(np.isin(np.arange(100), rng.choice(100, 10, replace=False)) * 10.0)
        for _ in range(200)
    ]
    assert distance(matched) < min(at_random)


def test_more_gradients_match_better() -> None:
    gram = GRADIENTS @ GRADIENTS.T
    found = [distance(matching_pursuit(gram, most)) for most in (1, 5, 20)]
    assert found[0] > found[1] > found[2]


def test_weights_are_not_negative_and_not_too_many() -> None:
    weights = matching_pursuit(GRADIENTS @ GRADIENTS.T, 10)
    assert weights.min() == 0.0
    assert 1 <= np.count_nonzero(weights) <= 10


def test_equal_gradients_are_stood_for_by_one_of_them() -> None:
    gradients = np.repeat([[2.0, 0.0], [0.0, 1.0]], [30, 20], axis=0)
    weights = matching_pursuit(gradients @ gradients.T, 2)
    assert np.flatnonzero(weights).tolist() == [0, 30]
    assert weights[[0, 30]] == pytest.approx([30.0, 20.0], rel=0.05)


def test_gradients_of_zero_choose_something() -> None:
    assert matching_pursuit(np.zeros((5, 5)), 3).sum() == 1.0


def test_the_weighted_subset_has_the_gradient_of_all_rows() -> None:
    s = setup()
    sampler = MatchingSampler(s)
    batches = [sampler.draw(30) for _ in range(10)]  # two passes over 0.3 of 500 rows
    rows = torch.as_tensor(np.concatenate([b.index for b in batches]))
    weight = torch.as_tensor(np.concatenate([b.weight for b in batches]))

    def gradient(index: torch.Tensor, each: torch.Tensor) -> torch.Tensor:
        losses = s.objective.losses(s.model(s.x[index]), s.y[index])
        found = torch.autograd.grad((losses * each).mean(), list(s.head.parameters()))
        return torch.cat([g.flatten() for g in found])

    everything = torch.arange(OLD + NEW)
    full = gradient(everything, torch.ones(OLD + NEW))
    cosine = torch.nn.functional.cosine_similarity(full, gradient(rows, weight), dim=0)
    assert cosine > 0.98


def test_weights_are_one_on_average() -> None:
    sampler = MatchingSampler(setup())
    weights = np.concatenate([sampler.draw(30).weight for _ in range(10)])
    assert weights.mean() == pytest.approx(1.0, rel=0.05)
    assert weights.std() > 0.1


def test_untrusted_rows_are_never_drawn() -> None:
    sampler = MatchingSampler(setup(weight=NEW_ONLY))
    assert min(sampler.draw(30).index.min() for _ in range(30)) >= OLD


def test_choosing_is_announced_and_counted() -> None:
    s = setup()
    sampler = MatchingSampler(s)
    for chosen in (True, False):
        before, announced = s.meter.flops, sampler.draw_flops(30)
        sampler.draw(30)
        assert s.meter.flops - before == announced
        assert (announced > 0.0) == chosen


def test_a_subset_is_chosen_anew_after_five_passes() -> None:
    s = setup(weight=NEW_ONLY)
    sampler = MatchingSampler(s)
    due = []
    for _ in range(40):
        due.append(sampler.draw_flops(30) > 0.0)
        sampler.draw(30)
    # 60 rows of 200 are 10 batches of 30 in five passes
    assert np.flatnonzero(due).tolist() == [0, 10, 20, 30]


def test_no_subset_is_chosen_that_the_budget_leaves_no_time_for() -> None:
    s = setup()
    once = (OLD + NEW) * s.blocks.forward_flops
    s = setup(budget=f"{2.5 * once}FLOP")
    sampler = MatchingSampler(s)
    for _ in range(100):
        sampler.draw(30)
    assert s.meter.flops <= once
