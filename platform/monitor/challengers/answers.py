"""What challengers answer, classes or numbers, each of ``width`` t numbers, and how it scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from undrift.monitor.base import Stateful
from undrift.monitor.statistics.squared_errors import SquaredErrors
from undrift.records import FloatArray, Reference, TargetArray

Matrix = NDArray[np.float64]


class Classes(Stateful):
    """Class indices, which are right or wrong."""

    width = 1

    def labels(self, label: TargetArray) -> Matrix:
        """Return (n, 1) class indices."""
        return np.asarray(label.reshape(-1, 1), np.float64)

    def live(self, output: FloatArray) -> Matrix:
        """Return (n, 1) the likeliest class."""
        return np.asarray(output.argmax(axis=1)[:, None], np.float64)

    def of_heads(self, values: Matrix, heads: int) -> Matrix:
        """Return (n, heads) the class of the largest of each head's (n, heads c) values."""
        return np.asarray(values.reshape(len(values), heads, -1).argmax(axis=2), np.float64)

    def scores(self, said: Matrix, label: Matrix) -> Matrix:
        """Return (n, m) 1 where one of m answers is right, else 0."""
        return np.asarray(said == label, np.float64)

    def targets(self, label: Matrix, outputs: int) -> Matrix:
        """Return one-hot classes, centred."""
        centred: Matrix = (label == np.arange(outputs)) - 1.0 / outputs
        return centred


class Numbers(Stateful):
    """Standardised numbers: a score is one less the mean squared error, but at least 0.

    Args:
        errors: Location and scale of the targets.
    """

    SAVED = ("_centre", "_variance")

    def __init__(self, errors: SquaredErrors) -> None:
        self._centre, self._variance = errors.centre, errors.variance

    @property
    def width(self) -> int:
        """Number of outputs."""
        return len(self._variance)

    def labels(self, label: TargetArray) -> Matrix:
        """Return (n, t) labels in standard deviations from the mean of the reference."""
        flat = label.reshape(len(label), -1).astype(np.float64)
        standard: Matrix = (flat - self._centre) / np.sqrt(self._variance)
        return standard

    def live(self, output: FloatArray) -> Matrix:
        """Return the outputs in the same unit."""
        return self.labels(output)

    def of_heads(self, values: Matrix, heads: int) -> Matrix:  # noqa: ARG002
        """Return the values themselves."""
        return values

    def scores(self, said: Matrix, label: Matrix) -> Matrix:
        """Return (n, m) one less the squared error of (n, m t) answers, but at least 0."""
        away = said.reshape(len(said), -1, self.width) - label[:, None]
        scores: Matrix = 1.0 - np.minimum((away**2).mean(axis=2), 1.0)
        return scores

    def targets(self, label: Matrix, outputs: int) -> Matrix:  # noqa: ARG002
        """Return the labels themselves."""
        return label


def answers_of(reference: Reference) -> Classes | Numbers:
    """Return the kind of answers that a reference has."""
    errors = SquaredErrors.of(reference)
    return Classes() if errors is None else Numbers(errors)
