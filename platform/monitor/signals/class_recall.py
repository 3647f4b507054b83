"""Which classes the model has unlearnt: recall on the newest labels against the reference."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from undrift.evidence import Change
from undrift.monitor.base import Stateful
from undrift.monitor.join import Joined
from undrift.records import Reference


class ClassRecall(Stateful):
    """Recall of each class, for reports; it decides nothing, and knows nothing of numbers.

    Args:
        window: Newest labels to look at.
    """

    SURE: ClassVar[float] = 3.0  # standard errors that a difference must have to be listed
    LISTED: ClassVar[int] = 5
    SAVED = ("_hits", "_size", "_row", "_label", "_wrong")

    def __init__(self, window: int) -> None:
        self._window = window
        self._hits: NDArray[np.float64] = np.zeros(0)
        self._size: NDArray[np.float64] = np.zeros(0)
        self._forget()

    def _forget(self) -> None:
        self._row = np.zeros(0, dtype=np.int64)
        self._label = np.zeros(0, dtype=np.int64)
        self._wrong = np.zeros(0, dtype=np.bool_)

    def fit(self, reference: Reference) -> None:
        """Take the recall of the recent reference rows, and forget the stream."""
        self._forget()
        y = reference.y[reference.recent]
        if not np.issubdtype(y.dtype, np.integer):
            return
        right = reference.output[reference.recent].argmax(axis=1) == y
        classes = reference.output.shape[1]
        self._hits = np.bincount(y, weights=right, minlength=classes).astype(np.float64)
        self._size = np.bincount(y, minlength=classes).astype(np.float64)

    def update(self, batch: Joined) -> None:
        """Take in labels that met their predictions."""
        if not len(self._size):
            return
        for name, values in (("_row", batch.row), ("_label", batch.label), ("_wrong", batch.wrong)):
            kept: NDArray[np.int64] = np.concatenate([getattr(self, name), values])
            setattr(self, name, kept[-self._window :])

    def changes(self, since_row: int) -> tuple[Change, ...]:
        """Return the classes whose recall differs surely from that on the reference.

        Args:
            since_row: First row to count.

        Returns:
            At most five, largest fall first; ``effect`` is the fall.
        """
        new = self._row >= since_row
        classes = len(self._size)
        known = self._label[new] < classes
        label, right = self._label[new][known], ~self._wrong[new][known]
        size = np.bincount(label, minlength=classes)
        hits = np.bincount(label, weights=right, minlength=classes)
        found = []
        for k in np.flatnonzero((size > 0) & (self._size > 0)).tolist():
            before, now = self._hits[k] / self._size[k], hits[k] / size[k]
            pooled = (self._hits[k] + hits[k] + 1) / (self._size[k] + size[k] + 2)
            error = np.sqrt(pooled * (1 - pooled) * (1 / self._size[k] + 1 / size[k]))
            if before - now > self.SURE * error:
                fall = float(before - now)
                found.append(Change("class", str(k), "recall", fall, float(before), float(now)))
        return tuple(sorted(found, key=lambda change: -change.effect)[: self.LISTED])
