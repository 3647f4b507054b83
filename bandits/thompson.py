"""Gaussian Thompson sampling, plain and discounted, with computed propensities.

Rather than sample the posterior and estimate how often each arm would have won, the probability
that an arm is the best is integrated numerically, and the arm is drawn from those probabilities:
the propensity that is logged is the propensity that was used. Against the exact posterior
probability it errs by less than 1e-5, far below any useful floor.
"""

from __future__ import annotations

import numpy as np

from undrift.bandits.base import EmpiricalMeans, Probabilities, require
from undrift.bandits.best import probability_best


class _Gaussian(EmpiricalMeans):
    def __init__(
        self, n_arms: int, *, seed: int, discount: float, noise: float, floor: float
    ) -> None:
        require(1e-6 <= noise < np.inf, "noise", "at least 1e-6", noise)
        require(0.0 < floor < 1.0, "floor", "in (0, 1)", floor)
        super().__init__(n_arms, seed=seed, discount=discount, noise=noise, floor=floor)
        self._noise = noise
        self._floor = floor

    def probabilities(self) -> Probabilities:
        """Return the posterior probability that each arm is the best, mixed with the floor."""
        # The prior is one imagined reward of 0.5.
        mean = (self._sum + 0.5) / (self._count + 1.0)
        std = self._noise / np.sqrt(self._count + 1.0)
        best: Probabilities = probability_best(mean[None], std[None])[0]
        return (1.0 - self._floor) * best + self._floor / self.n_arms


class Thompson(_Gaussian):
    """Thompson sampling for rewards that do not change.

    Args:
        n_arms: Number of arms K.
        noise: Standard deviation of a reward, on the scale of [0, 1]; 0.5 covers every
            distribution, less is greedier.
        floor: Share of uniform exploration in (0, 1); no probability falls below floor / K.
        seed: Seed of the draws.

    Reference:
        Agrawal, Goyal: Further optimal regret bounds for Thompson sampling. AISTATS 2013,
        algorithm 2.
    """

    def __init__(
        self, n_arms: int, *, noise: float = 0.5, floor: float = 0.05, seed: int = 0
    ) -> None:
        super().__init__(n_arms, seed=seed, discount=1.0, noise=noise, floor=floor)


class DiscountedThompson(_Gaussian):
    """Thompson sampling that forgets, so that an arm left alone becomes uncertain again.

    Args:
        n_arms: Number of arms K.
        discount: Factor in (0, 1] on all evidence at each update; the memory is about
            1 / (1 - discount) updates.
        noise: Standard deviation of a reward, on the scale of [0, 1]. Forgetting widens the
            posterior as well, so half of the real one often earns more.
        floor: Share of uniform exploration in (0, 1); no probability falls below floor / K.
        seed: Seed of the draws.

    Example:
        >>> policy = DiscountedThompson(3, seed=1)
        >>> for _ in range(500):
        ...     arm, p = policy.select()
        ...     policy.update(arm, 1.0 if arm == 2 else 0.0, p)
        >>> int(policy.probabilities().argmax())
        2

    Reference:
        Raj, Kalyani: Taming non-stationary bandits: a Bayesian approach. arXiv 1707.09727, 2017
        (there with Beta posteriors).
    """

    def __init__(
        self,
        n_arms: int,
        *,
        discount: float = 0.995,
        noise: float = 0.2,
        floor: float = 0.05,
        seed: int = 0,
    ) -> None:
        super().__init__(n_arms, seed=seed, discount=discount, noise=noise, floor=floor)
