"""Gradient matching: a weighted subset whose gradient is that of all rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls

from undrift.train.budget import Budget
from undrift.train.inference import forward
from undrift.train.methods.sampling import Batch, TrustSampler, inverse
from undrift.train.setup import Setup

_GROUPS = 256  # most mini-batches that are matched
_SUBSET = 0.3  # share of them that is chosen
_PASSES = 5  # passes over a subset before the next is chosen: then choosing is a fifth of the cost
_RIDGE = 0.01  # penalty on large weights, relative to a mean squared gradient


class MatchingSampler(TrustSampler):
    """Trains on a weighted subset, chosen anew after every five passes over it.

    As many rows as the trust is worth are drawn by it, in equal steps, and split into
    mini-batches. Those are chosen, and weighted, by `matching_pursuit` on the gradients at the
    head: the per-batch variant of the paper. Its R is 20 epochs of several hundred; a retraining
    is shorter.

    Args:
        setup: The retraining.

    Reference:
        Killamsetty et al.: GRAD-MATCH: gradient matching based data subset selection for
        efficient deep model training. ICML 2021.
    """

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._setup = setup
        weight = setup.chosen.weight
        self._trust = np.cumsum(weight)
        worth = round(weight.sum() ** 2 / (weight**2).sum())  # the effective sample size
        self._group = -(-worth // _GROUPS)
        self._count = worth // self._group * self._group
        self._flops = self._count * setup.blocks.forward_flops
        self._budget = Budget.parse(setup.plan.budget).flops
        self._rows, self._weights = np.empty(0, np.intp), np.empty(0, np.float32)
        self._next, self._end = 0, 0

    def draw_flops(self, size: int) -> float:
        """Return the operations of choosing a subset, where one is due."""
        return self._flops if self._due(size) else 0.0

    def _due(self, size: int) -> bool:
        """Whether a subset is chosen next; not where less would be left to train on it."""
        worth_it = self._setup.meter.flops + 2.0 * self._flops <= self._budget
        return not len(self._rows) or (self._next + size > self._end and worth_it)

    def draw(self, size: int) -> Batch:
        """Draw a batch of ``size`` rows."""
        if self._due(size):
            self._choose()
            self._next, self._end = 0, max(size, _PASSES * len(self._rows))
        turn = np.arange(self._next, self._next + size) % len(self._rows)
        self._next += size
        return Batch(self._index[self._rows[turn]], self._weights[turn])

    def _choose(self) -> None:
        """Choose a subset, in random order, with weights that are 1 on average."""
        setup = self._setup
        even = (np.arange(self._count) + self._rng.random()) / self._count
        groups = self._rng.permutation(inverse(self._trust, even)).reshape(-1, self._group)
        rows = torch.as_tensor(self._index[groups.reshape(-1)], device=setup.x.device)
        output, embedding = forward(setup, setup.x[rows])
        residual = setup.objective.residual(output, setup.y[rows])
        head = torch.cat([embedding, embedding.new_ones(len(rows), 1)], dim=1)
        shape = (len(groups), self._group, -1)
        gradients = (residual.view(shape).mT @ head.view(shape)).flatten(1) / self._group
        gram = (gradients @ gradients.T).cpu().numpy().astype(np.float64)
        weights = matching_pursuit(gram, math.ceil(_SUBSET * len(groups)))
        chosen = np.flatnonzero(weights)
        order = self._rng.permutation(len(chosen) * self._group)
        share = weights[chosen] / weights[chosen].mean()
        self._rows = groups[chosen].reshape(-1)[order]
        self._weights = np.repeat(share, self._group)[order].astype(np.float32)

    def state(self) -> dict[str, Any]:
        """Return generator and subset."""
        own = {"rows": torch.from_numpy(self._rows), "weights": torch.from_numpy(self._weights)}
        return {**super().state(), **own, "next": self._next, "end": self._end}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        super().load(state)
        self._rows, self._weights = state["rows"].numpy(), state["weights"].numpy()
        self._next, self._end = state["next"], state["end"]


def matching_pursuit(gram: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    """Choose gradients whose weighted sum is near the sum of all, one after another.

    Orthogonal matching pursuit with weights of at least 0: the gradient that points most along
    what is left joins, and all weights are fitted anew by ridge regression.

    Args:
        gram: (m, m) inner products of the gradients.
        most: Gradients to choose, at least 1.

    Returns:
        Weight (m,) of each gradient, 0 for those that are not chosen.

    Example:
        >>> gradients = np.array([[3.0, 0.0], [0.1, 0.1], [0.0, 1.0]])
        >>> matching_pursuit(gradients @ gradients.T, 1).round(2)
        array([1.03, 0.  , 0.  ])
    """
    ridge = _RIDGE * max(float(np.diag(gram).mean()), 1e-12)
    along = gram.sum(axis=1)
    weights, chosen = np.zeros(len(gram)), np.zeros(0, dtype=np.intp)
    for _ in range(most):
        left = along - gram @ weights
        left[chosen] = -np.inf
        best = int(left.argmax())
        if left[best] <= 0.0 and len(chosen):
            break
        chosen = np.append(chosen, best)
        root = np.linalg.cholesky(gram[np.ix_(chosen, chosen)] + ridge * np.eye(len(chosen)))
        weights[chosen] = nnls(root.T, np.linalg.solve(root, along[chosen]))[0]
    if not weights.any():  # every gradient is 0: nothing is left to learn, and all are alike
        weights[chosen] = 1.0
    return weights
