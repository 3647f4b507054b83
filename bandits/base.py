"""The contract of every bandit policy: draw with a known probability, learn from a reward."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Probabilities = NDArray[np.float64]


class Policy(ABC):
    """Chooses among arms and says with which probability it chose each.

    The probability is what makes a log of choices worth keeping: with it, another policy can be
    evaluated on the same log without running it. Subclasses supply `probabilities`, `_learn`,
    `_state` and `_load`; drawing, checking and the random generator live here once.

    Args:
        n_arms: Number of arms, at least 1.
        seed: Seed of the draws; equal seeds and rewards give equal choices.
    """

    def __init__(self, n_arms: int, *, seed: int = 0) -> None:
        if n_arms < 1:
            raise ValueError(f"a policy needs at least one arm, got n_arms={n_arms}")
        self.n_arms = n_arms
        self._rng = np.random.default_rng(seed)

    @abstractmethod
    def probabilities(self) -> Probabilities:
        """Return the probability (n_arms,) with which each arm would be drawn now; sums to 1."""

    @abstractmethod
    def _learn(self, arm: int, reward: float, probability: float) -> None:
        """Take in one checked reward."""

    @abstractmethod
    def _state(self) -> dict[str, Any]:
        """Return what was learnt, as plain JSON values."""

    @abstractmethod
    def _load(self, state: dict[str, Any]) -> None:
        """Take over what `_state` returned."""

    def select(self) -> tuple[int, float]:
        """Draw one arm and return it with its probability."""
        arms, probabilities = self.draw(1)
        return int(arms[0]), float(probabilities[0])

    def draw(self, k: int) -> tuple[NDArray[np.int64], Probabilities]:
        """Draw ``k`` arms independently from the present probabilities.

        Args:
            k: Number of draws, at least 1.

        Returns:
            The arms (k,) and the probability (k,) with which each was drawn.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        p = self.probabilities()
        edges = np.cumsum(p)
        arms = np.searchsorted(edges, self._rng.random(k) * edges[-1], side="right")
        arms = np.minimum(arms, self.n_arms - 1)
        return arms.astype(np.int64), p[arms]

    def update(self, arm: int, reward: float, probability: float) -> None:
        """Learn that ``arm``, drawn with ``probability``, earned ``reward``.

        Args:
            arm: The arm, 0 to n_arms - 1.
            reward: Its reward in [0, 1].
            probability: The probability that `select` or `draw` returned with it, in (0, 1].

        Raises:
            ValueError: An argument is outside its range or not a number.
        """
        if not 0 <= arm < self.n_arms:
            raise ValueError(f"arm must be in 0..{self.n_arms - 1}, got {arm}")
        if not 0.0 <= reward <= 1.0:
            raise ValueError(f"reward must be in [0, 1], got {reward}")
        if not 0.0 < probability <= 1.0 + 1e-9:
            raise ValueError(f"probability must be in (0, 1], got {probability}")
        self._learn(arm, reward, probability)

    def state(self) -> dict[str, Any]:
        """Return everything needed to continue identically, as plain JSON values."""
        return {
            "policy": type(self).__name__,
            "n_arms": self.n_arms,
            "rng": self._rng.bit_generator.state,
            "learnt": self._state(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned.

        Raises:
            ValueError: The state is of another policy or of another number of arms.
        """
        found, own = (state["policy"], state["n_arms"]), (type(self).__name__, self.n_arms)
        if found != own:
            raise ValueError(
                f"state is of {found[0]} with {found[1]} arms, not of {own[0]}, {own[1]}"
            )
        self._rng.bit_generator.state = state["rng"]
        self._load(state["learnt"])
