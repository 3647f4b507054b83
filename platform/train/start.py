"""Which stored version a retraining starts from: worlds come back, and models can be dead ends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import nn

from undrift.model import load_weights
from undrift.train.pool import Pool, held_out
from undrift.train.scoring import score

_JUDGED = 1000  # newest held-out rows of the regime that versions are compared on
_MARGIN = 0.05  # accuracy that an older version must have above the live one


def choose_start(
    model: nn.Module,
    versions: Iterable[tuple[int, Mapping[str, torch.Tensor]]],
    pool: Pool,
    *,
    regime_start: int,
    device: torch.device | str = "cpu",
) -> int:
    """Return the version to start from: the live one, unless an older one fits the regime better.

    An older version that was trained in a similar world is the best start when that world comes
    back. A version that gives every row the same class, though the rows have several, has
    collapsed; from there gradients lead nowhere, so it is a start only if there is no other.

    Args:
        model: A model of the right architecture; its weights are overwritten.
        versions: Numbers and weights, the live version first.
        pool: Labelled rows.
        regime_start: First row of the regime to train for.
        device: Where to run the versions.
    """
    rows = np.flatnonzero(held_out(pool) & (pool.row >= regime_start))[-_JUDGED:]
    y = pool.y[rows]
    model.to(device)
    live, start, best, alive = -1, -1, -np.inf, False
    for number, state in versions:
        live = number if live < 0 else live
        if not len(rows):
            return live
        load_weights(model, state)
        label = score(model, pool.x[rows], device=device)[0].argmax(axis=1)
        fit = float((label == y).mean()) + (_MARGIN if number == live else 0.0)
        moves = not collapsed(label, y)
        if (moves, fit) > (alive, best):
            start, best, alive = number, fit, moves
    return start


def collapsed(label: np.ndarray, y: np.ndarray) -> bool:
    """Return whether a model says the same of every row though the rows are of several classes.

    Args:
        label: (n,) predicted class.
        y: (n,) true class.
    """
    return bool(len(np.unique(label)) == 1 and len(np.unique(y)) > 1)
