"""Which labels are in doubt: those that the labels of like rows speak against."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from undrift.records import FloatArray, IntArray, Predictions, Reference, TargetArray
from undrift.train.density import Components, narrow

_NEIGHBOURS = 15
_FEWEST = 100  # candidates of one side, answered by one version, that tell who is like whom
_MOST = 5_000  # of them that are looked among
_TELLING = 0.15  # kappa of labels and those of like rows, below which likeness says nothing
_CONVINCING = 0.6  # kappa from which on it outweighs the version that answered
_SHARE = 0.2  # of the rows of one side, below which doubted ones may as well be a slice that moves

UNDOUBTED, DOUBTED, OUTDATED = 0, 1, 2
_KINDS = ("undoubted", "doubted", "outdated")


class Answered(NamedTuple):
    """What the versions that answered rows made of them.

    Attributes:
        version: (n,) which version; -1 for rows of the base version's reference.
        named: (n,) class that it named itself, without heads beside it.
        embedding: (n, e) input of its head, in which like rows are close.
    """

    version: IntArray
    named: IntArray
    embedding: FloatArray

    def take(self, index: NDArray[np.intp]) -> Answered:
        """Return the rows at an index."""
        return Answered(self.version[index], self.named[index], self.embedding[index])

    def and_(self, others: Answered) -> Answered:
        """Return these rows and others after them."""
        return Answered(
            np.concatenate([self.version, others.version]),
            np.concatenate([self.named, others.named]),
            np.concatenate([self.embedding, others.embedding]),
        )

    @staticmethod
    def of(reference: Reference, rows: Predictions) -> Answered | None:
        """Return the rows of a reference and some predictions; None for those of a regression."""
        embeddings = reference.embedding, rows.embedding
        numbers = not np.issubdtype(reference.y.dtype, np.integer)
        if numbers or embeddings[0].shape[1:] != embeddings[1].shape[1:]:
            return None
        return Answered(
            np.concatenate([np.full(len(reference), -1), rows.version]),
            np.concatenate([reference.output.argmax(axis=1), rows.output.argmax(axis=1)]),
            np.concatenate(embeddings),
        )


class Stratum(NamedTuple):
    """Candidates of one side of a drift whose labels are in doubt for one reason, or are not.

    Attributes:
        new: Whether they are of the regime that is trained for.
        kind: ``UNDOUBTED``, ``DOUBTED`` or ``OUTDATED``.
        twins: (m,) held-out rows of the pool of that side and kind.
    """

    new: bool
    kind: int
    twins: NDArray[np.intp]

    @property
    def name(self) -> str:
        """What people are told."""
        return f"{'new' if self.new else 'older'}, {_KINDS[self.kind]}"


def doubts(
    y: TargetArray,
    answered: Answered | None,
    new: NDArray[np.bool_],
    candidate: NDArray[np.bool_],
    seed: int,
) -> NDArray[np.int8]:
    """Return for each row (n,) whether its label is in doubt, and why.

    A row looks for the fifteen candidates of its side that are nearest in what enters the head of
    the version that answered them all. Its label is in doubt if another is more frequent among
    theirs: *outdated* if that version, which the new regime has proved wrong, is all that speaks
    for a new row, and like rows agree well enough to be believed before it; else *doubted*.

    Wrong labels are doubted, wherever they are fewer than right ones; so are rows of parts of the
    world that the version cannot tell apart yet, and of slices too small to be anybody's
    neighbours. That is why it is a doubt and no verdict. Numbers are never in doubt, nor is a side
    on which less than a fifth of the rows is doubted.

    Args:
        y: (n,) class index; nothing is said of numbers.
        answered: What the versions said of the rows; where nobody knows, nothing is in doubt.
        new: (n,) True for rows of the regime that is trained for.
        candidate: (n,) True for rows that may be trained on.
        seed: Seed of every subsampling.

    Reference:
        Wilson: Asymptotic properties of nearest neighbor rules using edited data. IEEE SMC 2, 1972.
    """
    found = np.zeros(len(y), dtype=np.int8)
    if answered is None or not np.issubdtype(y.dtype, np.integer):
        return found
    rng = np.random.default_rng([seed, 8])
    for side in (new, ~new):
        for version in np.unique(answered.version[side]):
            here = np.flatnonzero(side & (answered.version == version))
            among = here[candidate[here]]
            if len(among) >= _FEWEST:
                contrary = _contrary(y, answered.embedding, here, among, rng)
                likeness = _likeness(contrary, y[here])
                if likeness < _TELLING:
                    continue
                agreed = (answered.named[here] == y[here]) & (likeness >= _CONVINCING)
                found[here] = np.where(contrary, np.where(agreed, OUTDATED, DOUBTED), UNDOUBTED)
        doubted = int((found[side & candidate] == DOUBTED).sum())
        if doubted < _SHARE * int((side & candidate).sum()):
            found[side & (found == DOUBTED)] = UNDOUBTED
    found[~new & (found == OUTDATED)] = UNDOUBTED
    return found


def _likeness(contrary: NDArray[np.bool_], y: TargetArray) -> float:
    """Return by how much more than chance labels agree with those of like rows; at most 1.

    The ratio is that of Cohen's kappa.
    """
    chance = float(((np.bincount(y) / len(y)) ** 2).sum())
    return (1.0 - float(contrary.mean()) - chance) / max(1e-9, 1.0 - chance)


def _contrary(
    y: TargetArray,
    embedding: FloatArray,
    rows: NDArray[np.intp],
    among: NDArray[np.intp],
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """Return for each of some rows whether another label than its own prevails near it."""
    if len(among) > _MOST:
        among = np.sort(rng.choice(among, _MOST, replace=False))
    there, here = narrow((embedding[among], embedding[rows]), rng)
    components = Components(np.nan_to_num(there.astype(np.float64)))
    tree = cKDTree(components(np.nan_to_num(there)))
    near = among[tree.query(components(np.nan_to_num(here)), _NEIGHBOURS + 1)[1]]
    other = near != rows[:, None]
    other[other.all(axis=1), -1] = False  # its own place, or the farthest
    votes = y[near[other].reshape(len(rows), _NEIGHBOURS)]
    count = np.zeros((len(rows), int(y.max()) + 1), dtype=np.int16)
    for column in votes.T:
        count[np.arange(len(rows)), column] += 1
    own = count[np.arange(len(rows)), y[rows]]
    contrary: NDArray[np.bool_] = own < count.max(axis=1)
    return contrary


def strata_of(
    doubt: NDArray[np.int8],
    new: NDArray[np.bool_],
    candidates: NDArray[np.intp],
    held: NDArray[np.intp],
) -> tuple[NDArray[np.intp], tuple[Stratum, ...]]:
    """Return the stratum (k,) of each candidate, and the strata.

    Args:
        doubt: (n,) what `doubts` returned.
        new: (n,) True for rows of the regime that is trained for.
        candidates: (k,) rows that may be trained on.
        held: (m,) rows that judge.
    """
    code = doubt + 3 * ~new
    found, stratum = np.unique(code[candidates], return_inverse=True)
    strata = (Stratum(c < 3, int(c % 3), held[code[held] == c]) for c in found)
    return stratum.astype(np.intp), tuple(strata)
