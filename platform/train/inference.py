"""Forward passes that nothing is learnt from: shared out among the workers, and counted."""

from __future__ import annotations

import torch
from torch import nn

from undrift.model.network import forward_with_embedding
from undrift.train.setup import Setup

_ROWS = 512  # rows of one pass


def forward(
    setup: Setup, x: torch.Tensor, model: nn.Module | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what a model says of rows, and what enters its head; it is left as it is.

    All workers call this with the same rows; each runs its part of them and gets all answers.

    Args:
        setup: The retraining; its meter counts the pass.
        x: (n, *input_shape) rows.
        model: A model of the same architecture; the one that is retrained by default.

    Returns:
        Output (n, c) and embedding (n, e), both float32.
    """
    comm = setup.comm
    trainee = setup.trainee if model is None else setup.trainee.like(model)
    model, head = trainee.model, trainee.layer
    found = x.new_zeros(len(x), head.out_features + head.in_features, dtype=torch.float32)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    with torch.no_grad():
        for rows in torch.arange(comm.rank, len(x), comm.world, device=x.device).split(_ROWS):
            both = forward_with_embedding(model, head, x[rows])
            found[rows] = torch.cat([part.float() for part in both], dim=1) * comm.world
    for module, mode in modes:
        module.training = mode
    comm.mean_([found])
    setup.meter.add(len(x), setup.blocks.forward_flops)
    return found[:, : head.out_features], found[:, head.out_features :]
