"""EXP3 and EXP3.S against their published updates."""

from __future__ import annotations

import numpy as np
import pytest

from undrift.bandits import EXP3, EXP3S


@pytest.mark.parametrize("alpha", [0.0, 0.01])
def test_update_follows_the_paper(alpha: float) -> None:
    gamma, k = 0.2, 3
    policy = EXP3S(k, gamma=gamma, alpha=alpha) if alpha else EXP3(k, gamma=gamma)
    w = np.ones(k)
    for arm, reward in [(0, 1.0), (2, 0.5), (0, 0.25), (1, 0.0)]:
        p = (1 - gamma) * w / w.sum() + gamma / k
        assert policy.probabilities() == pytest.approx(p)
        policy.update(arm, reward, p[arm])
        estimate = np.zeros(k)
        estimate[arm] = reward / p[arm]
        w = w * np.exp(gamma * estimate / k) + np.e * alpha / k * w.sum()
    assert policy.probabilities() == pytest.approx((1 - gamma) * w / w.sum() + gamma / k)


def test_no_probability_falls_below_the_exploration_share() -> None:
    policy = EXP3(4, gamma=0.2)
    for _ in range(5_000):
        policy.update(1, 1.0, 0.25)
    assert policy.probabilities() == pytest.approx([0.05, 0.85, 0.05, 0.05])


def test_a_weight_that_vanished_beside_another_comes_back() -> None:
    policy = EXP3(2, gamma=0.2)
    for _ in range(5_000):
        policy.update(1, 1.0, 0.5)
    for _ in range(5_100):
        policy.update(0, 1.0, 0.5)
    assert policy.probabilities() == pytest.approx([0.9, 0.1])


@pytest.mark.parametrize("bad", [{"gamma": 0.0}, {"gamma": 1.5}, {"alpha": 1.0}, {"alpha": -0.1}])
def test_parameters_out_of_range_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        EXP3S(3, **bad)
