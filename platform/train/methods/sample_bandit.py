"""The sample bandit: strata of the pool as arms, agreement with the guiding gradient as reward."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from undrift.bandits import DiscountedThompson
from undrift.errors import TrainingError
from undrift.train.audit import Draw
from undrift.train.methods.reward_scale import RunningScale
from undrift.train.methods.sampling import Batch, Deck, Seen, TrustSampler
from undrift.train.pool import Index
from undrift.train.setup import Setup

_DRAWS = 8  # strata drawn for a round
_ANCHORED = 0.75  # share of each batch drawn by trust alone, whatever the bandit thinks
_FAINT = 1e-3  # weight of untrusted rows within their stratum
_DISCOUNT = 0.98  # a round of memory is some six rounds long: what is useful changes quickly


class StratumSampler(TrustSampler):
    """Draws most of each batch by trust, and the rest from strata that a bandit chooses.

    For every round some strata are drawn. Their reward is the first-order decrease of the guiding
    loss that a step on their rows brings (`Guide.agreement`), on average over the round. Thompson
    sampling is used because, with tens of strata and a few hundred steps, EXP3.S hardly leaves
    uniform.

    Args:
        setup: The retraining.
    """

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        chosen = setup.chosen
        self._guide, self._comm = setup.guide, setup.comm
        self._stratum = chosen.stratum
        self._members = [np.flatnonzero(chosen.stratum == s) for s in range(len(chosen.strata))]
        self._faint = chosen.weight + _FAINT
        self._within = Deck(self._faint, self._rng)
        self._trust = chosen.weight / chosen.weight.sum() if setup.settings.unbiased else None
        self._policy = DiscountedThompson(
            len(chosen.strata), discount=_DISCOUNT, noise=0.1, seed=setup.plan.seed
        )
        self._scale = RunningScale()
        self._arms: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._probabilities = np.empty(0)
        self._gained, self._count = np.zeros(_DRAWS), np.zeros(_DRAWS)
        self._slot: Index = np.empty(0, dtype=np.intp)

    def begin_round(self, share: float) -> None:  # noqa: ARG002
        """Draw the strata that get a part of every batch of the round."""
        self._arms, self._probabilities = self._policy.draw(_DRAWS)
        self._gained, self._count = np.zeros(_DRAWS), np.zeros(_DRAWS)

    def draw(self, size: int) -> Batch:
        """Draw a batch of ``size`` rows."""
        anchored = int(size * _ANCHORED)
        self._slot = np.concatenate(
            [np.full(anchored, -1), np.arange(size - anchored) % _DRAWS]
        ).astype(np.intp)
        rows = np.empty(size, dtype=np.intp)
        rows[:anchored] = self._deck.deal(anchored)
        for i, arm in enumerate(self._arms):
            own = self._slot == i
            rows[own] = self._within.deal(int(own.sum()), self._members[arm])
        if self._trust is None:
            return Batch.of(self._index[rows])
        return Batch(self._index[rows], self._correction(self._trust, rows))

    def _correction(self, trust: NDArray[np.float64], rows: Index) -> NDArray[np.float32]:
        """Return importance weights (b,): the chance of a row by trust over that of being drawn."""
        arm = self._stratum[rows]
        total = np.bincount(self._stratum, self._faint, minlength=len(self._members))[arm]
        chosen = self._policy.probabilities()[arm] * self._faint[rows] / total
        drawn = _ANCHORED * trust[rows] + (1.0 - _ANCHORED) * chosen
        return np.asarray(trust[rows] / drawn, dtype=np.float32)

    def learn(self, batch: Batch, seen: Seen) -> None:
        """Add up what the rows of each drawn stratum bring."""
        scores = torch.zeros(len(batch.index), device=seen.output.device)
        own = self._guide.agreement(seen.output, seen.target, seen.embedding)
        scores[seen.part] = own * self._comm.world
        self._comm.mean_([scores])
        found = scores.cpu().numpy().astype(np.float64)
        if not np.isfinite(found).all():
            raise TrainingError(
                f"training diverged at step {seen.step}: the gradient is not finite; lower "
                "train.learning_rate, or look for broken inputs"
            )
        drawn = self._slot >= 0
        np.add.at(self._gained, self._slot[drawn], found[drawn])
        np.add.at(self._count, self._slot[drawn], 1.0)

    def end_round(self, step: int) -> None:
        """Reward the strata of the round."""
        rewards = self._scale(self._gained / np.maximum(self._count, 1.0))
        drawn = zip(self._arms, self._probabilities, rewards, strict=True)
        for arm, probability, reward in drawn:
            self._policy.update(int(arm), float(reward), float(probability))
            self.log.append(Draw(step, "sample", int(arm), float(probability), float(reward)))

    def state(self) -> dict[str, Any]:
        """Return generator, decks, policy and scale."""
        own = {
            "within": self._within.state(),
            "policy": self._policy.state(),
            "scale": self._scale.state(),
        }
        return {**super().state(), **own}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        super().load(state)
        self._within.load(state["within"])
        self._policy.load(state["policy"])
        self._scale.load(state["scale"])
