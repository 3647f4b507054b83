"""Bandits over the strata of the pool and over the blocks of the model."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from undrift.bandits import DiscountedThompson, Policy
from undrift.train.pool import Chosen, Index

_DRAWS = 4  # stratum draws of one batch
_ANCHORED = 0.75  # share of each batch drawn by trust alone, whatever the bandit thinks
_FAINT = 1e-3  # weight of untrusted rows within their stratum
_MEMORY = 256  # raw rewards whose quantiles define the scale
_WARM_UP = 8


class Choice(NamedTuple):
    """One choice of a bandit, for the audit log."""

    step: int
    bandit: str
    arm: int
    probability: float
    reward: float


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one gradient step.

    Attributes:
        index: (b,) rows of the pool.
        arms: (k,) strata drawn, and ``probabilities`` (k,) with which.
        slot: (b,) which draw a row belongs to; -1 for rows that no bandit chose.
    """

    index: Index
    arms: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    slot: NDArray[np.intp]


class RunningScale:
    """Maps rewards of unknown scale into [0, 1] by the quantiles of the recent ones.

    Reference:
        Graves et al.: Automated curriculum learning for neural networks. ICML 2017, section 3.
    """

    def __init__(self) -> None:
        self._seen: deque[float] = deque(maxlen=_MEMORY)

    def __call__(self, raw: NDArray[np.float64]) -> NDArray[np.float64]:
        """Take in raw rewards (k,); return them scaled: 0 at their 20 % quantile, 1 at 80 %."""
        self._seen.extend(raw.tolist())
        if len(self._seen) < _WARM_UP:
            return np.full(len(raw), 0.5)
        low, high = np.quantile(np.array(self._seen), (0.2, 0.8))
        if high - low < 1e-12:
            return np.full(len(raw), 0.5)
        scaled: NDArray[np.float64] = np.clip((raw - low) / (high - low), 0.0, 1.0)
        return scaled


class UniformSampler:
    """Draws rows uniformly, with replacement, from the candidates it is given."""

    def __init__(self, index: Index, seed: int) -> None:
        self._index = index
        self._rng = np.random.default_rng(seed)

    def draw(self, size: int) -> Batch:
        """Draw a batch of ``size`` rows."""
        rows = self._index[self._rng.integers(len(self._index), size=size)]
        nothing = np.empty(0)
        return Batch(rows, nothing.astype(np.int64), nothing, np.full(size, -1))


class StratumSampler:
    """Draws most of each batch by trust, and the rest from strata that a bandit chooses.

    The reward of a stratum is the first-order decrease of the guiding loss that a step on its
    rows brings: the inner product of their gradient with that of the guiding loss, both taken
    at the last layer, where they cost nothing beyond the forward pass. Thompson sampling is
    used because, with tens of strata and a few hundred steps, EXP3.S hardly leaves uniform.

    Args:
        chosen: The candidates, their trust and their strata.
        seed: Seed of every draw.
    """

    def __init__(self, chosen: Chosen, seed: int) -> None:
        self._rng = np.random.default_rng([seed, 1])
        self._index = chosen.index
        self._trust = np.cumsum(chosen.weight)
        self._members = [np.flatnonzero(chosen.stratum == s) for s in range(len(chosen.strata))]
        self._within = [np.cumsum(chosen.weight[m] + _FAINT) for m in self._members]
        self._policy: Policy = DiscountedThompson(
            len(chosen.strata), discount=0.998, noise=0.1, seed=seed
        )
        self._scale = RunningScale()
        self.log: list[Choice] = []

    def draw(self, size: int) -> Batch:
        """Draw a batch of ``size`` rows."""
        anchored = int(size * _ANCHORED)
        arms, probabilities = self._policy.draw(min(_DRAWS, size - anchored))
        slot = np.concatenate(
            [np.full(anchored, -1), np.arange(size - anchored) % len(arms)]
        ).astype(np.intp)
        u = self._rng.random(size)
        rows = np.empty(size, dtype=np.intp)
        rows[:anchored] = _inverse(self._trust, u[:anchored])
        for i, arm in enumerate(arms):
            own = slot == i
            rows[own] = self._members[arm][_inverse(self._within[arm], u[own])]
        return Batch(self._index[rows], arms, probabilities, slot)

    def learn(self, step: int, batch: Batch, scores: NDArray[np.float64]) -> None:
        """Reward the strata of ``batch`` by the scores (b,) of its rows."""
        raw = np.array([scores[batch.slot == i].mean() for i in range(len(batch.arms))])
        rewards = self._scale(raw)
        drawn = zip(batch.arms, batch.probabilities, rewards, strict=True)
        for arm, probability, reward in drawn:
            self._policy.update(int(arm), float(reward), float(probability))
            self.log.append(Choice(step, "sample", int(arm), float(probability), float(reward)))


class BlockSelector:
    """Chooses, round by round, the lowest block of the model that trains.

    The reward is the decrease of the guiding loss over a round, per share of a full step's
    operations. In the first half of the rounds all blocks train: that is when representations
    move, and a few dozen rounds are too few to explore as well. The bandit learns from them.

    Args:
        n_blocks: Number of blocks.
        rounds: Rounds of the whole run.
        seed: Seed of the draws.
    """

    def __init__(self, n_blocks: int, rounds: int, seed: int) -> None:
        self._all_until = rounds // 2
        self._round = 0
        self._policy: Policy = DiscountedThompson(n_blocks, discount=0.95, seed=seed)
        self._scale = RunningScale()
        self._drawn = (0, 1.0)
        self.log: list[Choice] = []

    def choose(self) -> int:
        """Draw the lowest block that trains in the next round."""
        self._drawn = (0, 1.0) if self._round < self._all_until else self._policy.select()
        self._round += 1
        return self._drawn[0]

    def learn(self, step: int, decrease: float, flop_share: float) -> None:
        """Reward the last choice."""
        arm, probability = self._drawn
        reward = float(self._scale(np.array([decrease / flop_share]))[0])
        self._policy.update(arm, reward, probability)
        self.log.append(Choice(step, "block", arm, probability, reward))


def _inverse(cumulative: NDArray[np.float64], u: NDArray[np.float64]) -> Index:
    found = np.searchsorted(cumulative, u * cumulative[-1], side="right")
    index: Index = np.minimum(found, len(cumulative) - 1)
    return index
