"""Bets on the mix of predicted classes, against a null that learns from every row."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from undrift.monitor.base import Stateful
from undrift.records import IntArray

Floats = NDArray[np.float64]


class ClassMix(Stateful):
    """Bets that the classes of the next rows are mixed like those of the latest.

    A row of class c pays (1 - s) + s p(c) / q(c) for each stake s. q is the chance of c given all
    rows until then, reference and stream alike; p is a running mean of the latest rows. Both are
    known before the row. q is the mean of symmetric Dirichlet priors from one row's worth to a
    hundred for each class, weighted by how well each has told all rows so far: one that is fixed
    is sure of what a short reference of many classes cannot know, how many are still to be seen.
    So q is the exact chance of c where the mix is unknown but fixed, and the bet is fair on
    average over mixes, however short the reference. Two running means, with short and long memory,
    meet abrupt and slow change.

    Where neighbouring rows are alike, the latest of them would tell the next ones, though nothing
    has changed; so the running means may lag behind.

    Args:
        counts: (c,) reference rows of each class.
        latest: (lag,) classes of the last rows of the reference; the running means lag by so many.

    Reference:
        Turner, Ly, Grünwald. "Generic e-variables for exact sequential k-sample tests that allow
        for optional stopping", 2022, arXiv 2106.02693; Nemenman, Shafee, Bialek. "Entropy and
        inference, revisited", 2001 (mixtures of Dirichlet priors).
    """

    BLOCK: ClassVar[int] = 256
    MEMORY: ClassVar[tuple[float, ...]] = (1 / 32, 1 / 200)  # weight of the newest row
    STAKES: ClassVar[tuple[float, ...]] = (0.3, 0.8)
    BETS: ClassVar[int] = len(MEMORY) * len(STAKES)
    SAVED = ("_prior", "_trust", "_counts", "_total", "_running", "_usual", "_block", "_late")

    def __init__(self, counts: IntArray, latest: IntArray) -> None:
        self._prior = np.geomspace(1.0 / len(counts), 100.0, 6)[:, None]
        self._counts, self._total = counts.astype(np.float64), float(counts.sum())
        told = gammaln(self._counts + self._prior) - gammaln(self._prior)
        whole = len(counts) * self._prior[:, 0]
        told_all = told.sum(axis=1) - gammaln(whole + self._total) + gammaln(whole)
        self._trust = told_all - told_all.max()  # log-likelihood of all rows under each prior
        self._running = np.zeros((len(self.MEMORY), len(counts)))
        self._usual = np.ones((len(self.MEMORY), 1))  # weight of q in p, until rows fill it
        self._block = np.zeros_like(self._running)  # what the present block adds to it
        self._late = latest

    def bet(self, classes: IntArray, begin: int, *, learn: bool) -> Floats:
        """Return what each row pays, then take the rows in.

        Args:
            classes: (n,) class of each row.
            begin: Place of the first of them in its block; they must not go beyond it.
            learn: Whether the rows count as the null; the same for all rows of a block.

        Returns:
            (n, 4) e-values.
        """
        n, end = len(classes), begin + len(classes)
        entering, self._late = np.split(np.concatenate([self._late, classes]), [n])
        weight, faded = _WEIGHT[:, begin:end], _FADED[:, begin:end]
        earlier, latest = _among_earlier(classes, entering, weight)
        chance = self._chance(classes, earlier * learn, np.arange(float(n)) * learn, learn=learn)
        entered = self._running[:, classes] + (self._block[:, classes] + latest)
        recent = faded * (self._usual * chance + entered)
        values: Floats = 1.0 + (recent / chance - 1.0)[:, None] * _STAKES
        for block, row_weight in zip(self._block, weight, strict=True):
            block += np.bincount(entering, weights=row_weight, minlength=len(block))
        if learn:
            self._counts = self._counts + np.bincount(classes, minlength=len(self._counts))
            self._total += n
        if end == self.BLOCK:
            self._running = (self._running + self._block) * _OVER
            self._usual = self._usual * _OVER
            self._block = np.zeros_like(self._block)
            self._trust = self._trust - self._trust.max()
        return values.reshape(self.BETS, n).T

    def _chance(self, classes: IntArray, same: Floats, rows: Floats, *, learn: bool) -> Floats:
        """Return (n,) chances of the classes, after ``rows``, and those of the ``same`` class."""
        of_class = self._counts[classes] + same + self._prior
        each = of_class / (self._total + rows + len(self._counts) * self._prior)
        if not learn:
            return _mean(self._trust[:, None], each)
        trust = np.cumsum(np.hstack([self._trust[:, None], np.log(each)]), axis=1)
        self._trust = trust[:, -1]
        return _mean(trust[:, :-1], each)


def _mean(trust: Floats, each: Floats) -> Floats:
    """Return (n,) means of (k, n) values, by (k, n) logarithms of their weights."""
    weights = np.exp(trust - trust.max(axis=0))
    mean: Floats = (weights * each).sum(axis=0) / weights.sum(axis=0)
    return mean


def _among_earlier(classes: IntArray, entering: IntArray, weight: Floats) -> tuple[Floats, Floats]:
    """Return how many rows of the same class came before each, and the weight of those entered.

    Args:
        classes: (n,) class of each row.
        entering: (n,) class that enters the running means after each row.
        weight: (k, n) weight of each that enters.

    Returns:
        (n,) and (k, n).
    """
    n = len(classes)
    both = np.stack([classes, entering], axis=1).ravel()
    amount = np.zeros((1 + len(weight), 2 * n))
    amount[0, ::2] = 1.0
    amount[1:, 1::2] = weight
    order = np.argsort(both, kind="stable")
    first = np.diff(both[order], prepend=-1) > 0
    start = np.maximum.accumulate(np.where(first, np.arange(2 * n), 0))
    before = np.cumsum(amount[:, order], axis=1) - amount[:, order]
    sums = np.empty_like(before)
    sums[:, order] = before - before[:, start]
    return sums[0, ::2], sums[1:, ::2]


# A running mean is kept as of the start of the block, and multiplied by what has faded since; so
# a row weighs the more, the later. Weights are multiples of 2**-30, so that their sums are exact
# and do not depend on how rows are batched.
_STAKES = np.array(ClassMix.STAKES)[:, None]
_DECAY = 1.0 - np.array(ClassMix.MEMORY)[:, None]
_FADED = _DECAY ** np.arange(ClassMix.BLOCK)
_OVER = _DECAY**ClassMix.BLOCK
_WEIGHT = np.rint((1.0 - _DECAY) / (_FADED * _DECAY) * 2.0**30) / 2.0**30
