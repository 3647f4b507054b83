"""How good answers are: the share of right classes, or R2 of numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from undrift.records import FloatArray, TargetArray
from undrift.streams.stream import UNKNOWN, known

Floats = NDArray[np.float64]


def is_numbers(y: TargetArray) -> bool:
    """Tell whether targets are numbers, not classes."""
    return not np.issubdtype(y.dtype, np.integer)


def none_of(y: TargetArray) -> TargetArray:
    """Return answers of the kind of labels, none of which there is yet."""
    return np.full_like(y, np.nan if is_numbers(y) else UNKNOWN)


class Scores:
    """Scores each answer so that their mean is the quality.

    A class scores 1 where it is right, else 0. Numbers score one less their squared error in units
    of the variance of the labels that this was made of, mean over several outputs.

    Args:
        y: (n,) or (n, c) labels of a whole stream.

    Attributes:
        measure: What the mean is called.
    """

    def __init__(self, y: TargetArray) -> None:
        self.measure = "R2" if is_numbers(y) else "accuracy"
        self._variance: Floats | None = None
        if is_numbers(y):
            there = y[known(y)].reshape(int(known(y).sum()), -1).astype(np.float64)
            spread = there.var(axis=0) if len(there) else np.ones(there.shape[1])
            self._variance = np.maximum(spread, 1e-12)

    def __call__(self, answers: TargetArray, y: TargetArray) -> Floats:
        """Return (n,) scores; of rows without answer or label they mean nothing."""
        if self._variance is None:
            return np.asarray(answers == y, np.float64)
        away = (answers - y).reshape(len(y), -1).astype(np.float64)
        scores: Floats = 1.0 - (away**2 / self._variance).mean(axis=1)
        return scores


def answers(output: FloatArray, y: TargetArray) -> TargetArray:
    """Return (n,) the likeliest classes of (n, c) outputs, or the numbers as labels are kept.

    Args:
        output: What a model answers.
        y: Labels of the stream.
    """
    if not is_numbers(y):
        return np.asarray(output.argmax(axis=1), np.int64)
    return output.reshape(len(output), *y.shape[1:])
