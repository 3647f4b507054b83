"""What every bandit policy must do, run over each of them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from undrift.bandits import EXP3S, DiscountedThompson, Policy

POLICIES = [EXP3S, DiscountedThompson]


@pytest.fixture(params=POLICIES, ids=lambda cls: cls.__name__)
def policy_class(request: pytest.FixtureRequest) -> type[Policy]:
    return request.param


def play(policy: Policy, means: np.ndarray, seed: int = 0) -> float:
    """Play Bernoulli arms with means (rounds, arms); return the mean reward."""
    rng = np.random.default_rng([seed, 1])  # not the stream that the policy draws from
    total = 0.0
    for mean in means:
        arm, probability = policy.select()
        reward = float(rng.random() < mean[arm])
        policy.update(arm, reward, probability)
        total += reward
    return total / len(means)


def switching(rounds: int, arms: int) -> np.ndarray:
    means = np.full((rounds, arms), 0.3)
    means[: rounds // 2, 0] = 0.8
    means[rounds // 2 :, arms - 1] = 0.8
    return means


def test_probabilities_are_positive_and_sum_to_one(policy_class: type[Policy]) -> None:
    policy = policy_class(6, seed=3)
    play(policy, switching(400, 6))
    p = policy.probabilities()
    assert p.shape == (6,)
    assert p.min() > 0.0
    assert p.sum() == pytest.approx(1.0, abs=1e-12)


def test_a_new_policy_has_no_favourite(policy_class: type[Policy]) -> None:
    assert policy_class(4, seed=0).probabilities() == pytest.approx(np.full(4, 0.25))


def test_logged_probability_is_the_frequency_of_the_draws(policy_class: type[Policy]) -> None:
    policy = policy_class(5, seed=1)
    play(policy, switching(120, 5))
    arms, p = policy.draw(40_000)
    expected = policy.probabilities()
    assert np.array_equal(p, expected[arms])
    frequency = np.bincount(arms, minlength=5) / len(arms)
    sigma = np.sqrt(expected * (1 - expected) / len(arms))
    assert np.all(np.abs(frequency - expected) < 4.5 * sigma)


def test_state_round_trip_through_json_continues_identically(policy_class: type[Policy]) -> None:
    one = policy_class(4, seed=7)
    play(one, switching(100, 4))
    two = policy_class(4, seed=99)
    two.load(json.loads(json.dumps(one.state())))
    for _ in range(50):
        drawn = one.select()
        assert two.select() == drawn
        one.update(drawn[0], 0.7, drawn[1])
        two.update(drawn[0], 0.7, drawn[1])
    assert two.state() == one.state()


def test_equal_seeds_choose_alike_and_other_seeds_do_not(policy_class: type[Policy]) -> None:
    first, same, other = (policy_class(8, seed=s).draw(64)[0] for s in (5, 5, 6))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


def test_switching_best_arm_is_followed_better_than_uniform(policy_class: type[Policy]) -> None:
    means = switching(3000, 5)
    policies = [policy_class(5, seed=s) for s in range(3)]
    rewards = [play(policy, means, seed=s) for s, policy in enumerate(policies)]
    uniform, best = means.mean(), means.max(axis=1).mean()
    assert np.mean(rewards) > uniform + 0.5 * (best - uniform)
    assert all(policy.probabilities().argmax() == 4 for policy in policies)


def test_one_arm_is_always_drawn_with_certainty(policy_class: type[Policy]) -> None:
    arm, probability = policy_class(1, seed=0).select()
    assert (arm, probability) == (0, pytest.approx(1.0))


@pytest.mark.parametrize(
    ("arm", "reward", "probability"),
    [(4, 0.5, 0.2), (-1, 0.5, 0.2), (0, 1.1, 0.2), (0, float("nan"), 0.2), (0, 0.5, 0.0)],
)
def test_bad_update_is_refused_and_changes_nothing(
    policy_class: type[Policy], arm: int, reward: float, probability: float
) -> None:
    policy = policy_class(4, seed=0)
    before = policy.state()
    with pytest.raises(ValueError, match="must be in"):
        policy.update(arm, reward, probability)
    assert policy.state() == before


def test_state_of_another_policy_is_refused(policy_class: type[Policy]) -> None:
    with pytest.raises(ValueError, match="arms"):
        policy_class(4).load(policy_class(5).state())


def test_no_arms_and_no_draws_are_refused(policy_class: type[Policy]) -> None:
    with pytest.raises(ValueError, match="at least one arm"):
        policy_class(0)
    with pytest.raises(ValueError, match="at least 1"):
        policy_class(2).draw(0)
