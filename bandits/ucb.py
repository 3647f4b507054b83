"""Upper confidence bounds: UCB1, discounted UCB and sliding-window UCB.

These policies take the arm of the highest index, so the probability that they log is 1 (arms that
tie, as all untried ones do, share it). Such a log says nothing about other arms. A ``floor`` above
zero draws that share of the choices uniformly: every probability is then at least floor / K, and
other policies can be evaluated on the log.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from undrift.bandits.base import EmpiricalMeans, Floats, Policy, Probabilities, require, whole


class _Index(Policy):
    """The index of an arm is its mean reward plus sqrt(width ln(all rewards) / its rewards)."""

    def __init__(
        self, n_arms: int, *, seed: int, width: float, floor: float, **settings: float
    ) -> None:
        require(0.0 <= floor <= 1.0, "floor", "in [0, 1]", floor)
        super().__init__(n_arms, seed=seed, floor=floor, **settings)
        self._width = width
        self._floor = floor

    @abstractmethod
    def _evidence(self) -> tuple[Floats, Floats]:
        """Return the count (K,) of each arm's rewards and their sum (K,)."""

    def probabilities(self) -> Probabilities:
        """Return 1 - floor, shared by the arms of the highest index, plus floor / K for each."""
        count, total = self._evidence()
        tried = count > 0.0
        seen = np.where(tried, count, 1.0)
        with np.errstate(over="ignore"):  # an arm all but forgotten is as good as untried
            bonus = np.sqrt(self._width * np.log(max(1.0, count.sum())) / seen)
        index = np.where(tried, total / seen + bonus, np.inf)
        best = index == index.max()
        share: Probabilities = (1.0 - self._floor) * best / best.sum() + self._floor / self.n_arms
        return share


class _MeansIndex(_Index, EmpiricalMeans):
    def _evidence(self) -> tuple[Floats, Floats]:
        return self._count, self._sum


class UCB1(_MeansIndex):
    """Optimism for rewards that do not change: regret O(K ln T / gap).

    Args:
        n_arms: Number of arms K.
        floor: Share of uniform exploration in [0, 1]; at 0 the logged probability is 1.
        seed: Seed of the draws among ties.

    Example:
        >>> policy = UCB1(3, seed=1)
        >>> for _ in range(500):
        ...     arm, p = policy.select()
        ...     policy.update(arm, 1.0 if arm == 2 else 0.0, p)
        >>> policy.select()
        (2, 1.0)

    Reference:
        Auer, Cesa-Bianchi, Fischer: Finite-time analysis of the multiarmed bandit problem.
        Machine Learning 47, 2002, figure 1.
    """

    def __init__(self, n_arms: int, *, floor: float = 0.0, seed: int = 0) -> None:
        super().__init__(n_arms, seed=seed, width=2.0, floor=floor)


class DiscountedUCB(_MeansIndex):
    """UCB whose evidence fades geometrically, so that a switching best arm can be followed.

    Args:
        n_arms: Number of arms K.
        discount: Factor in (0, 1] on all evidence at each update. For S switches in T rounds,
            1 - sqrt(S / T) / 4.
        xi: Width of the bounds, positive; the proof needs more than 0.5, experiments use 0.5.
        floor: Share of uniform exploration in [0, 1]; at 0 the logged probability is 1.
        seed: Seed of the draws among ties.

    Reference:
        Garivier, Moulines: On upper-confidence bound policies for switching bandit problems.
        ALT 2011 (arXiv 0805.3415), section 3.1.
    """

    def __init__(
        self,
        n_arms: int,
        *,
        discount: float = 0.995,
        xi: float = 0.5,
        floor: float = 0.0,
        seed: int = 0,
    ) -> None:
        require(0.0 < xi < np.inf, "xi", "positive", xi)
        width = 4.0 * xi
        super().__init__(n_arms, seed=seed, width=width, floor=floor, discount=discount, xi=xi)


class SlidingWindowUCB(_Index):
    """UCB over the last rewards only, so that a switching best arm can be followed.

    Args:
        n_arms: Number of arms K.
        window: Number of updates that count, at least 1. For S switches in T rounds,
            2 sqrt(T ln T / S).
        xi: Width of the bounds, positive; the proof needs more than 0.5, experiments use 0.5.
        floor: Share of uniform exploration in [0, 1]; at 0 the logged probability is 1.
        seed: Seed of the draws among ties.

    Reference:
        Garivier, Moulines: On upper-confidence bound policies for switching bandit problems.
        ALT 2011 (arXiv 0805.3415), section 3.2.
    """

    SAVED = ("_arms", "_rewards", "_updates")

    def __init__(
        self,
        n_arms: int,
        *,
        window: int = 500,
        xi: float = 0.5,
        floor: float = 0.0,
        seed: int = 0,
    ) -> None:
        require(whole(window) and window >= 1, "window", "at least 1 update", window)
        require(0.0 < xi < np.inf, "xi", "positive", xi)
        super().__init__(n_arms, seed=seed, width=xi, floor=floor, window=int(window), xi=xi)
        self._arms = np.zeros(window, dtype=np.int64)  # rings; the oldest is overwritten
        self._rewards = np.zeros(window)
        self._updates = np.zeros((), dtype=np.int64)

    def _evidence(self) -> tuple[Floats, Floats]:
        held = min(int(self._updates), len(self._arms))
        arms = self._arms[:held]
        count = np.bincount(arms, minlength=self.n_arms).astype(np.float64)
        total = np.bincount(arms, self._rewards[:held], minlength=self.n_arms).astype(np.float64)
        return count, total

    def _learn(self, arm: int, reward: float, probability: float) -> None:  # noqa: ARG002
        at = int(self._updates) % len(self._arms)
        self._arms[at], self._rewards[at] = arm, reward
        self._updates += 1
