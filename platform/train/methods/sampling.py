"""Which rows fill the next batch: the samplers that no bandit is in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from undrift.errors import TrainingError
from undrift.train.audit import Draw
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


class Deck:
    """Deals rows as often as their weights say, and none again before its turn has come round.

    With equal weights that is shuffling anew every epoch: no row is left out while others come
    twice, which matters where there is compute for a few epochs only.

    Args:
        weight: (n,) weights of the rows; rows of weight 0 come when there is no other.
        rng: Generator of the order.

    Attributes:
        pace: (n,) factors on the weights that may change at any time, 1 at first.

    Example:
        >>> deck = Deck(np.ones(6), np.random.default_rng(0))
        >>> sorted(np.concatenate([deck.deal(2) for _ in range(3)]).tolist())
        [0, 1, 2, 3, 4, 5]

    Reference:
        Waldspurger, Weihl: Stride scheduling. MIT/LCS/TM-528, 1995; the jitter is ours.
    """

    def __init__(self, weight: NDArray[np.float64], rng: np.random.Generator) -> None:
        self._rng = rng
        self._stride = 1.0 / np.maximum(weight / weight.max(), 1e-9)
        self._last, self._wait = np.zeros(len(weight)), self._stride * rng.random(len(weight))
        self.pace = np.ones(len(weight))

    def deal(self, size: int, among: Index | None = None) -> Index:
        """Return the positions (size,) of the rows whose turn is next, of those in ``among``."""
        parts: list[Index] = []
        while size > 0:
            due = self._last + self._wait / self.pace
            due = due if among is None else due[among]
            count = min(size, len(due))
            first = np.argpartition(due, count - 1)[:count]
            dealt: Index = first if among is None else among[first]
            self._last[dealt] = due[first]
            self._wait[dealt] = self._stride[dealt] * self._rng.uniform(0.5, 1.5, count)
            parts.append(dealt)
            size -= count
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.intp)

    def state(self) -> torch.Tensor:
        """Return what `load` needs to go on identically, but for the generator."""
        return torch.from_numpy(np.stack([self._last, self._wait, self.pace]))

    def load(self, state: torch.Tensor) -> None:
        """Go on from `state`."""
        self._last, self._wait, self.pace = state.numpy().copy()


class Sampler:
    """Draws rows from the candidates, all alike; the base of all samplers.

    Attributes:
        log: Every choice of a bandit.

    Args:
        setup: The retraining.
    """

    def __init__(self, setup: Setup) -> None:
        self.log: list[Draw] = []
        self._index, weight = self._candidates(setup)
        self._rng = np.random.default_rng([setup.plan.seed, 1])
        self._deck = Deck(weight, self._rng)

    def _candidates(self, setup: Setup) -> tuple[Index, NDArray[np.float64]]:
        """Return the rows that may be drawn, and how often compared with each other."""
        return setup.chosen.index, np.ones(len(setup.chosen.index))

    def draw(self, size: int) -> Batch:
        """Draw a batch of ``size`` rows."""
        return Batch.of(self._index[self._deck.deal(size)])

    def draw_flops(self, size: int) -> float:  # noqa: ARG002
        """Return the operations, over all workers, that the next `draw` itself costs."""
        return 0.0

    def begin_round(self, share: float) -> None:
        """Take note that a round begins, after this ``share`` of the whole run."""

    def learn(self, batch: Batch, seen: Seen) -> None:
        """Learn from what the model said of a batch."""

    def end_round(self, step: int) -> None:
        """Take note that a round is over, after so many steps of the whole run."""

    def figures(self) -> dict[str, float]:
        """Return figures for the manifest."""
        return {}

    def state(self) -> dict[str, Any]:
        """Return what `load` needs to go on identically, as tensors and plain values."""
        return {
            "rng": self._rng.bit_generator.state,
            "deck": self._deck.state(),
            "log": list(map(tuple, self.log)),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self._rng.bit_generator.state = state["rng"]
        self._deck.load(state["deck"])
        self.log = [Draw(*choice) for choice in state["log"]]


class NewSampler(Sampler):
    """Draws from the new regime and nothing else."""

    def _candidates(self, setup: Setup) -> tuple[Index, NDArray[np.float64]]:
        chosen = setup.chosen
        if not chosen.new.any():
            raise TrainingError(
                f"no labelled row of the new regime; {setup.plan.method} has nothing to train on"
            )
        return np.asarray(chosen.index[chosen.new]), np.ones(int(chosen.new.sum()))


class TrustSampler(Sampler):
    """Draws rows by the trust that the kind of drift leaves in them."""

    def _candidates(self, setup: Setup) -> tuple[Index, NDArray[np.float64]]:
        return setup.chosen.index, setup.chosen.weight


def inverse(cumulative: NDArray[np.float64], u: NDArray[np.float64]) -> Index:
    """Return the positions whose share of a cumulative weight the numbers ``u`` in [0, 1) hit."""
    found = np.searchsorted(cumulative, u * cumulative[-1], side="right")
    index: Index = np.minimum(found, len(cumulative) - 1)
    return index
