"""EXP3 and EXP3.S: exponential weights, for rewards about which nothing is assumed."""

from __future__ import annotations

import numpy as np

from undrift.bandits.base import Policy, Probabilities, require


class _ExponentialWeights(Policy):
    SAVED = ("_log_weight",)

    def __init__(self, n_arms: int, *, seed: int, gamma: float, alpha: float) -> None:
        require(0.0 < gamma <= 1.0, "gamma", "in (0, 1]", gamma)
        require(0.0 <= alpha < 1.0, "alpha", "in [0, 1)", alpha)
        super().__init__(n_arms, seed=seed, gamma=gamma, alpha=alpha)
        self._gamma = gamma
        self._shared = np.e * alpha / self.n_arms
        self._log_weight = np.zeros(self.n_arms)

    def probabilities(self) -> Probabilities:
        """Return (1 - gamma) w / sum(w) + gamma / K; none is below gamma / K."""
        weight = np.exp(self._log_weight)
        share: Probabilities = weight / weight.sum()
        return (1.0 - self._gamma) * share + self._gamma / self.n_arms

    def _learn(self, arm: int, reward: float, probability: float) -> None:
        # An honest probability is at least gamma / K, and then the exponent is at most 1.
        gain = min(1.0, self._gamma * reward / (probability * self.n_arms))
        log_weight = self._log_weight
        shared = self._shared * np.exp(log_weight).sum()  # of the weights before the gain
        log_weight[arm] += gain
        if shared:
            np.logaddexp(log_weight, np.log(shared), out=log_weight)
        log_weight -= log_weight.max()  # the largest weight is 1, so none overflows


class EXP3(_ExponentialWeights):
    """Adversarial bandit with regret O(sqrt(K T ln K)) against the best single arm.

    Args:
        n_arms: Number of arms K.
        gamma: Share of uniform exploration in (0, 1]; no probability falls below gamma / K. For
            a known number of rounds T, min(1, sqrt(K ln K / ((e - 1) T))).
        seed: Seed of the draws.

    Example:
        >>> policy = EXP3(3, seed=1)
        >>> for _ in range(500):
        ...     arm, p = policy.select()
        ...     policy.update(arm, 1.0 if arm == 2 else 0.0, p)
        >>> int(policy.probabilities().argmax())
        2

    Reference:
        Auer, Cesa-Bianchi, Freund, Schapire: The nonstochastic multiarmed bandit problem.
        SIAM J. Comput. 32(1), 2002, section 3.
    """

    def __init__(self, n_arms: int, *, gamma: float = 0.1, seed: int = 0) -> None:
        super().__init__(n_arms, seed=seed, gamma=gamma, alpha=0.0)


class EXP3S(_ExponentialWeights):
    """EXP3 that shares some weight among all arms, so that a switching best arm can be followed.

    Args:
        n_arms: Number of arms K.
        gamma: Share of uniform exploration in (0, 1]; no probability falls below gamma / K. For
            S switches in T rounds, min(1, sqrt(K (S ln(K T) + e) / ((e - 1) T))).
        alpha: Share of the total weight given to every arm at each update, in [0, 1); 1 / T, or
            about 1 / (number of updates between switches).
        seed: Seed of the draws.

    Example:
        >>> policy = EXP3S(3, seed=1)
        >>> for _ in range(500):
        ...     arm, p = policy.select()
        ...     policy.update(arm, 1.0 if arm == 2 else 0.0, p)
        >>> int(policy.probabilities().argmax())
        2

    Reference:
        Auer, Cesa-Bianchi, Freund, Schapire: The nonstochastic multiarmed bandit problem.
        SIAM J. Comput. 32(1), 2002, section 8.
    """

    def __init__(
        self, n_arms: int, *, gamma: float = 0.2, alpha: float = 0.001, seed: int = 0
    ) -> None:
        super().__init__(n_arms, seed=seed, gamma=gamma, alpha=alpha)
