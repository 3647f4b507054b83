"""The loss that guides choices: how well the model does on rows that it is not trained on."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from undrift.model.network import ask
from undrift.train.blocks import Blocks
from undrift.train.budget import Meter
from undrift.train.objective import Objective
from undrift.train.pool import Split

_NEW, _OLD = 96, 32  # rows


class Guide:
    """Loss on rows of the new regime and on rows to remember.

    The rows of the new regime are held out: on rows that are trained on, the loss falls whatever
    is chosen. Nothing is fitted to them but choices among tens of arms, so the gate may use them
    too. Those to remember are candidates of older regimes.

    Attributes:
        new: (k,) rows of the pool from the new regime.
        loss: The loss when `look` was last called.

    Args:
        x: (n, *input_shape) inputs of the pool.
        y: (n,) targets of the pool.
        chosen: Which rows are held out, and which are candidates.
        objective: The loss.
        old_share: Weight of the older rows, from 0 to below 1.
        seed: Seed of the subsampling.
    """

    def __init__(
        self,
        x: torch.Tensor,
        y: torch.Tensor,
        chosen: Split,
        objective: Objective,
        *,
        old_share: float,
        seed: int,
    ) -> None:
        rng = np.random.default_rng([seed, 2])
        self._x, self._y, self._objective = x, y, objective
        held = chosen.validation
        self.new = held if len(held) <= _NEW else np.sort(rng.choice(held, _NEW, replace=False))
        old = chosen.index[~chosen.new & (chosen.weight > 0.0) & (old_share > 0.0)]
        old = rng.choice(old, min(_OLD, len(old)), replace=False)
        share = old_share if len(old) else 0.0
        self._rows = torch.as_tensor(np.concatenate([self.new, old]), device=x.device)
        each = [(1.0 - share) / len(self.new), share / max(1, len(old))]
        weights = np.repeat(each, [len(self.new), len(old)])
        self._weight = torch.as_tensor(weights, dtype=torch.float32, device=x.device)
        self.loss = float("nan")

    def __len__(self) -> int:
        return len(self._rows)

    def look(self, model: nn.Module, blocks: Blocks, meter: Meter) -> None:
        """Measure the loss of the model as it is; it is left in evaluation mode."""
        model.eval()
        with torch.no_grad():
            output = ask(model, self._x[self._rows]).float()
            target = self._y[self._rows]
            losses = self._objective.losses(output, target)
            self.loss = float((losses * self._weight).sum())
        meter.add(len(self._rows), blocks.forward_flops, everywhere=True)
