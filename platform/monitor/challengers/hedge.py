"""How much of an answer each of several models should have, by what they got right lately."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from undrift.monitor.base import Stateful
from undrift.monitor.statistics.detector import EDetector, aligned

Matrix = NDArray[np.float64]


class Hedge(Stateful):
    """Exponential weights on right answers, with a fixed share that goes back to where it began.

    So the mixture errs little more often than the best sequence of models with few changes. The
    fixed share is dealt out at the end of a block of labels, so that batches do not matter.

    Args:
        models: Number of models; the first is the live one.

    Attributes:
        count: Labels learnt from.

    Example:
        >>> hedge = Hedge(2)
        >>> hedge.update(np.array([[False, True]] * 40))  # the second is right, the first never
        >>> hedge.shares().round(3).tolist()
        [0.0, 1.0]

    Reference:
        Freund, Schapire. "A decision-theoretic generalization of on-line learning", JCSS 1997.
        Herbster, Warmuth. "Tracking the best expert", Machine Learning 1998.
    """

    RATE: ClassVar[float] = 0.5
    CHANGE: ClassVar[float] = 0.002  # share dealt out anew for each label: a change in 500
    LIVE: ClassVar[float] = 0.8  # the live model's share before anything is known
    SAVED = ("_before", "_right", "count")

    def __init__(self, models: int) -> None:
        self._first = np.full(models, (1.0 - self.LIVE) / max(models - 1, 1))
        self._first[0] = self.LIVE if models > 1 else 1.0
        self._before = self._first
        self._right = np.zeros(models)
        self.count = 0

    def update(self, right: NDArray[np.bool_] | Matrix) -> None:
        """Take in (n, models) whether each answered a row right, or its score, in stream order."""
        for part in aligned(self.count, len(right)):
            self._right = self._right + right[part].sum(axis=0)
            self.count += part.stop - part.start
            if self.count % EDetector.BLOCK == 0:
                kept = (1.0 - self.CHANGE) ** EDetector.BLOCK
                self._before = kept * self.shares() + (1.0 - kept) * self._first
                self._right = np.zeros_like(self._right)

    def shares(self) -> Matrix:
        """Return (models,) shares in the next answer; they sum to one."""
        grown: Matrix = self._before * np.exp(self.RATE * (self._right - self._right.max()))
        grown /= grown.sum()
        return grown
