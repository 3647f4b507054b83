"""The sample bandit: strata of the pool as arms, agreement with the guiding gradient as reward."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from undrift.bandits import DiscountedThompson
from undrift.errors import TrainingError
from undrift.train.pool import Index
from undrift.train.sampling import Batch, Choice, Seen, TrustSampler, inverse
from undrift.train.scale import RunningScale
from undrift.train.setup import Setup

_DRAWS = 4  # stratum draws of one batch
_ANCHORED = 0.75  # share of each batch drawn by trust alone, whatever the bandit thinks
_FAINT = 1e-3  # weight of untrusted rows within their stratum


class StratumSampler(TrustSampler):
    """Draws most of each batch by trust, and the rest from strata that a bandit chooses.

    The reward of a stratum is the first-order decrease of the guiding loss that a step on its
    rows brings (`Guide.agreement`). Thompson sampling is used because, with tens of strata and a
    few hundred steps, EXP3.S hardly leaves uniform.

    Args:
        setup: The retraining.
    """

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        chosen = setup.chosen
        self._guide, self._comm = setup.guide, setup.comm
        self._corrected = setup.settings.unbiased
        self._chance = chosen.weight / chosen.weight.sum()
        self._stratum = chosen.stratum
        self._members = [np.flatnonzero(chosen.stratum == s) for s in range(len(chosen.strata))]
        self._within = [np.cumsum(chosen.weight[m] + _FAINT) for m in self._members]
        self._policy = DiscountedThompson(
            len(chosen.strata), discount=0.998, noise=0.1, seed=setup.plan.seed
        )
        self._scale = RunningScale()
        self._arms: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._probabilities = np.empty(0)
        self._slot: Index = np.empty(0, dtype=np.intp)

    def draw(self, size: int) -> Batch:
        """Draw a batch of ``size`` rows."""
        anchored = int(size * _ANCHORED)
        self._arms, self._probabilities = self._policy.draw(min(_DRAWS, size - anchored))
        self._slot = np.concatenate(
            [np.full(anchored, -1), np.arange(size - anchored) % len(self._arms)]
        ).astype(np.intp)
        u = self._rng.random(size)
        rows = np.empty(size, dtype=np.intp)
        rows[:anchored] = inverse(self._trust, u[:anchored])
        for i, arm in enumerate(self._arms):
            own = self._slot == i
            rows[own] = self._members[arm][inverse(self._within[arm], u[own])]
        batch = Batch.of(self._index[rows])
        return Batch(batch.index, self._correction(rows)) if self._corrected else batch

    def _correction(self, rows: Index) -> NDArray[np.float32]:
        """Return importance weights (b,): the chance of a row by trust over that of being drawn."""
        arm = self._stratum[rows]
        total = np.array([w[-1] for w in self._within])[arm]
        within = (self._chance[rows] * self._trust[-1] + _FAINT) / total
        drawn = _ANCHORED * self._chance[rows] + (1.0 - _ANCHORED) * (
            self._policy.probabilities()[arm] * within
        )
        weight: NDArray[np.float32] = (self._chance[rows] / drawn).astype(np.float32)
        return weight

    def learn(self, batch: Batch, seen: Seen) -> None:
        """Reward the strata of ``batch``."""
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
        raw = np.array([found[self._slot == i].mean() for i in range(len(self._arms))])
        drawn = zip(self._arms, self._probabilities, self._scale(raw), strict=True)
        for arm, probability, reward in drawn:
            self._policy.update(int(arm), float(reward), float(probability))
            choice = Choice(seen.step, "sample", int(arm), float(probability), float(reward))
            self.log.append(choice)

    def state(self) -> dict[str, Any]:
        """Return generator, policy and scale."""
        own = {"policy": self._policy.state(), "scale": self._scale.state()}
        return {**super().state(), **own}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        super().load(state)
        self._policy.load(state["policy"])
        self._scale.load(state["scale"])
