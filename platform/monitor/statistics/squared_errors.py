"""How far the answers of a regression are from the truth, on a scale of its reference."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray

from undrift.records import Reference, TargetArray

Errors = NDArray[np.float64]


class SquaredErrors:
    """Squared errors in units of the variance of the targets, mean over several outputs.

    So 0 is a perfect answer, 1 is what answering the mean of the targets costs on average, and one
    minus the mean error is R2, the coefficient of determination.

    Args:
        targets: (n,) or (n, c) targets of the reference, n at least 1.

    Attributes:
        centre: (c,) mean of each target.
        variance: (c,) variance of each, positive.

    Example:
        >>> SquaredErrors(np.array([0.0, 4.0]))(np.array([[3.0]]), np.array([1.0])).tolist()
        [1.0]
    """

    TINY = 1e-12

    def __init__(self, targets: TargetArray) -> None:
        numbers = targets.reshape(len(targets), -1).astype(np.float64)
        self.centre: Errors = numbers.mean(axis=0)
        self.variance: Errors = np.maximum(numbers.var(axis=0), self.TINY)

    @classmethod
    def of(cls, reference: Reference) -> Self | None:
        """Return the scale of the recent rows of a reference; None where it has classes."""
        if np.issubdtype(reference.y.dtype, np.integer):
            return None
        return cls(reference.y[reference.recent])

    @property
    def width(self) -> int:
        """Number c of outputs."""
        return len(self.variance)

    def __call__(self, answers: TargetArray, labels: TargetArray) -> Errors:
        """Return the (n,) errors of (n, c) answers to rows of (n,) or (n, c) labels."""
        away = answers.astype(np.float64) - labels.reshape(answers.shape)
        errors: Errors = (away**2 / self.variance).mean(axis=1)
        return errors


def scale_of(before: SquaredErrors | None, after: SquaredErrors | None) -> float:
    """Return what an error on one scale is on another, to be taken for all outputs alike."""
    if before is None or after is None:
        return 1.0
    return float((before.variance / after.variance).mean())


def wrong_of(reference: Reference) -> Errors | NDArray[np.bool_]:
    """Return (n,) whether the answers to all rows of a reference are wrong, or their errors."""
    errors = SquaredErrors.of(reference)
    if errors is not None:
        return errors(reference.output, reference.y)
    wrong: NDArray[np.bool_] = reference.output.argmax(axis=1) != reference.y
    return wrong
