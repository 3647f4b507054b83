"""Dark experience replay: a memory of rows, and of what the start model said of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from undrift.train.inference import forward
from undrift.train.methods.experience_replay import remembered
from undrift.train.methods.penalty import Penalty
from undrift.train.setup import Setup

# Weights of the stored outputs and of the stored labels: of 0.1, 0.2 and 0.5, and of 0.5 and 1, the
# best on two small problems (scikit-learn's digits: new classes, turned images).
_ALPHA, _BETA = 0.1, 0.5


class DarkReplay(Penalty):
    """Adds alpha MSE(output, stored output) + beta loss(output, label), on memory: DER++.

    The two terms take two independent draws, each as large as a batch. The paper stores outputs
    while the old tasks are learnt; here the start model, which has learnt them, gives them.

    Args:
        setup: The retraining.

    Reference:
        Buzzega et al.: Dark experience for general continual learning. NeurIPS 2020, equation 6;
        the squared error is averaged over outputs, as in the authors' code.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        rows = torch.as_tensor(remembered(setup), device=setup.x.device)
        self._x, self._y = setup.x[rows], setup.y[rows]
        self._stored = forward(setup, self._x)[0] if len(rows) else self._x.new_empty(0)
        self._rng = np.random.default_rng([setup.plan.seed, 5])
        self._drawn, self._dark = rows[:0], rows[:0] > 0

    def rehearsed(self) -> int:
        """Return how many rows the next step rehearses, over all workers."""
        return 2 * self._setup.settings.batch_size if len(self._x) else 0

    def rehearse(self, part: slice) -> torch.Tensor | None:
        """Draw the rows of both terms."""
        if not len(self._x):
            return None
        count, device = self.rehearsed(), self._x.device
        drawn = self._rng.integers(len(self._x), size=count)
        self._drawn = torch.as_tensor(drawn[part], device=device)
        self._dark = torch.as_tensor((np.arange(count) < count // 2)[part], device=device)
        return self._x[self._drawn]

    def term(self, output: torch.Tensor | None) -> torch.Tensor | None:
        """Return both terms."""
        if output is None:
            return None
        dark, drawn = self._dark, self._drawn
        distance = (output[dark] - self._stored[drawn[dark]]).pow(2).mean(dim=1)
        losses = self._setup.objective.losses(output[~dark], self._y[drawn[~dark]])
        share = self._setup.comm.world / self._setup.settings.batch_size
        return share * (_ALPHA * distance.sum() + _BETA * losses.sum())

    def figures(self) -> dict[str, float]:
        """Return the size of the memory."""
        return {"memory": float(len(self._x))}

    def state(self) -> dict[str, Any]:
        """Return the generator; the memory follows from the plan."""
        return {"rng": self._rng.bit_generator.state}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self._rng.bit_generator.state = state["rng"]
