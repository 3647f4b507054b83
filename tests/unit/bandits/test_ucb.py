"""UCB policies against their published indices."""

from __future__ import annotations

import math

import numpy as np
import pytest

from undrift.bandits import UCB1, DiscountedUCB, Policy, SlidingWindowUCB, play

HISTORY = [(0, 1.0), (1, 0.0), (2, 0.5), (2, 0.7), (0, 0.1), (2, 0.9), (1, 0.4), (0, 0.3)]
ARMS, REWARDS = np.array(HISTORY).T
AGE = np.arange(len(HISTORY))[::-1]


def evidence(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    own = np.arange(3)[:, None] == ARMS
    count = (own * weight).sum(axis=1)
    return count, (own * weight * REWARDS).sum(axis=1) / count


def told(policy: Policy) -> Policy:
    for arm, reward in HISTORY:
        policy.update(arm, reward, 0.5)
    return policy


def index_of(name: str) -> np.ndarray:
    if name == "UCB1":
        count, mean = evidence(np.ones(8))
        return mean + np.sqrt(2 * math.log(8) / count)
    if name == "DiscountedUCB":
        count, mean = evidence(0.8**AGE)
        return mean + 2 * np.sqrt(0.6 * math.log(count.sum()) / count)
    count, mean = evidence(AGE < 5)
    return mean + np.sqrt(0.6 * math.log(5) / count)


@pytest.mark.parametrize(
    "policy",
    [UCB1(3), DiscountedUCB(3, discount=0.8, xi=0.6), SlidingWindowUCB(3, window=5, xi=0.6)],
    ids=lambda policy: type(policy).__name__,
)
def test_the_arm_of_the_highest_published_index_is_certain(policy: Policy) -> None:
    expected = int(index_of(type(policy).__name__).argmax())
    assert told(policy).select() == (expected, 1.0)


def test_untried_arms_come_first_and_share_the_probability() -> None:
    policy = UCB1(4, seed=0)
    policy.update(2, 1.0, 0.25)
    assert policy.probabilities() == pytest.approx([1 / 3, 1 / 3, 0.0, 1 / 3])


def test_floor_gives_every_arm_a_probability() -> None:
    policy = told(UCB1(3, floor=0.3))
    assert sorted(policy.probabilities()) == pytest.approx([0.1, 0.1, 0.8])


def test_an_arm_that_left_the_window_is_untried_again() -> None:
    policy = SlidingWindowUCB(2, window=3)
    for arm in (0, 1, 1, 1):
        policy.update(arm, 1.0, 0.5)
    assert policy.probabilities().tolist() == [1.0, 0.0]


def test_an_arm_all_but_forgotten_is_tried_again() -> None:
    policy = DiscountedUCB(2, discount=0.5)
    policy.update(1, 0.0, 0.5)
    for _ in range(1030):  # the count of arm 1 is now the smallest of floats, near 5e-324
        policy.update(0, 1.0, 0.5)
    assert policy.probabilities().tolist() == [0.0, 1.0]


def test_certain_choices_visit_every_arm_before_any_twice() -> None:
    log = play(UCB1(6, seed=2), np.zeros((6, 6)))
    assert sorted(log.arms) == list(range(6))
    assert log.probabilities == pytest.approx(1 / np.arange(6, 0, -1))


@pytest.mark.parametrize(
    ("policy", "bad"),
    [
        (UCB1, {"floor": -0.1}),
        (UCB1, {"floor": 1.1}),
        (DiscountedUCB, {"discount": 0.0}),
        (DiscountedUCB, {"discount": float("nan")}),
        (DiscountedUCB, {"xi": 0.0}),
        (SlidingWindowUCB, {"window": 0}),
        (SlidingWindowUCB, {"window": 2.5}),
        (SlidingWindowUCB, {"xi": float("inf")}),
    ],
)
def test_parameters_out_of_range_are_refused(policy: type[Policy], bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        policy(3, **bad)
