"""How loudly the start of a retraining speaks: no louder than it is right about the rows."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from undrift.train.inference import forward
from undrift.train.objective import Classification
from undrift.train.setup import Setup

_ROWS = 256
_SCALES = 21  # from 0 to 1, denser near 0


def temper(setup: Setup) -> float:
    """Silence a classifier's head as far as it is wrong; return what its logits are scaled by.

    A model that is sure of what is wrong now has gradients so large that rectified units die
    before it has learnt otherwise. One that is right less often than the most frequent label would
    be, on rows drawn by trust of classes that it knows, has its logits multiplied by the number
    from 0 to 1 of the least cross-entropy there: 0 where the world is turned upside down. The
    features stay. A head is left alone that is no plain linear layer at the end of the network, or
    is shared or frozen.

    Args:
        setup: The retraining before its first step; the model's head is changed.

    Reference:
        Guo, Pleiss, Sun, Weinberger: On calibration of modern neural networks. ICML 2017, for the
        temperature. Ash, Adams: On warm-starting neural network training. NeurIPS 2020.
    """
    if not isinstance(setup.objective, Classification) or not _plain(setup):
        return 1.0
    chosen, layer = setup.chosen, setup.head
    known = np.unique(setup.reference.y)
    weight = chosen.weight * np.isin(setup.y.cpu().numpy()[chosen.index], known)
    if not weight.any():
        return 1.0
    rng = np.random.default_rng([setup.plan.seed, 9])
    rows = torch.as_tensor(
        rng.choice(chosen.index, _ROWS, p=weight / weight.sum()), device=setup.x.device
    )
    output, embedding = forward(setup, setup.x[rows])
    with torch.no_grad():
        usual = torch.bincount(setup.y[rows]).max()
        if (output.argmax(dim=1) == setup.y[rows]).sum() >= usual:
            return 1.0
        if not _last(layer, embedding, output):
            return 1.0
        scales = torch.linspace(0.0, 1.0, _SCALES, device=output.device) ** 2
        losses = [setup.objective.losses(scale * output, setup.y[rows]).mean() for scale in scales]
        best = scales[int(torch.stack(losses).argmin())]
        for parameter in layer.parameters():
            parameter.mul_(best)
    return float(best)


def _last(layer: nn.Linear, embedding: torch.Tensor, output: torch.Tensor) -> bool:
    """Whether what leaves a layer is what the model answers, but for its precision."""
    bias = None if layer.bias is None else layer.bias.float()
    own = F.linear(embedding, layer.weight.float(), bias)
    return own.shape == output.shape and bool((own - output).abs().max() <= 0.02 * own.abs().max())


def _plain(setup: Setup) -> bool:
    """Whether the head's parameters are its own, plain, and trained."""
    layer = setup.head
    own = {id(p) for p in layer.parameters()}
    named = setup.model.named_parameters(remove_duplicate=False)
    shared = sum(id(p) in own for _, p in named) > len(own)
    trained = all(p.requires_grad and p.is_floating_point() for p in layer.parameters())
    return type(layer) is nn.Linear and not shared and trained
