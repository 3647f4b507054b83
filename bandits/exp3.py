"""EXP3.S: exponential weights that share some weight, so a switching best arm can be followed."""

from __future__ import annotations

from typing import Any

import numpy as np

from undrift.bandits.base import Policy, Probabilities


class EXP3S(Policy):
    """Adversarial bandit with regret against the best *sequence* of arms.

    Args:
        n_arms: Number of arms K.
        gamma: Share of uniform exploration in (0, 1]; no probability falls below gamma / K.
        alpha: Share of the total weight given to every arm at each update, in [0, 1); about
            1 / (number of updates between switches).
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
        super().__init__(n_arms, seed=seed)
        if not 0.0 < gamma <= 1.0:
            raise ValueError(f"gamma must be in (0, 1], got {gamma}")
        if not 0.0 <= alpha < 1.0:
            raise ValueError(f"alpha must be in [0, 1), got {alpha}")
        self._gamma = gamma
        self._alpha = alpha
        self._weight = np.full(n_arms, 1.0 / n_arms)

    def probabilities(self) -> Probabilities:
        """Return (1 - gamma) w / sum(w) + gamma / K."""
        return (1.0 - self._gamma) * self._weight + self._gamma / self.n_arms

    def _learn(self, arm: int, reward: float, probability: float) -> None:
        # Weights are kept summing to one, so nothing overflows: an honest probability is at
        # least gamma / K, and then the exponent is at most 1.
        exponent = min(1.0, self._gamma * reward / (probability * self.n_arms))
        weight = self._weight
        shared = np.e * self._alpha / self.n_arms
        weight[arm] *= np.exp(exponent)
        weight += shared
        weight /= weight.sum()

    def _state(self) -> dict[str, Any]:
        return {"weight": self._weight.tolist()}

    def _load(self, state: dict[str, Any]) -> None:
        self._weight = np.array(state["weight"], dtype=np.float64)
