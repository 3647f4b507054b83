"""Reducible-loss selection: rows that are not learnt yet, but can be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from undrift.model.network import ask, blamed
from undrift.train.budget import Budget
from undrift.train.inference import forward
from undrift.train.methods.sampling import Batch, Sampler, inverse
from undrift.train.pool import Index
from undrift.train.schedule import adam, make_dense, rate
from undrift.train.setup import Setup

# 10 in the paper, which counts steps; counted in operations, 2 was better than 4 on two small
# problems (scikit-learn's digits: new classes, turned images).
_CANDIDATES = 2  # rows looked at for each row kept
_TWINS_SHARE = 0.2  # share of the run that goes into both twins
_MAX_NORM = 1.0


class ReducibleLossSampler(Sampler):
    """Draws twice the rows by trust and keeps those with the largest reducible loss.

    That is the loss of the model minus the irreducible one: the loss of a model that was trained
    on other rows. As in the paper where no rows can be held out, two copies of the start model
    are each trained on one half of the candidates and say what is irreducible of the other.

    Args:
        setup: The retraining.

    Reference:
        Mindermann et al.: Prioritized training on points that are learnable, worth learning, and
        not yet learnt. ICML 2022.
    """

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._setup = setup
        weight = setup.chosen.weight[setup.chosen.weight > 0.0]
        self._chance = weight / weight.sum()
        self._irreducible = setup.x.new_empty(0)

    def _candidates(self, setup: Setup) -> tuple[Index, NDArray[np.float64]]:
        trusted = setup.chosen.weight > 0.0
        return np.asarray(setup.chosen.index[trusted]), setup.chosen.weight[trusted]

    def _looked_at(self, size: int) -> int:
        return min(_CANDIDATES * size, len(self._index))

    def draw_flops(self, size: int) -> float:
        """Return the operations of a pass over what is looked at."""
        return self._looked_at(size) * self._setup.blocks.forward_flops

    def begin_round(self, share: float) -> None:  # noqa: ARG002
        """Measure the irreducible losses, once."""
        if not len(self._irreducible):
            self._irreducible = irreducible_losses(self._setup, self._index, self._chance)

    def draw(self, size: int) -> Batch:
        """Draw a batch of ``size`` rows."""
        setup, count = self._setup, self._looked_at(size)
        drawn = self._deck.deal(count)
        rows = torch.as_tensor(self._index[drawn], device=setup.x.device)
        losses = setup.objective.losses(forward(setup, setup.x[rows])[0], setup.y[rows])
        reducible = losses - self._irreducible[torch.as_tensor(drawn, device=losses.device)]
        kept = reducible.topk(min(size, count)).indices.cpu().numpy()
        return Batch.of(self._index[drawn[kept]])

    def state(self) -> dict[str, Any]:
        """Return generator and irreducible losses."""
        return {**super().state(), "irreducible": self._irreducible}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        super().load(state)
        self._irreducible = state["irreducible"].to(self._setup.x.device)


def irreducible_losses(setup: Setup, rows: Index, chance: NDArray[np.float64]) -> torch.Tensor:
    """Return the loss (k,) of each row under a model that was not trained on it.

    Args:
        setup: The retraining.
        rows: (k,) rows of the pool, at least 2.
        chance: (k,) probability of each row when a batch is drawn.
    """
    rng = np.random.default_rng([setup.plan.seed, 6])
    half = rng.permutation(len(rows)) % 2
    losses = setup.x.new_empty(len(rows), dtype=torch.float32)
    for side in (0, 1):
        own = half == side
        with _twin(setup.model):
            _train(setup, rows[own], np.cumsum(chance[own]), rng)
            others = torch.as_tensor(rows[~own], device=setup.x.device)
            output, _ = forward(setup, setup.x[others])
        losses[torch.as_tensor(~own)] = setup.objective.losses(output, setup.y[others])
    return losses


@contextmanager
def _twin(model: nn.Module) -> Iterator[None]:
    """Have a model be its own copy for a while: weights, buffers and modes come back after it.

    Some models cannot be copied, for what they hold besides: locks, hooks, weights made of others.
    """
    tensors = [*model.parameters(), *model.buffers()]
    kept = [tensor.detach().clone() for tensor in tensors]
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, before in zip(tensors, kept, strict=True):
                tensor.copy_(before)
        model.zero_grad(set_to_none=True)
        for module, mode in modes:
            module.training = mode


def _train(
    setup: Setup, rows: Index, cumulative: NDArray[np.float64], rng: np.random.Generator
) -> None:
    """Train the model, for its share of the run, on rows that the workers share out."""
    settings, comm, meter = setup.settings, setup.comm, setup.meter
    twin = setup.model
    parameters = [p for p in twin.parameters() if p.requires_grad]
    optimizer = adam(parameters, settings.learning_rate)
    budget, began_flops = Budget.parse(setup.plan.budget), meter.flops
    clock = setup.x.new_tensor([meter.seconds], dtype=torch.float32)
    comm.mean_([clock])
    began, step, done = float(clock), 0, 0.0
    twin.train()
    while done < 1.0:
        index = rows[inverse(cumulative, rng.random(settings.batch_size))][comm.rank :: comm.world]
        own = torch.as_tensor(index, device=setup.x.device)
        losses = setup.objective.losses(ask(twin, setup.x[own]).float(), setup.y[own])
        optimizer.zero_grad()
        with blamed(twin):
            (losses.sum() * (comm.world / settings.batch_size)).backward()
        make_dense(parameters)
        clock = losses.new_tensor([meter.seconds])
        comm.mean_([clock, *(p.grad for p in parameters if p.grad is not None)])
        nn.utils.clip_grad_norm_(parameters, _MAX_NORM)
        for group in optimizer.param_groups:
            group["lr"] = rate(settings.learning_rate, done)
        optimizer.step()
        step += 1
        meter.add(settings.batch_size, setup.blocks.step_flops(0))
        flops, seconds = meter.flops - began_flops, float(clock) - began
        spent = max(flops / budget.flops, seconds / budget.seconds)
        done = (spent if budget.limited else step / setup.plan.steps) / (_TWINS_SHARE / 2)
