"""What every policy does: draw with a known probability, learn from a reward, save exactly."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Arms = NDArray[np.int64]
Probabilities = NDArray[np.float64]
Floats = NDArray[np.float64]


def require(holds: bool, name: str, expected: str, found: object) -> None:
    """Refuse an argument in words.

    Args:
        holds: Whether the argument is as it should be.
        name: The argument.
        expected: What it must be.
        found: What it was.

    Raises:
        ValueError: ``holds`` is false.
    """
    if not holds:
        raise ValueError(f"{name} must be {expected}, got {found}")


def whole(value: object) -> bool:
    """Return whether a value is an integer; a truth value is none."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


class Bandit(ABC):
    """What contextual and context-free policies share: arms, a generator, exact save and load.

    Args:
        n_arms: Number of arms K, at least 1.
        seed: Seed of the draws; equal seeds and rewards give equal choices.
        settings: Hyper-parameters of the policy; a saved state only loads into equal ones.
    """

    # Names of the arrays that are learnt; their shapes never change, and a state holds nothing else
    # but the generator.
    SAVED: ClassVar[tuple[str, ...]]

    def __init__(self, n_arms: int, *, seed: int, **settings: float) -> None:
        require(whole(n_arms) and n_arms >= 1, "n_arms", "at least one arm", n_arms)
        self.n_arms = int(n_arms)
        self._settings = {k: v if isinstance(v, int) else float(v) for k, v in settings.items()}
        self._rng = np.random.default_rng(seed)

    def __repr__(self) -> str:
        settings = (f"{name}={value}" for name, value in self._identity().items())
        return f"{type(self).__name__}({', '.join(settings)})"

    def _identity(self) -> dict[str, float]:
        return {"n_arms": self.n_arms, **self._settings}

    def state(self) -> dict[str, Any]:
        """Return everything needed to continue identically, as plain JSON values."""
        return {
            "policy": type(self).__name__,
            "settings": self._identity(),
            "rng": self._rng.bit_generator.state,
            "learnt": {name: getattr(self, name).tolist() for name in self.SAVED},
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned.

        Args:
            state: A state of a policy of the same class, number of arms and hyper-parameters.

        Raises:
            ValueError: It is of another policy, or damaged; nothing has changed.
        """
        found = {name: state.get(name) for name in ("policy", "settings")}
        own = {"policy": type(self).__name__, "settings": self._identity()}
        require(found == own, "the state", f"of {self!r}", f"one of {found}")
        try:
            learnt = {name: self._array(name, state["learnt"][name]) for name in self.SAVED}
            self._rng.bit_generator.state = state["rng"]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"the state of {self!r} is damaged: {error!r}") from error
        for name, value in learnt.items():
            setattr(self, name, value)

    def _array(self, name: str, value: object) -> NDArray[Any]:
        present: NDArray[Any] = getattr(self, name)
        array = np.array(value, dtype=present.dtype)
        require(array.shape == present.shape, name, f"of shape {present.shape}", array.shape)
        require(bool(np.isfinite(array).all()), name, "finite", "NaN or infinity")
        return array

    def _check(self, arm: int, reward: float, probability: float) -> None:
        inside = whole(arm) and 0 <= arm < self.n_arms
        require(inside, "arm", f"in 0..{self.n_arms - 1}", arm)
        require(0.0 <= reward <= 1.0, "reward", "in [0, 1]", reward)
        require(0.0 < probability <= 1.0 + 1e-9, "probability", "in (0, 1]", probability)


class Policy(Bandit):
    """Chooses among arms and says with which probability it chose each.

    The probability is what makes a log of choices worth keeping: with it, another policy can be
    evaluated on the same log without running it. Subclasses supply `probabilities` and `_learn`.
    """

    @abstractmethod
    def probabilities(self) -> Probabilities:
        """Return the probability (K,) with which each arm would be drawn now; sums to 1."""

    @abstractmethod
    def _learn(self, arm: int, reward: float, probability: float) -> None:
        """Take in one checked reward."""

    def select(self) -> tuple[int, float]:
        """Draw one arm and return it with its probability."""
        arms, probabilities = self.draw(1)
        return int(arms[0]), float(probabilities[0])

    def draw(self, k: int) -> tuple[Arms, Probabilities]:
        """Draw ``k`` arms independently, all from the present probabilities.

        Args:
            k: Number of draws, at least 1.

        Returns:
            The arms (k,) and the probability (k,) with which each was drawn, never 0.

        Raises:
            ValueError: ``k`` is below 1.
        """
        require(whole(k) and k >= 1, "k", "at least 1", k)
        p = self.probabilities()
        edges = np.cumsum(p)
        # Strictly below the last edge, so rounding never picks an arm of probability zero.
        u = np.minimum(self._rng.random(k) * edges[-1], np.nextafter(edges[-1], 0.0))
        arms = np.searchsorted(edges, u, side="right").astype(np.int64)
        return arms, p[arms]

    def update(self, arm: int, reward: float, probability: float) -> None:
        """Learn that ``arm``, drawn with ``probability``, earned ``reward``.

        Args:
            arm: The arm, 0 to K - 1.
            reward: Its reward in [0, 1].
            probability: The probability that `select` or `draw` returned with it, in (0, 1].

        Raises:
            ValueError: An argument is outside its range or not a number; nothing has changed.
        """
        self._check(arm, reward, probability)
        self._learn(arm, reward, probability)


class EmpiricalMeans(Policy):
    """A policy that knows each arm by the count and the sum of its rewards, which may fade.

    Args:
        n_arms: Number of arms K.
        seed: Seed of the draws.
        settings: Hyper-parameters; ``discount`` in (0, 1], if among them, is a factor on all
            counts and sums at each update.
    """

    SAVED = ("_count", "_sum")

    def __init__(self, n_arms: int, *, seed: int, **settings: float) -> None:
        discount = settings.get("discount", 1.0)
        require(0.0 < discount <= 1.0, "discount", "in (0, 1]", discount)
        super().__init__(n_arms, seed=seed, **settings)
        self._discount = discount
        self._count = np.zeros(self.n_arms)
        self._sum = np.zeros(self.n_arms)

    def _learn(self, arm: int, reward: float, probability: float) -> None:  # noqa: ARG002
        self._count *= self._discount
        self._sum *= self._discount
        self._count[arm] += 1.0
        self._sum[arm] += reward
