"""Linear Thompson sampling: the reward of every arm is linear in a context."""

from __future__ import annotations

import numpy as np

from undrift.bandits.base import Arms, Bandit, Floats, Probabilities, require, whole
from undrift.bandits.best import probability_best

_NEGLIGIBLE = 1e-18  # a context of zeros has no variance at all


class LinearThompson(Bandit):
    """Contextual Thompson sampling with a linear model per arm and computed propensities.

    The models are independent, so at a given context their predictions are independent normals
    and the probability that an arm is the best is integrated numerically, with an error below
    1e-5; arms are drawn from those probabilities. No intercept is added: end each context with
    a 1 for one. Before any reward every arm is expected to earn 0.5.

    Args:
        n_arms: Number of arms K.
        n_features: Length d of a context.
        discount: Factor in (0, 1] on all evidence at each update; 1 never forgets.
        noise: Standard deviation of a reward about its expectation, on the scale of [0, 1]; less
            is greedier.
        ridge: Precision of the prior on the coefficients, in rewards seen per unit of context.
        floor: Share of uniform exploration in (0, 1); no probability falls below floor / K.
        seed: Seed of the draws.

    Example:
        >>> policy = LinearThompson(2, 2, seed=1)
        >>> rng = np.random.default_rng(0)
        >>> for context in rng.normal(size=(300, 2)):
        ...     arm, p = policy.select(context)
        ...     policy.update(arm, float((context[0] > 0) == arm), p, context)
        >>> policy.probabilities(np.array([[-1.0, 0.0], [1.0, 0.0]])).argmax(axis=1).tolist()
        [0, 1]

    Reference:
        Agrawal, Goyal: Thompson sampling for contextual bandits with linear payoffs. ICML 2013.
        Russac, Vernade, Cappé: Weighted linear bandits for non-stationary environments.
        NeurIPS 2019 (the discount).
    """

    SAVED = ("_gram", "_moment")

    def __init__(
        self,
        n_arms: int,
        n_features: int,
        *,
        discount: float = 1.0,
        noise: float = 0.25,
        ridge: float = 1.0,
        floor: float = 0.05,
        seed: int = 0,
    ) -> None:
        require(whole(n_features) and n_features >= 1, "n_features", "at least 1", n_features)
        require(0.0 < discount <= 1.0, "discount", "in (0, 1]", discount)
        require(1e-6 <= noise < np.inf, "noise", "at least 1e-6", noise)
        require(0.0 < ridge < np.inf, "ridge", "positive", ridge)
        require(0.0 < floor < 1.0, "floor", "in (0, 1)", floor)
        own = {"discount": discount, "noise": noise, "ridge": ridge, "floor": floor}
        super().__init__(n_arms, seed=seed, n_features=int(n_features), **own)
        self._discount = discount
        self._noise = noise
        self._prior = ridge * np.eye(n_features)
        self._floor = floor
        self._gram = np.zeros((self.n_arms, n_features, n_features))
        self._moment = np.zeros((self.n_arms, n_features))

    def probabilities(self, contexts: Floats) -> Probabilities:
        """Return the probability (n, K) with which each arm would be drawn at each context.

        Args:
            contexts: Contexts (n, d).

        Raises:
            ValueError: They have another shape, or a value is not finite.
        """
        x = self._contexts(contexts)
        scaled = np.linalg.solve(self._gram + self._prior, x.T)  # (K, d, n)
        mean = 0.5 + np.einsum("kdn,kd->nk", scaled, self._moment)
        variance = np.einsum("kdn,nd->nk", scaled, x)
        std = self._noise * np.sqrt(np.maximum(variance, _NEGLIGIBLE))
        return (1.0 - self._floor) * probability_best(mean, std) + self._floor / self.n_arms

    def select(self, context: Floats) -> tuple[int, float]:
        """Draw one arm at a context (d,) and return it with its probability."""
        arms, probabilities = self.draw(np.asarray(context)[None])
        return int(arms[0]), float(probabilities[0])

    def draw(self, contexts: Floats) -> tuple[Arms, Probabilities]:
        """Draw an arm for each context, independently.

        Args:
            contexts: Contexts (n, d).

        Returns:
            The arms (n,) and the probability (n,) with which each was drawn.

        Raises:
            ValueError: The contexts have another shape, or a value is not finite.
        """
        p = self.probabilities(contexts)
        edges = np.cumsum(p, axis=1)
        below = edges[:, :-1] <= self._rng.random((len(p), 1)) * edges[:, -1:]
        arms = below.sum(axis=1)
        return arms, p[np.arange(len(p)), arms]

    def update(self, arm: int, reward: float, probability: float, context: Floats) -> None:
        """Learn that ``arm``, drawn with ``probability`` at ``context``, earned ``reward``.

        Args:
            arm: The arm, 0 to K - 1.
            reward: Its reward in [0, 1].
            probability: The probability that `select` or `draw` returned with it, in (0, 1].
            context: The context (d,) at which it was drawn.

        Raises:
            ValueError: An argument is outside its range or not a number; nothing has changed.
        """
        self._check(arm, reward, probability)
        (x,) = self._contexts(np.asarray(context)[None])
        self._gram *= self._discount
        self._moment *= self._discount
        self._gram[arm] += np.outer(x, x)
        self._moment[arm] += (reward - 0.5) * x

    def _contexts(self, contexts: Floats) -> Floats:
        x = np.asarray(contexts, dtype=np.float64)
        d = self._gram.shape[1]
        require(x.ndim == 2 and x.shape[1] == d, "contexts", f"of shape (n, {d})", x.shape)
        require(bool(np.isfinite(x).all()), "contexts", "finite", "NaN or infinity")
        return x
