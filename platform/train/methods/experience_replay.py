"""Experience replay: a small memory of older rows, of which every batch holds some."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from undrift.train.methods.sampling import Batch, Deck, NewSampler
from undrift.train.pool import Index
from undrift.train.setup import Setup

_CAPACITY = 500  # rows; the middle one of the three sizes that the DER++ paper compares


def reservoir(rows: Index, capacity: int, rng: np.random.Generator) -> Index:
    """Return a uniform sample of a stream that is read once: algorithm R.

    Args:
        rows: (n,) the stream.
        capacity: Rows to keep, at least 1.
        rng: Source of the draws.

    Returns:
        All rows, or ``capacity`` of them; each is kept with the same probability.

    Reference:
        Vitter: Random sampling with a reservoir. ACM TOMS 11, 1985.

    Example:
        >>> reservoir(np.arange(3), 5, np.random.default_rng(0)).tolist()
        [0, 1, 2]
    """
    kept = rows[:capacity].copy()
    later = rows[capacity:]
    slot = rng.integers(np.arange(capacity, len(rows)) + 1)
    hit = slot < capacity
    kept[slot[hit]] = later[hit]  # of several rows for one slot, the last stays
    return kept


def remembered(setup: Setup) -> Index:
    """Return the rows (m,) of the pool in memory: a reservoir over the older candidates."""
    chosen = setup.chosen
    rng = np.random.default_rng([setup.plan.seed, 4])
    return reservoir(chosen.index[~chosen.new], _CAPACITY, rng)


class ReplaySampler(NewSampler):
    """Draws half of each batch from the new regime and half from a memory of older rows.

    Without older rows all of it is new.

    Args:
        setup: The retraining.

    Reference:
        Chaudhry et al.: On tiny episodic memories in continual learning. arXiv 1902.10486, 2019.
    """

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._memory = remembered(setup)
        self._again = Deck(np.ones(max(1, len(self._memory))), self._rng)

    def draw(self, size: int) -> Batch:
        """Draw a batch of ``size`` rows."""
        if not len(self._memory):
            return super().draw(size)
        again = self._memory[self._again.deal(size // 2)]
        return Batch.of(np.concatenate([super().draw(size - size // 2).index, again]))

    def state(self) -> dict[str, Any]:
        """Return generator and decks."""
        return {**super().state(), "again": self._again.state()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        super().load(state)
        self._again.load(state["again"])
