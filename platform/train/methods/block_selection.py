"""Which blocks of the model train in the next round."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from undrift.bandits import DiscountedThompson
from undrift.train.audit import Draw
from undrift.train.methods.reward_scale import RunningScale
from undrift.train.setup import Setup

_EXPLORE_FROM = 0.5  # share of the run after which blocks are chosen


class BlockSelector:
    """Lets every block train; the base of all selectors.

    Attributes:
        log: Every choice of a bandit.

    Args:
        setup: The retraining.
    """

    def __init__(self, setup: Setup) -> None:
        self.log: list[Draw] = []
        self._blocks = setup.blocks

    def choose(self, share: float) -> int:  # noqa: ARG002
        """Return the lowest block that trains in the round after this ``share`` of the run."""
        return 0

    def learn(self, step: int, decrease: float) -> None:
        """Learn by how much the guiding loss fell over the round."""

    def state(self) -> dict[str, Any]:
        """Return what `load` needs to go on identically, as plain values."""
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""


class HeadSelector(BlockSelector):
    """Lets only the head train."""

    def choose(self, share: float) -> int:  # noqa: ARG002
        """Return the head."""
        return len(self._blocks) - 1


class BanditBlockSelector(BlockSelector):
    """Chooses by the decrease of the guiding loss per share of a full step's operations.

    In the first half of the run all blocks train: that is when representations move, and a few
    dozen rounds are too few to explore as well. The bandit learns from them.
    """

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._policy = DiscountedThompson(len(setup.blocks), discount=0.95, seed=setup.plan.seed)
        self._scale = RunningScale()
        self._drawn = (0, 1.0)

    def choose(self, share: float) -> int:
        """Draw the lowest block that trains."""
        self._drawn = (0, 1.0) if share < _EXPLORE_FROM else self._policy.select()
        return self._drawn[0]

    def learn(self, step: int, decrease: float) -> None:
        """Reward the last choice."""
        arm, probability = self._drawn
        cost = self._blocks.step_flops(arm) / self._blocks.step_flops(0)
        reward = self._scale.one(decrease / cost)
        self._policy.update(arm, reward, probability)
        self.log.append(Draw(step, "block", arm, probability, reward))

    def state(self) -> dict[str, Any]:
        """Return policy and scale."""
        own = {"policy": self._policy.state(), "scale": self._scale.state()}
        return {**own, "log": list(map(tuple, self.log))}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self._policy.load(state["policy"])
        self._scale.load(state["scale"])
        self.log = [Draw(*choice) for choice in state["log"]]
