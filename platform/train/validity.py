"""Whether the labels of older rows are still true, judged stratum by stratum on the rows alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from undrift.records import FloatArray, IntArray, TargetArray
from undrift.train.density import Components, density_ratio, narrow
from undrift.train.strata import by_target

_NEIGHBOURS = 15
_NEW_ROWS, _OF_STRATUM = 3_000, 150  # most rows that are looked at
_ALIKE = 0.5  # least density of the new inputs at an older row, over that of its own inputs
_NEAR = 0.9  # quantile of the new rows' own distances within which an older row has neighbours
_HALF = 0.5  # contradiction from which on labels are as often wrong as right, and worth nothing
_TELLING = 0.15  # least that labels of like rows say, for rows that are not doubted anyway
_FEWEST = 10  # alike rows that say anything, and new rows that make a class known
_SURE = 1.64  # standard errors: 95 %, one-sided


def validity(
    x: FloatArray,
    y: TargetArray,
    stratum: NDArray[np.intp],
    new: NDArray[np.bool_],
    *,
    doubt: bool,
    seed: int,
) -> NDArray[np.float64]:
    """Return how far the labels of each stratum of older rows are still true, from 0 to 1.

    An older row looks among the new rows for its fifteen nearest. If labels have not changed, its
    label is a draw like theirs, and as many of them agree with it as agree with each other, or as
    have always agreed with rows of its class: one that lies scattered among others has never had
    many neighbours of its own, which the older rows tell. By how much fewer do than the lesser of
    the two, over all rows of a stratum that look like new ones, is its contradiction: 0 where
    labels are as before, however far the inputs have moved, and 1 where they agree no more often
    than any label would. A row without new rows that look alike says nothing, nor does one of a
    class that the new rows do not have: absence is no contradiction.

    Args:
        x: (n, *input_shape) inputs.
        y: (n,) class index, or (n,) or (n, c) targets of a regression. Of those a squared distance
            takes the place of a disagreement: the contradiction is by how much further an older
            label is from those of its neighbours than these are from each other, as a share of what
            it would be with any labels for neighbours; as in a quadratically weighted kappa.
        stratum: (n,) stratum of each row, which has older rows or new ones, never both.
        new: (n,) True for rows of the new regime.
        doubt: Who has the benefit of it: True counts the most contradiction that the rows allow,
            and all of it where they are too few to say anything of a class that is still there;
            False the least. Rows enough that all lie where no new ones do have moved, and say
            nothing either way.
        seed: Seed of the subsampling.

    Returns:
        (s,) validity by stratum; 1 for those of new rows.
    """
    valid = np.ones(int(stratum.max()) + 1 if len(stratum) else 0)
    older = np.unique(stratum[~new])
    if not len(older) or not new.any():
        return valid
    numbers = not np.issubdtype(y.dtype, np.integer)
    if numbers:
        y = _standardised(y)
    rng = np.random.default_rng(seed)
    if not np.isfinite(x).all():
        x = np.nan_to_num(x, posinf=0.0, neginf=0.0)
    recent = _some(np.flatnonzero(new), _NEW_ROWS, rng)
    asked = np.concatenate([_some(np.flatnonzero(stratum == s), _OF_STRATUM, rng) for s in older])
    lacks, could, told = _agreement(x, y, recent, asked, seed)
    known = np.ones(len(y), dtype=np.bool_)
    if not numbers:
        known = (np.bincount(y[recent], minlength=int(y.max()) + 1) >= _FEWEST)[y]
    for s in older:
        here = (stratum[asked] == s) & told & known[asked]
        if here.sum() >= _FEWEST:
            contradiction = _contradiction(lacks[here], could[here], doubt=doubt)
            valid[s] = max(0.0, 1.0 - contradiction / _HALF)
        elif doubt and ((stratum[asked] == s) & known[asked]).sum() < 2 * _FEWEST:
            valid[s] = 1.0 - known[stratum == s].mean()
    return valid


def _agreement(
    x: FloatArray, y: TargetArray, recent: NDArray[np.intp], asked: NDArray[np.intp], seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Return what three comparisons of rows with new neighbours give, (m,) each.

    By how much further a row's label is from its neighbours' than it should be; by how much
    further it would be if labels were drawn at random; and whether there are any that look alike.
    """
    k = max(2, min(_NEIGHBOURS, len(recent) // 10))
    if len(recent) <= k or not x[:1].size:
        nothing = np.zeros(len(asked))
        return nothing, nothing, nothing > 0
    there, here = narrow((x[recent], x[asked]), np.random.default_rng(seed))
    components = Components(there.astype(np.float64))
    tree, z = cKDTree(components(there)), components(here)
    usual = tree.query(tree.data, k + 1)[0][:, -1]
    far, near = (found.reshape(len(z), k) for found in tree.query(z, k))
    told = far[:, -1] <= np.quantile(usual, _NEAR)
    told &= density_ratio(x[asked], x[recent], seed=seed) >= _ALIKE
    own, votes = y[asked], y[recent][near]
    should = np.maximum(_among(votes), _before(z, own, by_target(y)[asked], told))
    return _apart(votes, own) - should, _at_random(votes, own, y[recent]) - should, told


def _before(
    z: NDArray[np.float64], y: TargetArray, group: IntArray, told: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return how far the label of older rows (m, d) is from those of like older ones, by group."""
    k = max(2, min(_NEIGHBOURS, len(z) // 10))
    if len(z) <= k:
        return np.zeros(len(z))
    near = cKDTree(z).query(z, k + 1)[1][:, 1:]
    sums = np.bincount(group, _apart(y[near], y) * told)
    return (sums / np.maximum(1.0, np.bincount(group, told)))[group]


def _apart(votes: TargetArray, own: TargetArray) -> NDArray[np.float64]:
    """Return how far (m, k) or (m, k, c) targets of neighbours are from a row's own, (m,)."""
    numbers = votes.ndim > 2
    apart = (votes - own[:, None]) ** 2 if numbers else votes != own[:, None]
    far: NDArray[np.float64] = apart.reshape(len(own), -1).mean(axis=1)
    return far


def _among(votes: TargetArray) -> NDArray[np.float64]:
    """Return how far the targets of neighbours are from each other, (m,)."""
    far: NDArray[np.float64]
    if votes.ndim > 2:
        far = 2.0 * votes.var(axis=1, ddof=1).mean(axis=1)
    else:
        k = votes.shape[1]
        same = (votes[:, :, None] == votes[:, None, :]).sum(axis=(1, 2)) - k
        far = 1.0 - same / (k * (k - 1))
    return far


def _at_random(votes: TargetArray, own: TargetArray, recent: TargetArray) -> NDArray[np.float64]:
    """Return how far they would be from a row's own, were it, or were they, any of ``recent``."""
    far: NDArray[np.float64]
    if votes.ndim > 2:
        far = ((own - recent.mean(axis=0)) ** 2 + recent.var(axis=0)).mean(axis=1)
    else:
        share = np.bincount(recent) / len(recent)
        far = 1.0 - share[votes].mean(axis=1)
    return far


def _standardised(y: TargetArray) -> NDArray[np.float64]:
    """Return (n, c) numbers, those of each column with a spread of one."""
    numbers = y.reshape(len(y), -1).astype(np.float64)
    spread = numbers.std(axis=0)
    standard: NDArray[np.float64] = numbers - numbers.mean(axis=0)
    standard /= np.where(spread > 0, spread, 1.0)
    return standard


def _contradiction(lacks: NDArray[np.float64], could: NDArray[np.float64], *, doubt: bool) -> float:
    """Return the lack of agreement as a share of that of random labels, and its error on one side.

    The ratio of two sums, like Cohen's kappa; its error is that of a ratio estimator.
    """
    whole = max(float(could.sum()), 1e-9 if doubt else _TELLING * len(could))
    share = float(lacks.sum()) / whole
    error = float(np.sqrt(((lacks - share * could) ** 2).sum())) / whole
    return float(np.clip(share + (_SURE if doubt else -_SURE) * error, 0.0, 1.0))


def _some(rows: NDArray[np.intp], most: int, rng: np.random.Generator) -> NDArray[np.intp]:
    return rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))
