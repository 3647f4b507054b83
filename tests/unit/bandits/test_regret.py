"""Known regret behaviour: bounds hold, regret is sublinear, forgetting pays where arms switch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from undrift.bandits import (
    EXP3,
    EXP3S,
    UCB1,
    DiscountedThompson,
    DiscountedUCB,
    Policy,
    SlidingWindowUCB,
    Thompson,
    dynamic_regret,
    play,
    pseudo_regret,
)

K = 4
STATIONARY = np.array([0.7, 0.5, 0.4, 0.3])


def coins(means: np.ndarray, seed: int) -> np.ndarray:
    return (np.random.default_rng([seed, 1]).random(means.shape) < means).astype(float)


def stationary(rounds: int) -> np.ndarray:
    return np.tile(STATIONARY, (rounds, 1))


def collapsing(rounds: int) -> np.ndarray:
    """The best of two arms becomes the worst in the middle; the other stays as it was."""
    means = np.tile([0.9, 0.6], (rounds, 1))
    means[rounds // 2 :, 0] = 0.2
    return means


def regret(build: Callable[[int], Policy], means: np.ndarray, seeds: int = 2) -> float:
    """Mean dynamic regret over seeds; against a stationary problem it is the pseudo-regret."""
    logs = [play(build(seed), coins(means, seed)) for seed in range(seeds)]
    return float(np.mean([dynamic_regret(means, log.arms)[-1] for log in logs]))


def exp3_gamma(rounds: int) -> float:
    return min(1.0, float(np.sqrt(K * np.log(K) / ((np.e - 1) * rounds))))


def test_exp3_keeps_its_bound() -> None:
    rounds = 1000
    gamma = exp3_gamma(rounds)
    bound = (np.e - 1) * gamma * 0.7 * rounds + K * np.log(K) / gamma
    assert regret(lambda s: EXP3(K, gamma=gamma, seed=s), stationary(rounds)) < bound


def test_ucb1_keeps_its_bound() -> None:
    rounds, gap = 1000, STATIONARY[0] - STATIONARY[1:]
    bound = (8 * np.log(rounds) / gap).sum() + (1 + np.pi**2 / 3) * gap.sum()
    assert regret(lambda s: UCB1(K, seed=s), stationary(rounds)) < bound


@pytest.mark.thorough
@pytest.mark.parametrize(
    "build",
    [
        lambda s, n: EXP3(K, gamma=exp3_gamma(n), seed=s),
        lambda s, n: UCB1(K, seed=s),
        lambda s, n: Thompson(K, floor=1e-6, seed=s),
    ],
    ids=["EXP3", "UCB1", "Thompson"],
)
def test_regret_is_sublinear_when_nothing_changes(build: Callable[[int, int], Policy]) -> None:
    short = regret(lambda s: build(s, 250), stationary(250))
    assert regret(lambda s: build(s, 1500), stationary(1500)) < 0.65 * 6 * short


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("still", "following"),
    [
        (partial(EXP3, 2), partial(EXP3S, 2, gamma=0.1)),
        (partial(UCB1, 2), partial(DiscountedUCB, 2)),
        (partial(UCB1, 2), partial(SlidingWindowUCB, 2, window=200)),
        (partial(Thompson, 2), partial(DiscountedThompson, 2, noise=0.5)),
    ],
    ids=["EXP3S", "DiscountedUCB", "SlidingWindowUCB", "DiscountedThompson"],
)
def test_forgetting_pays_where_the_best_arm_collapses(
    still: Callable[..., Policy], following: Callable[..., Policy]
) -> None:
    means = collapsing(1600)
    forgot, kept = (regret(lambda s, b=b: b(seed=s), means) for b in (following, still))
    assert forgot < 0.75 * kept


def test_regrets_of_a_small_case_by_hand() -> None:
    means = np.array([[0.9, 0.1], [0.9, 0.1], [0.0, 1.0]])
    arms = np.array([1, 0, 0])
    assert pseudo_regret(means, arms) == pytest.approx([0.8, 0.8, 0.8])
    assert dynamic_regret(means, arms) == pytest.approx([0.8, 0.8, 1.8])


def test_batched_play_learns_only_between_batches() -> None:
    log = play(UCB1(3, seed=0), np.tile([0.0, 1.0, 0.0], (12, 1)), batch=4)
    assert log.probabilities[:4] == pytest.approx(np.full(4, 1 / 3))
    assert set(log.probabilities[4:]) <= {1.0, 0.5}


def test_a_last_batch_that_is_not_full_is_played() -> None:
    assert len(play(EXP3(2), np.ones((7, 2)), batch=3)) == 7


@pytest.mark.parametrize("table", [np.ones((5, 3)), np.ones(5)])
def test_rewards_of_other_arms_than_the_policys_are_refused(table: np.ndarray) -> None:
    with pytest.raises(ValueError, match="rewards must be of shape"):
        play(EXP3(2), table)


@pytest.mark.parametrize("batch", [0, 1.5])
def test_batch_that_is_no_number_of_choices_is_refused(batch: int) -> None:
    with pytest.raises(ValueError, match="batch"):
        play(EXP3(2), np.ones((5, 2)), batch=batch)


@pytest.mark.parametrize("measure", [pseudo_regret, dynamic_regret])
def test_choices_that_do_not_fit_the_means_are_refused(
    measure: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> None:
    with pytest.raises(ValueError, match="means"):
        measure(np.ones((3, 2)), np.array([0, 1]))
    with pytest.raises(ValueError, match="arms"):
        measure(np.ones((2, 2)), np.array([0, -1]))
