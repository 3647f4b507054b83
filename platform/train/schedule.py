"""How fast a model learns over a run, and by which optimizer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from undrift.train.settings import TrainSettings

_LEAST_BATCH = 16
# The rate rises over this share of the run: a confident model that is suddenly wrong everywhere
# starts with gradients that can silence its ReLUs for good.
_WARM_UP = 0.1


def rate(peak: float, share: float) -> float:
    """Return the learning rate: it rises over the first tenth of a run, then falls to zero.

    Args:
        peak: The rate that the two slopes would meet at.
        share: Share of the run that is over.

    Example:
        >>> [round(rate(1.0, share), 2) for share in (0.0, 0.1, 0.5, 1.0)]
        [0.01, 0.9, 0.5, 0.0]
    """
    return peak * min(1.0, (share + 1e-3) / _WARM_UP) * (1.0 - share)


def paced(rows: float, settings: TrainSettings) -> int:
    """Return the batch size with which a budget makes as many steps as are made without one.

    Where compute is short, more steps on fewer rows each take a model further than the same rows
    in few steps, down to batches of 16. They cost more time for Python, not more operations.

    Args:
        rows: Rows that the budget pays a gradient for; infinite where operations are not limited.
        settings: The batch size without a budget, which is the largest, and the steps.

    Example:
        >>> settings = TrainSettings(batch_size=64, steps=600)
        >>> [paced(rows, settings) for rows in (1_000, 18_000, 40_000, float("inf"))]
        [16, 30, 64, 64]
    """
    least = min(_LEAST_BATCH, settings.batch_size)
    return int(max(least, min(settings.batch_size, rows / settings.steps)))


def adam(parameters: Iterable[nn.Parameter], learning_rate: float) -> torch.optim.AdamW:
    """Return the optimizer of every retraining; in 16-bit floats its usual epsilon would be 0."""
    half: list[nn.Parameter] = []
    other: list[nn.Parameter] = []
    for parameter in parameters:
        (half if parameter.dtype == torch.float16 else other).append(parameter)
    groups: list[dict[str, Any]] = [{"params": other}, {"params": half, "eps": 1e-4}]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=learning_rate,
        weight_decay=0.0,
        fused=all(p.dtype == torch.float32 for p in other) and not half,
    )


def make_dense(parameters: Iterable[nn.Parameter]) -> None:
    """Turn gradients of sparse embeddings into what the optimizer, and the other workers, take."""
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.to_dense()
