"""The retraining methods, as data: what they draw from, what they train, what they protect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from undrift.errors import TrainingError
from undrift.train.pool import Chosen
from undrift.train.selection import StratumSampler, UniformSampler

Sampler = StratumSampler | UniformSampler


@dataclass(frozen=True, slots=True)
class Method:
    """One way to retrain.

    Attributes:
        sampler: Makes the sampler of batches from the candidates and a seed.
        selects_blocks: A bandit chooses which blocks train; else all do.
        protects: The importance penalties apply.
        min_epochs: Passes over the candidates that are made at least, whatever the plan's steps.
    """

    sampler: Callable[[Chosen, int], Sampler]
    selects_blocks: bool = False
    protects: bool = False
    min_epochs: int = 0

    def steps(self, planned: int, rows: int, batch_size: int) -> int:
        """Return the number of gradient steps for ``rows`` candidates."""
        return max(planned, -(-self.min_epochs * rows // batch_size))


def _everything(chosen: Chosen, seed: int) -> Sampler:
    return UniformSampler(chosen.index, seed)


def _new_regime(chosen: Chosen, seed: int) -> Sampler:
    if not chosen.new.any():
        raise TrainingError("no labelled row of the new regime; finetune has nothing to train on")
    return UniformSampler(np.asarray(chosen.index[chosen.new]), seed)


METHODS: dict[str, Method] = {
    "bandit": Method(StratumSampler, selects_blocks=True, protects=True),
    # Starts from the base weights: from scratch would need the recipe of the first training.
    "full": Method(_everything, min_epochs=50),
    "finetune": Method(_new_regime),
    "random": Method(_everything),
}


def get_method(name: str) -> Method:
    """Return the method called ``name``.

    Raises:
        TrainingError: There is none.
    """
    if name not in METHODS:
        raise TrainingError(f"unknown method {name!r}; there are {', '.join(METHODS)}")
    return METHODS[name]
