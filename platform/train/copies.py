"""Rows that come again and again with hardly a change: frames of one scene, a session, a retry."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from undrift.records import FloatArray
from undrift.train.density import Components, narrow

_NEAR = 0.05  # of the distance of two rows in general, within which one is as good as the other
_MANY = 5  # rows from which on it is no accident
_ALONE = 1.5  # times as many rows at most within twice the distance; on a line there are two
_FEW = 0.05  # of the rows of a side, below which it is not worth a change
_PAIRS = 4_000


def copies(
    x: FloatArray, index: NDArray[np.intp], sides: NDArray[np.bool_], seed: int
) -> NDArray[np.intp]:
    """Return how many rows (k,) of its side are nearly the same as each of some, with itself.

    Two rows are, if they are twenty times closer on their leading principal components than two
    rows of a side in general, and with hardly any other round them: rows that lie dense, as those
    of few numbers do, are no copies. Labels play no part, so that drawing the rows of a place less
    often leaves the shares of its labels as they are. Fewer than five count as one, and all do
    where copies are less than a twentieth of a side.

    Args:
        x: (n, *shape) inputs; they are not copied.
        index: (k,) which of them are compared.
        sides: (k,) which with each other: those of the same value.
        seed: Seed of the projection and of the pairs that tell what is usual.
    """
    found = np.ones(len(index), dtype=np.intp)
    if not x[:1].size:
        return found
    rng = np.random.default_rng([seed, 9])
    if not np.isfinite(x).all():
        x = np.nan_to_num(x, posinf=0.0, neginf=0.0)
    (rows,) = narrow((x,), rng)
    for side in (sides, ~sides):
        if side.sum() < _MANY:
            continue
        mine = rows[index[side]]
        z = Components(mine.astype(np.float64))(mine)
        one, other = rng.integers(0, len(z), (2, _PAIRS))
        usual = float(np.median(np.linalg.norm(z[one] - z[other], axis=1)[one != other]))
        tree = cKDTree(z)
        near, wide = (
            tree.query_ball_point(z, times * _NEAR * usual, return_length=True) for times in (1, 2)
        )
        repeated = (near >= _MANY) & (wide <= _ALONE * near)
        if repeated.mean() >= _FEW:
            found[side] = np.where(repeated, near, 1)
    return found
