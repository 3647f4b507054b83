"""How well heads that follow the labels do beside a version, before it serves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from undrift.model.door import door_of
from undrift.model.heads import MEMORIES, RidgeHeads
from undrift.model.mixture import Scaling
from undrift.train.pool import REFERENCE_ROW, Index, Pool, Split
from undrift.train.trainee import Trainee

_BLOCK = 64  # rows between two fits


def heads_right(
    trainee: Trainee, pool: Pool, chosen: Split, index: Index, since: int
) -> NDArray[np.bool_]:
    """Return whether the best of several heads would answer each of some held-out rows right.

    The heads learn from the rows that the retraining might train on, oldest first, on the
    version's embedding, alone and with the input. The best is the one that would have answered
    most of the regime's rows right before it learnt from them; so it is not chosen on the rows that
    it is judged on.

    Args:
        trainee: The version.
        pool: The labelled rows; targets are classes.
        chosen: Which of them the retraining might train on.
        index: (n,) other rows of the pool.
        since: First row of the regime.

    Returns:
        (n,) booleans.
    """
    output, embedding = trainee.score(pool.x)
    reference = pool.row == REFERENCE_ROW
    x = pool.x[:, :0] if door_of(trainee.model).has_integers else pool.x
    scalings = [(Scaling.of(data[reference]), data) for data in (embedding, x)]
    classes = output.shape[1]

    def described(rows: Index) -> NDArray[np.float64]:
        parts = [scaling(data[rows]) for scaling, data in scalings]
        return np.hstack([np.ones((len(rows), 1)), *parts])

    leading = 1 + scalings[0][0].width
    heads = RidgeHeads(leading + scalings[1][0].width, leading, classes, MEMORIES)

    def said(known: NDArray[np.float64]) -> NDArray[np.intp]:
        scores = (known @ heads.weights).reshape(len(known), -1, classes)
        answers: NDArray[np.intp] = scores.argmax(axis=2)
        return answers

    learnt = chosen.index
    right = np.zeros(2 * len(MEMORIES))
    for start in range(0, len(learnt), _BLOCK):
        rows = learnt[start : start + _BLOCK]
        known, y = described(rows), pool.y[rows]
        right += (said(known) == y[:, None])[pool.row[rows] >= since].sum(axis=0)
        heads.add(known, (y[:, None] == np.arange(classes)) - 1.0 / classes)
    best = said(described(index))[:, right.argmax()]
    found: NDArray[np.bool_] = best == pool.y[index]
    return found
