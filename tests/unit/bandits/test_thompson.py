"""Thompson sampling and its propensities against the exact posterior."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_ndtr

from undrift.bandits import DiscountedThompson, Thompson
from undrift.bandits.best import probability_best


def reference(mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Trapezoid over so many points that its own error is below 1e-8."""
    grid = np.linspace(-8.0, 8.0, 3001)
    x = np.unique(mean[:, None] + std[:, None] * grid)
    x = x[x >= (mean - 8.0 * std).max()]
    z = (x - mean[:, None]) / std[:, None]
    log_below = log_ndtr(z)
    density = np.exp(-0.5 * z * z) / (std[:, None] * np.sqrt(2 * np.pi))
    return np.trapezoid(density * np.exp(log_below.sum(axis=0) - log_below), x, axis=1)


@pytest.mark.thorough
@pytest.mark.parametrize("ratio", [1.0, 10.0, 1e3, 1e5])
@pytest.mark.parametrize("arms", [2, 5, 20])
def test_probability_of_being_the_best_is_exact_to_the_stated_error(
    arms: int, ratio: float
) -> None:
    rng = np.random.default_rng([arms, int(ratio)])
    std = ratio ** -rng.random((4, arms))
    mean = rng.normal(size=(4, arms)) * np.array([[1e-3], [0.1], [1.0], [3.0]]) * std.min()
    expected = [reference(m, s) for m, s in zip(mean, std, strict=True)]
    assert np.abs(probability_best(mean, std) - expected).max() < 1e-5


def test_rows_do_not_depend_on_the_rows_beside_them() -> None:
    rng = np.random.default_rng(0)
    mean, std = rng.random((150, 4)), rng.uniform(1e-4, 1.0, (150, 4))
    alone = np.concatenate([probability_best(mean[[i]], std[[i]]) for i in range(150)])
    assert np.abs(probability_best(mean, std) - alone).max() < 2e-5


def test_posterior_is_that_of_discounted_counts_with_one_imagined_reward() -> None:
    policy = DiscountedThompson(3, discount=0.9, noise=0.3, floor=0.01)
    history = [(0, 0.4), (1, 0.6), (1, 0.8), (0, 0.5), (1, 0.7)]
    for arm, reward in history:
        policy.update(arm, reward, 0.25)
    arms, rewards = np.array(history).T
    weight = 0.9 ** np.arange(5)[::-1] * (arms == np.arange(3)[:, None])
    count = weight.sum(axis=1) + 1
    best = reference(((weight * rewards).sum(axis=1) + 0.5) / count, 0.3 / np.sqrt(count))
    assert policy.probabilities() == pytest.approx(0.99 * best + 0.01 / 3, abs=1e-5)


def test_without_discount_the_two_policies_agree() -> None:
    one = Thompson(3, noise=0.3, floor=0.1)
    two = DiscountedThompson(3, discount=1.0, noise=0.3, floor=0.1)
    for policy in (one, two):
        for arm, reward in [(0, 0.2), (1, 0.9), (1, 0.8)]:
            policy.update(arm, reward, 0.3)
    assert np.array_equal(one.probabilities(), two.probabilities())


def test_an_arm_left_alone_becomes_uncertain_again() -> None:
    policy = DiscountedThompson(2, discount=0.95)
    for _ in range(60):
        policy.update(0, 0.1, 0.5)
    doubtful = policy.probabilities()[0]
    for _ in range(60):
        policy.update(1, 0.5, 0.5)
    assert policy.probabilities()[0] > doubtful


@pytest.mark.parametrize(
    "bad",
    [
        {"discount": 0.0},
        {"discount": 1.1},
        {"noise": 0.0},
        {"noise": float("inf")},
        {"floor": 0.0},
        {"floor": 1.0},
    ],
)
def test_parameters_out_of_range_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        DiscountedThompson(3, **bad)
