"""Score vectors of the last layer, in few dimensions, of rows whose label comes later."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from undrift.monitor.base import Stateful
from undrift.monitor.statistics.products import row_products
from undrift.records import FloatArray, IntArray, Reference

Matrix = NDArray[np.float64]


class ScoreMap(Stateful):
    """Maps a prediction and its label to principal components of its score vector.

    The score vector, the gradient of the last layer's negative log-likelihood, is
    (p - onehot(y)) outer (h, 1). Each factor is first reduced to its own principal components on
    the reference, so that what is kept of a row until its label comes has a bounded size. All
    components are of unit variance, but for those of little variance, which are smaller.

    A row also has a kind: the class predicted, and whether the model was surer of it than of most
    reference rows of that class. Classes with few reference rows share two kinds.

    Reference:
        Zhang, Bui, Apley. "Concept drift monitoring and diagnostics of supervised learning models
        via score vectors", Technometrics 2023.
    """

    RESIDUAL: ClassVar[int] = 16
    HIDDEN: ClassVar[int] = 32
    COMPONENTS: ClassVar[int] = 32
    CLIP: ClassVar[float] = 5.0  # standard deviations of the embedding
    FEW: ClassVar[int] = 16  # reference rows below which a class has no kinds of its own
    SAVED = ("_centre", "_scale", "_hidden", "_residual", "_components", "_group", "_typical")

    def __init__(self) -> None:
        self._centre = np.zeros(1)
        self._scale = np.ones(1)
        self._hidden = np.zeros((1, 1))
        self._residual = np.zeros((2, 1))
        self._components = np.zeros((2, 1))
        self._group = np.zeros(1, dtype=np.int64)
        self._typical = np.zeros(2)

    @property
    def width(self) -> int:
        """Number of components of a score."""
        return int(self._components.shape[1])

    def fit(self, reference: Reference) -> None:
        """Take components and kinds from all rows of ``reference``."""
        h = reference.embedding.reshape(len(reference), -1).astype(np.float64)
        self._centre = np.median(h, axis=0)
        self._scale = np.where(h.std(axis=0) > 0, h.std(axis=0), np.inf)
        self._hidden = _whitening(self._standard(reference.embedding), self.HIDDEN)
        chances = probabilities(reference.output).astype(np.float64)
        residual = chances - (reference.y[:, None] == np.arange(chances.shape[1]))
        axes = np.linalg.svd(residual, full_matrices=False)[2][: self.RESIDUAL].T
        self._residual = np.vstack([axes, np.zeros(axes.shape[1])])  # the last: no such class
        self._fit_kinds(chances)
        notes = self.note(reference.embedding, reference.output, np.arange(len(reference)))
        factors = self.factors(notes, reference.y)
        self._components = _whitening(self._product(factors), self.COMPONENTS)

    def note(self, embedding: FloatArray, output: FloatArray, rows: IntArray) -> FloatArray:
        """Return what must be kept of rows: the kind and both factors, but for the label.

        Args:
            embedding: (n, e) inputs of the last layer.
            output: (n, c) class probabilities.
            rows: (n,) row numbers, all different.

        Returns:
            (n, 1 + r + q) notes, r at most 16 and q at most 32.
        """
        chances = probabilities(output).astype(np.float64)
        group = self._group[chances.argmax(axis=1)]
        kind = 2 * group + (chances.max(axis=1, initial=0.0) > self._typical[group])
        residual = row_products(chances, self._residual[:-1], rows)
        hidden = row_products(self._standard(embedding), self._hidden, rows)
        return np.hstack([kind[:, None], residual, hidden]).astype(np.float32)

    def factors(self, notes: FloatArray, label: IntArray) -> Matrix:
        """Return (n, 1 + r + q) kind and both factors.

        Args:
            notes: (n, at least 1 + r + q) notes; what lies beyond belongs to others.
            label: (n,) class index.
        """
        classes, width = len(self._residual) - 1, self._residual.shape[1]
        known = (label >= 0) & (label < classes)
        factors = notes[:, : 1 + width + self._hidden.shape[1]].astype(np.float64)
        factors[:, 1 : 1 + width] -= self._residual[np.where(known, label, classes)]
        return factors

    def scores(self, factors: Matrix) -> Matrix:
        """Return (n, width) components of the score vectors."""
        scores: Matrix = self._product(factors) @ self._components
        return scores

    def _product(self, factors: Matrix) -> Matrix:
        residual, hidden = np.hsplit(factors[:, 1:], [self._residual.shape[1]])
        hidden = np.hstack([hidden, np.ones((len(hidden), 1))])
        return (residual[:, :, None] * hidden[:, None, :]).reshape(len(factors), -1)

    def _standard(self, embedding: FloatArray) -> Matrix:
        h = np.nan_to_num(embedding.reshape(len(embedding), -1).astype(np.float64))
        return ((h - self._centre) / self._scale).clip(-self.CLIP, self.CLIP)

    def _fit_kinds(self, chances: Matrix) -> None:
        classes = chances.shape[1]
        top, sure = chances.argmax(axis=1), chances.max(axis=1)
        often = np.bincount(top, minlength=classes) >= self.FEW
        self._group = np.where(often, np.arange(classes), classes)
        self._typical = np.full(classes + 1, np.median(sure))
        for group in np.unique(self._group[top]):
            self._typical[group] = np.median(sure[self._group[top] == group])


def _whitening(data: Matrix, most: int) -> Matrix:
    """Return (d, k) axes to at most ``most`` principal components of nearly unit variance."""
    _, spread, axes = np.linalg.svd(data - data.mean(axis=0), full_matrices=False)
    variance = spread**2 / len(data)
    scaled = axes / np.sqrt(variance + variance.mean() + 1e-12)[:, None]
    return np.ascontiguousarray(scaled[:most].T)


def probabilities(output: FloatArray) -> FloatArray:
    """Return outputs as probabilities: negative and non-finite parts count as 0, rows sum to 1.

    Args:
        output: (n, c) what the model gave out as class probabilities.

    Returns:
        (n, c) probabilities; a row without any positive part becomes uniform.

    Example:
        >>> probabilities(np.array([[2.0, 2.0], [-1.0, 0.5], [0.0, 0.0]], dtype=np.float32))
        array([[0.5, 0.5],
               [0. , 1. ],
               [0.5, 0.5]], dtype=float32)
    """
    parts = np.where(np.isfinite(output), output, 0.0).clip(min=0.0).astype(np.float32)
    parts[parts.sum(axis=1) == 0] = 1.0
    shares: FloatArray = parts / parts.sum(axis=1, keepdims=True)
    return shares
