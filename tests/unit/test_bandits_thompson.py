"""Discounted Thompson sampling against simulation of its own posterior."""

from __future__ import annotations

import numpy as np
import pytest

from undrift.bandits import DiscountedThompson


def test_probabilities_agree_with_sampling_the_posterior() -> None:
    policy = DiscountedThompson(4, discount=1.0, noise=0.3, floor=0.01, seed=0)
    rewards = {0: [0.4, 0.5], 1: [0.6] * 6, 2: [0.55] * 3}
    for arm, values in rewards.items():
        for value in values:
            policy.update(arm, value, 0.25)
    count = np.array([2, 6, 3, 0])
    total = np.array([0.9, 3.6, 1.65, 0.0])
    mean, std = (total + 0.5) / (count + 1), 0.3 / np.sqrt(count + 1)
    samples = np.random.default_rng(0).normal(mean, std, size=(200_000, 4)).argmax(axis=1)
    won = np.bincount(samples, minlength=4) / 200_000
    assert policy.probabilities() == pytest.approx(0.99 * won + 0.0025, abs=0.005)


def test_an_arm_left_alone_becomes_uncertain_again() -> None:
    policy = DiscountedThompson(2, discount=0.95, seed=0)
    for _ in range(60):
        policy.update(0, 0.1, 0.5)
    doubtful = policy.probabilities()[0]
    for _ in range(60):
        policy.update(1, 0.5, 0.5)
    assert policy.probabilities()[0] > doubtful


@pytest.mark.parametrize(
    "bad", [{"discount": 0.0}, {"discount": 1.1}, {"noise": 0.0}, {"floor": 0.0}, {"floor": 1.0}]
)
def test_parameters_out_of_range_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        DiscountedThompson(3, **bad)
