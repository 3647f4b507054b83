"""Playing a policy against known rewards, and the regret of what it chose."""

from __future__ import annotations

import numpy as np

from undrift.bandits.base import Arms, Floats, Policy, require, whole
from undrift.bandits.offpolicy import Log


def play(policy: Policy, rewards: Floats, *, batch: int = 1) -> Log:
    """Let a policy choose, round by round, from a table of what every arm would have earned.

    Policies that play the same table meet the same luck, so their regrets can be compared in pairs.

    Args:
        policy: The policy; it learns.
        rewards: Rewards (n, K) in [0, 1], one row per choice; only the chosen arm's is shown.
        batch: Choices made before any of their rewards is known.

    Returns:
        The choices, their rewards and their probabilities.

    Raises:
        ValueError: The table is not for this policy's arms, or ``batch`` is below 1.
    """
    rewards = np.asarray(rewards, dtype=np.float64)
    fits = rewards.ndim == 2 and rewards.shape[1] == policy.n_arms
    require(fits, "rewards", f"of shape (n, {policy.n_arms})", rewards.shape)
    require(whole(batch) and batch >= 1, "batch", "at least 1", batch)
    n = len(rewards)
    arms, earned, probabilities = np.empty(n, dtype=np.int64), np.empty(n), np.empty(n)
    for start in range(0, n, batch):
        rows = slice(start, min(start + batch, n))
        arms[rows], probabilities[rows] = policy.draw(rows.stop - start)
        for row in range(start, rows.stop):
            earned[row] = rewards[row, arms[row]]
            policy.update(int(arms[row]), float(earned[row]), float(probabilities[row]))
    return Log(arms, earned, probabilities)


def pseudo_regret(means: Floats, arms: Arms) -> Floats:
    """Return the cumulative regret (n,) against the single arm that is best over all rounds.

    Args:
        means: Expected reward (n, K) of every arm in every round.
        arms: Arms chosen (n,).

    Raises:
        ValueError: The shapes do not fit, or an arm is outside them.

    Example:
        >>> pseudo_regret(np.array([[0.0, 1.0], [0.5, 1.0]]), np.array([0, 1])).tolist()
        [1.0, 1.0]
    """
    means = _checked(means, arms)
    return _regret(means, arms, means[:, means.sum(axis=0).argmax()])


def dynamic_regret(means: Floats, arms: Arms) -> Floats:
    """Return the cumulative regret (n,) against the arm that is best in each round.

    Args:
        means: Expected reward (n, K) of every arm in every round.
        arms: Arms chosen (n,).

    Raises:
        ValueError: The shapes do not fit, or an arm is outside them.

    Example:
        >>> dynamic_regret(np.array([[0.0, 1.0], [0.5, 0.0]]), np.array([0, 1])).tolist()
        [1.0, 1.5]
    """
    means = _checked(means, arms)
    return _regret(means, arms, means.max(axis=1))


def _checked(means: Floats, arms: Arms) -> Floats:
    means, count = np.asarray(means, dtype=np.float64), len(arms)
    require(means.ndim == 2 and len(means) == count, "means", f"of shape ({count}, K)", means.shape)
    inside = count == 0 or (np.min(arms) >= 0 and np.max(arms) < means.shape[1])
    require(bool(inside), "arms", f"in 0..{means.shape[1] - 1}", arms)
    return means


def _regret(means: Floats, arms: Arms, best: Floats) -> Floats:
    regret: Floats = np.cumsum(best - means[np.arange(len(arms)), arms])
    return regret
