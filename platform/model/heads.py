"""Ridge regressions with several memories on one stream of labelled rows."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf, dpotrs

Matrix = NDArray[np.float64]


MEMORIES = (64, 250, 1000, 4000, 0)
"""Labelled rows that heads beside a model reach back; 0: all."""


class RidgeHeads:
    """Linear heads fitted by least squares, in which a row counts less the older it is.

    A head of memory m gives the k-th newest row the weight (1 - 1/m)^k, so about m rows count; a
    memory of 0 forgets nothing. Each is fitted twice: on all features, and on the leading
    ones alone, whose normal equations are the leading part of the whole's, and so is the
    Cholesky factor. Rows come in blocks of one size, so the result does not depend on batches.

    Args:
        features: Number of features of a row; the first should be a constant 1.
        leading: Number of leading features that the second kind of head is confined to.
        targets: Number of targets.
        memories: Rows that each memory reaches back; 0 for all.

    Example:
        >>> heads = RidgeHeads(2, 1, 1, (0,))
        >>> line = np.column_stack([np.ones(64), np.linspace(-1, 1, 64)])
        >>> heads.add(line, 5.0 * line[:, 1:])
        >>> (heads.weights.round(1) + 0.0).tolist()  # the second head sees the constant alone
        [[0.0, 0.0], [4.4, 0.0]]

    Reference:
        Hoerl, Kennard. "Ridge regression", Technometrics 1970; forgetting as in Haykin, "Adaptive
        filter theory", chapter 9.
    """

    RIDGE: ClassVar[float] = 3.0

    def __init__(
        self, features: int, leading: int, targets: int, memories: tuple[int, ...]
    ) -> None:
        k = len(memories)
        self._leading = leading
        self._keep = np.array([1.0 - 1.0 / m if m else 1.0 for m in memories])
        self._gram = np.zeros((k, features, features))
        self._moment = np.zeros((k, features, targets))
        self.weights: Matrix = np.zeros((features, 2 * k * targets))
        """(features, 2 memories targets): of each memory the head on all features, then those on
        the leading ones."""

    def add(self, rows: Matrix, targets: Matrix) -> None:
        """Take in a block of labelled rows, oldest first, and fit anew.

        Args:
            rows: (n, features).
            targets: (n, targets).
        """
        n, features = rows.shape
        kept = self._keep[:, None] ** np.arange(n, -1, -1)
        weighted = rows.T * kept[:, None, 1:]
        sums = weighted @ np.hstack([rows, targets])
        self._gram = kept[:, :1, None] * self._gram + sums[:, :, :features]
        self._moment = kept[:, :1, None] * self._moment + sums[:, :, features:]
        self._solve()

    def _solve(self) -> None:
        features, c = self._gram.shape[1], self._moment.shape[2]
        ridge, e = self.RIDGE * np.eye(features), self._leading
        weights = np.zeros((features, 2, len(self._keep), c))
        for k in range(len(self._keep)):
            factor, _ = dpotrf(self._gram[k] + ridge, lower=1)
            weights[:, 0, k], _ = dpotrs(factor, self._moment[k], lower=1)
            weights[:e, 1, k], _ = dpotrs(factor[:e, :e], self._moment[k, :e], lower=1)
        self.weights = weights.reshape(features, -1)
