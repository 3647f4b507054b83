"""Whether a model's answer to a row depends on that row alone."""

from __future__ import annotations

import torch
from torch import nn

from undrift.model.network import ask, differentiable

_CLOSE = 1e-2  # of the spread of the answers


def unsteady(model: nn.Module, x: torch.Tensor) -> list[str]:
    """Return what is odd about a model's answers, a sentence each.

    The gate, the monitor and a replay compare answers to the same rows that were given at another
    time, in other batches.

    Args:
        model: The model; its modes are restored.
        x: (n, *row_shape) rows, at least 2.

    Raises:
        ModelError: It fails.
    """
    with differentiable(model), torch.no_grad():
        first, again = ask(model, x).float(), ask(model, x).float()
        parts = torch.cat([ask(model, part).float() for part in x.split(max(1, len(x) // 3))])
    close = _CLOSE * float(first.std()) + 1e-6
    name = type(model).__name__
    if not torch.allclose(first, again, rtol=0.0, atol=close):
        return [
            f"{name} answers the same rows otherwise when it is asked again: something in it is "
            "random or remembers, also in evaluation mode, and what is compared with earlier "
            "answers is blurred by that"
        ]
    if not torch.allclose(first, parts, rtol=0.0, atol=close):
        return [
            f"{name} answers a row otherwise in another batch: something in it mixes rows, also in "
            "evaluation mode, so what a caller gets depends on who else asks"
        ]
    return []
