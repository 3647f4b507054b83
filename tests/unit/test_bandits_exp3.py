"""EXP3.S against its published update."""

from __future__ import annotations

import numpy as np
import pytest

from undrift.bandits import EXP3S


def test_update_follows_the_paper() -> None:
    gamma, alpha, k = 0.2, 0.01, 3
    policy = EXP3S(k, gamma=gamma, alpha=alpha, seed=0)
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
    policy = EXP3S(4, gamma=0.2, alpha=0.0, seed=0)
    for _ in range(20_000):
        policy.update(1, 1.0, 0.25)
    assert policy.probabilities() == pytest.approx([0.05, 0.85, 0.05, 0.05])


@pytest.mark.parametrize("bad", [{"gamma": 0.0}, {"gamma": 1.5}, {"alpha": 1.0}, {"alpha": -0.1}])
def test_parameters_out_of_range_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        EXP3S(3, **bad)
