"""Off-policy estimates: unbiased, with honest errors, and warnings that say why."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from undrift.bandits import (
    EXP3S,
    UCB1,
    DiscountedThompson,
    Estimate,
    Log,
    Policy,
    doubly_robust,
    inverse_propensity,
    play,
    self_normalized,
)

MEANS = np.array([0.2, 0.5, 0.7, 0.4])
LOGGED = np.array([0.4, 0.3, 0.1, 0.2])
TARGET = np.array([0.1, 0.1, 0.7, 0.1])
TRUTH = float(TARGET @ MEANS)


def log_of(n: int, seed: int) -> Log:
    rng = np.random.default_rng(seed)
    arms = rng.choice(4, size=n, p=LOGGED)
    return Log(arms, (rng.random(n) < MEANS[arms]).astype(float), LOGGED[arms])


def near(log: Log, target: np.ndarray) -> Estimate:
    return doubly_robust(log, target, MEANS + 0.05)


def wild(log: Log, target: np.ndarray) -> Estimate:
    return doubly_robust(log, target, np.array([0.9, 0.1, 0.3, 0.8]))


ESTIMATORS = {
    "IPS": inverse_propensity,
    "SNIPS": self_normalized,
    "doubly robust": near,
    "doubly robust, wrong predictions": wild,
}
Estimator = Callable[[Log, np.ndarray], Estimate]


@pytest.fixture(params=ESTIMATORS.values(), ids=ESTIMATORS)
def estimator(request: pytest.FixtureRequest) -> Estimator:
    return request.param


def test_estimates_are_unbiased_and_their_errors_honest(estimator: Estimator) -> None:
    found = [estimator(log_of(500, seed), TARGET) for seed in range(400)]
    values = np.array([e.value for e in found])
    spread = values.std(ddof=1)
    assert abs(values.mean() - TRUTH) < 4 * spread / np.sqrt(400)
    assert np.mean([e.standard_error for e in found]) == pytest.approx(spread, rel=0.15)
    covered = [abs(e.value - TRUTH) < 1.96 * e.standard_error for e in found]
    assert 0.90 < np.mean(covered) < 0.99


def test_the_logged_policy_itself_gets_its_mean_reward(estimator: Estimator) -> None:
    log = log_of(4000, 0)
    estimate = estimator(log, LOGGED)
    assert estimate.value == pytest.approx(log.rewards.mean(), abs=3 * estimate.standard_error)
    assert estimate.effective == pytest.approx(4000)
    assert estimate.warning == ""


@pytest.mark.thorough
@pytest.mark.parametrize("build", [EXP3S, DiscountedThompson], ids=lambda cls: cls.__name__)
def test_log_of_a_policy_that_learnt_as_it_went_is_unbiased(build: type[Policy]) -> None:
    values = []
    for seed in range(30):
        means = np.tile(MEANS, (120, 1))
        rewards = (np.random.default_rng([seed, 1]).random(means.shape) < means).astype(float)
        values.append(inverse_propensity(play(build(4, seed=seed), rewards), TARGET).value)
    assert abs(np.mean(values) - TRUTH) < 4 * np.std(values, ddof=1) / np.sqrt(30)


def test_target_that_changes_by_row_is_followed() -> None:
    log = log_of(20_000, 3)
    first = np.arange(20_000)[:, None] < 5_000
    estimate = self_normalized(log, np.where(first, np.eye(4)[2], np.eye(4)[0]))
    assert estimate.value == pytest.approx(0.25 * 0.7 + 0.75 * 0.2, abs=4 * estimate.standard_error)


def test_good_predictions_shrink_the_error() -> None:
    log = log_of(2000, 1)
    assert near(log, TARGET).standard_error < 0.9 * inverse_propensity(log, TARGET).standard_error


def test_constant_reward_is_met_exactly_by_the_weighted_mean() -> None:
    log = Log(log_of(50, 0).arms, np.full(50, 0.3), log_of(50, 0).probabilities)
    assert self_normalized(log, TARGET).value == pytest.approx(0.3)
    assert self_normalized(log, TARGET).standard_error == pytest.approx(0.0, abs=1e-12)


def test_effective_sample_of_a_hand_made_log() -> None:
    log = Log(np.array([0, 0, 1, 1]), np.ones(4), np.array([0.5, 0.5, 0.5, 0.1]))
    weight = np.array([1.0, 1.0, 1.0, 5.0])
    expected = weight.sum() ** 2 / (weight**2).sum()
    assert inverse_propensity(log, np.array([0.5, 0.5])).effective == pytest.approx(expected)


def test_tiny_propensities_are_told_in_words(estimator: Estimator) -> None:
    rng = np.random.default_rng(0)
    p = np.array([0.997, 0.001, 0.001, 0.001])
    arms = rng.choice(4, size=5000, p=p)
    warning = estimator(Log(arms, np.ones(5000), p[arms]), TARGET).warning
    assert "propensities are too small" in warning
    assert "propensity of 0.001" in warning


def test_log_of_certain_choices_cannot_speak_for_other_arms(estimator: Estimator) -> None:
    log = play(UCB1(4), np.tile(MEANS, (600, 1)))
    warning = estimator(log, TARGET).warning
    assert "not 1" in warning
    assert "could not draw" in warning


def test_exploration_makes_the_log_of_an_index_policy_usable() -> None:
    means = np.tile(MEANS, (4000, 1))
    rewards = (np.random.default_rng(5).random(means.shape) < means).astype(float)
    estimate = inverse_propensity(play(UCB1(4, floor=0.2, seed=1), rewards), TARGET)
    assert estimate.warning == ""
    assert abs(estimate.value - TRUTH) < 4 * estimate.standard_error


@pytest.mark.parametrize(
    "target",
    [
        np.array([0.5, 0.5, 0.5, 0.5]),
        np.array([1.5, -0.5, 0.0, 0.0]),
        np.array([0.5, 0.5]),
        np.full((3, 4), 0.25),
        np.full(4, np.nan),
        np.array([0.0, 0.0, 0.0, 0.0, 1.0]),
    ],
    ids=["sums to 2", "negative", "too few arms", "too few rows", "NaN", "never logged"],
)
def test_bad_target_is_refused(estimator: Estimator, target: np.ndarray) -> None:
    with pytest.raises(ValueError, match="target must be"):
        estimator(log_of(100, 0), target)


def test_bad_predictions_are_refused() -> None:
    for predicted in (np.ones(5), np.ones((7, 4)), np.full(4, np.nan)):
        with pytest.raises(ValueError, match="predicted must be"):
            doubly_robust(log_of(100, 0), TARGET, predicted)


@pytest.mark.parametrize(
    ("arms", "rewards", "probabilities", "words"),
    [
        ([], [], [], "not empty"),
        ([0, 1], [0.5], [0.5, 0.5], "equal columns"),
        ([0.5], [0.5], [0.5], "integers"),
        ([-1], [0.5], [0.5], "integers"),
        ([0], [float("nan")], [0.5], "rewards must be finite"),
        ([0], [0.5], [0.0], r"probabilities must be in \(0, 1\]"),
        ([0], [0.5], [float("nan")], "probabilities must be in"),
    ],
)
def test_bad_log_is_refused(
    arms: list[int], rewards: list[float], probabilities: list[float], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        Log(np.array(arms), np.array(rewards), np.array(probabilities))
