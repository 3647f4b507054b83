"""Which rows fill the next batch: the samplers that no bandit is in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from undrift.errors import TrainingError
from undrift.train.pool import Index
from undrift.train.setup import Setup


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one gradient step.

    Attributes:
        index: (b,) rows of the pool.
        weight: (b,) weight of each row's loss; 1 unless the sampler corrects for its choices.
    """

    index: Index
    weight: NDArray[np.float32]

    @staticmethod
    def of(index: Index) -> Batch:
        """Return a batch of rows of equal weight."""
        return Batch(index, np.ones(len(index), dtype=np.float32))


@dataclass(frozen=True, slots=True)
class Seen:
    """What a worker saw of its part of a batch in the forward pass.

    Attributes:
        step: Number of the step.
        part: Which rows of the batch.
        output: (k, c) output of the model for them.
        target: (k,) their targets.
        embedding: (k, e) what entered the head.
    """

    step: int
    part: slice
    output: torch.Tensor
    target: torch.Tensor
    embedding: torch.Tensor


class Choice(NamedTuple):
    """One choice of a bandit, for the audit log."""

    step: int
    bandit: str
    arm: int
    probability: float
    reward: float


class Sampler:
    """Draws rows uniformly, with replacement, from the candidates; the base of all samplers.

    Attributes:
        log: Every choice of a bandit.

    Args:
        setup: The retraining.
    """

    def __init__(self, setup: Setup) -> None:
        self.log: list[Choice] = []
        self._index = self._candidates(setup)
        self._rng = np.random.default_rng([setup.plan.seed, 1])

    def _candidates(self, setup: Setup) -> Index:
        return setup.chosen.index

    def draw(self, size: int) -> Batch:
        """Draw a batch of ``size`` rows."""
        return Batch.of(self._index[self._rng.integers(len(self._index), size=size)])

    def draw_flops(self, size: int) -> float:  # noqa: ARG002
        """Return the operations, over all workers, that the next `draw` itself costs."""
        return 0.0

    def begin_round(self, share: float) -> None:
        """Take note that a round begins, after this ``share`` of the whole run."""

    def learn(self, batch: Batch, seen: Seen) -> None:
        """Learn from what the model said of a batch."""

    def state(self) -> dict[str, Any]:
        """Return what `load` needs to go on identically, as plain values."""
        return {"rng": self._rng.bit_generator.state, "log": list(map(tuple, self.log))}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self._rng.bit_generator.state = state["rng"]
        self.log = [Choice(*choice) for choice in state["log"]]


class NewSampler(Sampler):
    """Draws uniformly from the new regime and nothing else."""

    def _candidates(self, setup: Setup) -> Index:
        chosen = setup.chosen
        if not chosen.new.any():
            raise TrainingError(
                f"no labelled row of the new regime; {setup.plan.method} has nothing to train on"
            )
        return np.asarray(chosen.index[chosen.new])


class TrustSampler(Sampler):
    """Draws rows by the trust that the kind of drift leaves in them."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._trust = np.cumsum(setup.chosen.weight)

    def draw(self, size: int) -> Batch:
        """Draw a batch of ``size`` rows."""
        return Batch.of(self._index[inverse(self._trust, self._rng.random(size))])


def inverse(cumulative: NDArray[np.float64], u: NDArray[np.float64]) -> Index:
    """Return the positions whose share of a cumulative weight the numbers ``u`` in [0, 1) hit."""
    found = np.searchsorted(cumulative, u * cumulative[-1], side="right")
    index: Index = np.minimum(found, len(cumulative) - 1)
    return index
