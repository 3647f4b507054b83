"""What every bandit policy must do, run over each of them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats

from tests.helpers.discovery import concrete, hold_all
from undrift import bandits
from undrift.bandits import (
    EXP3,
    EXP3S,
    UCB1,
    DiscountedThompson,
    DiscountedUCB,
    Policy,
    SlidingWindowUCB,
    Thompson,
    play,
)

Build = Callable[..., Policy]

STATIONARY = {"EXP3": EXP3, "UCB1": UCB1, "Thompson": Thompson}
FOLLOWING = {
    "EXP3S": EXP3S,
    "DiscountedThompson": DiscountedThompson,
    "DiscountedUCB": DiscountedUCB,
    "SlidingWindowUCB": SlidingWindowUCB,
}
EXPLORING = {
    "UCB1, floor": partial(UCB1, floor=0.1),
    "SlidingWindowUCB, floor": partial(SlidingWindowUCB, floor=0.1, window=50),
}
POLICIES: dict[str, Build] = {**STATIONARY, **FOLLOWING, **EXPLORING}


@pytest.fixture(params=POLICIES.values(), ids=POLICIES)
def build(request: pytest.FixtureRequest) -> Build:
    return request.param


def test_every_policy_is_held_to_this() -> None:
    hold_all(concrete(Policy, bandits), POLICIES.values(), "STATIONARY or FOLLOWING")


def switching(rounds: int, arms: int) -> np.ndarray:
    means = np.full((rounds, arms), 0.3)
    means[: rounds // 2, 0] = 0.8
    means[rounds // 2 :, arms - 1] = 0.8
    return means


def coins(means: np.ndarray, seed: int = 0) -> np.ndarray:
    """Bernoulli rewards (rounds, arms)."""
    return (np.random.default_rng([seed, 1]).random(means.shape) < means).astype(float)


def test_probabilities_sum_to_one_and_none_is_negative(build: Build) -> None:
    policy = build(6, seed=3)
    play(policy, coins(switching(400, 6)))
    p = policy.probabilities()
    assert p.shape == (6,)
    assert p.min() >= 0.0
    assert p.sum() == pytest.approx(1.0, abs=1e-12)


def test_a_fresh_policy_has_no_favourite(build: Build) -> None:
    assert build(4, seed=0).probabilities() == pytest.approx(np.full(4, 0.25))


def test_logged_probability_is_the_frequency_of_the_draws(build: Build) -> None:
    policy = build(5, seed=1)
    play(policy, coins(switching(120, 5)))
    expected = policy.probabilities()
    arms, p = policy.draw(40_000)
    assert np.array_equal(p, expected[arms])
    assert p.min() > 0.0
    counts, possible = np.bincount(arms, minlength=5), expected > 0.0
    assert counts[~possible].sum() == 0
    if possible.sum() > 1:
        assert stats.chisquare(counts[possible], 40_000 * expected[possible]).pvalue > 1e-4


def test_state_round_trip_through_json_continues_identically(build: Build) -> None:
    one, rewards = build(4, seed=7), coins(switching(200, 4))
    play(one, rewards[:150])
    two = build(4, seed=99)
    two.load(json.loads(json.dumps(one.state())))
    rest = [play(policy, rewards[100:], batch=3) for policy in (one, two)]
    assert np.array_equal(rest[0].arms, rest[1].arms)
    assert np.array_equal(rest[0].probabilities, rest[1].probabilities)
    assert two.state() == one.state()


def test_state_is_a_checkpoint_that_torch_loads_without_code(build: Build) -> None:
    policy, file = build(np.int64(4), seed=7), io.BytesIO()
    play(policy, coins(switching(20, 4)))
    torch.save(policy.state(), file)
    file.seek(0)
    assert torch.load(file, weights_only=True) == policy.state()


def test_equal_seeds_choose_alike_and_other_seeds_do_not(build: Build) -> None:
    first, same, other = (build(8, seed=s).draw(64)[0] for s in (5, 5, 6))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


@pytest.mark.thorough
@pytest.mark.parametrize("build", FOLLOWING.values(), ids=FOLLOWING)
def test_switching_best_arm_is_followed_better_than_uniform(build: Build) -> None:
    means = switching(2000, 5)
    logs = [play(build(5, seed=s), coins(means, s)) for s in range(2)]
    uniform, best = means.mean(), means.max(axis=1).mean()
    assert np.mean([log.rewards for log in logs]) > uniform + 0.3 * (best - uniform)
    assert all(np.bincount(log.arms[-300:], minlength=5).argmax() == 4 for log in logs)


def test_one_arm_is_always_drawn_with_certainty(build: Build) -> None:
    policy = build(1, seed=0)
    assert policy.select() == (0, pytest.approx(1.0))
    policy.update(0, 0.0, 1.0)
    assert policy.select() == (0, pytest.approx(1.0))


@pytest.mark.parametrize(
    ("arm", "reward", "probability"),
    [
        (4, 0.5, 0.2),
        (-1, 0.5, 0.2),
        (1.5, 0.5, 0.2),
        (0, 1.1, 0.2),
        (0, float("nan"), 0.2),
        (0, 0.5, 0.0),
        (0, 0.5, float("nan")),
    ],
)
def test_bad_update_is_refused_and_changes_nothing(
    build: Build, arm: int, reward: float, probability: float
) -> None:
    policy = build(4, seed=0)
    before = policy.state()
    with pytest.raises(ValueError, match="must be in"):
        policy.update(arm, reward, probability)
    assert policy.state() == before


def test_state_of_another_policy_is_refused(build: Build) -> None:
    with pytest.raises(ValueError, match="n_arms=4"):
        build(4).load(build(5).state())


def test_damaged_state_is_refused_and_changes_nothing(build: Build) -> None:
    policy = build(4, seed=0)
    before = policy.state()
    for name, value in before["learnt"].items():
        bad = float("nan") if np.ndim(value) == 0 else value[1:]
        with pytest.raises(ValueError, match="damaged"):
            policy.load({**before, "learnt": {**before["learnt"], name: bad}})
    for rng in (None, {**before["rng"], "uinteger": -1}):
        with pytest.raises(ValueError, match="damaged"):
            policy.load({**before, "rng": rng})
    with pytest.raises(ValueError, match="damaged"):
        policy.load({name: before[name] for name in ("policy", "settings", "learnt")})
    assert policy.state() == before


def test_no_arms_and_no_draws_are_refused(build: Build) -> None:
    with pytest.raises(ValueError, match="at least one arm"):
        build(0)
    with pytest.raises(ValueError, match="at least 1"):
        build(2).draw(0)
