"""Which stored version a retraining starts from: worlds come back, and models can be dead ends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch

from undrift.train.objective import objective_for
from undrift.train.pool import Pool, held_out
from undrift.train.trainee import Trainee

_JUDGED = 1000  # newest rows of the regime that versions are compared on
_FEWEST = 50
_MARGIN = 0.05  # accuracy or R2 that an older version must have above the live one


def choose_start(
    trainee: Trainee,
    versions: Iterable[tuple[int, Mapping[str, torch.Tensor]]],
    pool: Pool,
    *,
    regime_start: int,
    learnt: int = -1,
) -> int:
    """Return the version to start from: the live one, unless an older one fits the regime better.

    An older version that was trained in a similar world is the best start when that world comes
    back. A version that gives every row the same answer, though their targets differ, has
    collapsed; from there gradients lead nowhere, so it is a start only if there is no other.

    Versions are compared on rows that the retraining will train on and none of them was trained
    on. The best of many on the rows that are held out would look as lucky to the gate, and to the
    monitor, which are to be told by those; they are taken only where there are hardly any others.

    Args:
        trainee: The model; its weights are overwritten.
        versions: Numbers and weights, the live version first.
        pool: Labelled rows.
        regime_start: First row of the regime to train for.
        learnt: Newest row that a version may have been trained on; -1: none.

    Raises:
        TrainingError: The model's head does not fit the pool's targets.
    """
    objective = objective_for(pool.y)
    objective.check(pool.y, trainee.layer)
    regime, held = pool.row >= regime_start, held_out(pool)
    rows = np.flatnonzero(regime & ~held & (pool.row > learnt))
    rows = (rows if len(rows) >= _FEWEST else np.flatnonzero(regime & held))[-_JUDGED:]
    y = pool.y[rows]
    live, start, best, alive = -1, -1, -np.inf, False
    for number, state in versions:
        live = number if live < 0 else live
        if not len(rows):
            return live
        trainee.load(state)
        answer = trainee.score(pool.x[rows], objective)[0]
        fit = objective.quality(answer, y) + (_MARGIN if number == live else 0.0)
        moves = not objective.collapsed(answer, y)
        if (moves, fit) > (alive, best):
            start, best, alive = number, fit, moves
    return start
