"""One answer of several models: the live one, and linear heads that go on learning beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from undrift.records import FloatArray

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scaling:
    """Standardised columns, or principal components of them; clipped at ten deviations.

    Without columns it makes nothing of data, whatever that has.

    Attributes:
        centre: (d,) location of each column of the flattened data.
        scale: (d,) spread of each.
        axes: (d, k) components, divided by their spread; (0, 0) where the columns stand as they
            are.
    """

    CLIP: ClassVar[float] = 10.0
    WIDEST: ClassVar[int] = 64
    """Most columns that come out."""

    centre: Matrix
    scale: Matrix
    axes: Matrix

    @classmethod
    def of(cls, data: FloatArray) -> Self:
        """Return location, spread and axes of (n, ...) rows, at least two."""
        flat = data.reshape(len(data), math.prod(data.shape[1:])).astype(np.float64)
        centre, scale = flat.mean(axis=0), flat.std(axis=0)
        scale = np.where(scale > 1e-9 * (1.0 + np.abs(centre)), scale, 1.0)
        found = cls(centre, scale, np.zeros((0, 0)))
        if flat.shape[1] <= cls.WIDEST:
            return found
        standard = found.standardised(data)
        _, lengths, axes = np.linalg.svd(standard, full_matrices=False)
        kept = axes[: cls.WIDEST][lengths[: cls.WIDEST] > 1e-6 * lengths[0]]
        spread = (standard @ kept.T).std(axis=0)
        return cls(
            centre, scale, np.ascontiguousarray((kept / np.maximum(spread, 1e-3)[:, None]).T)
        )

    @property
    def width(self) -> int:
        """Number of columns that come out."""
        return self.axes.shape[1] or len(self.centre)

    def standardised(self, data: FloatArray) -> Matrix:
        """Return (n, d) standardised columns of (n, ...) data; what is no number counts as 0."""
        if not len(self.centre):
            return np.zeros((len(data), 0))
        flat = data.reshape(len(data), len(self.centre)).astype(np.float64)
        unknown = np.isnan(flat)
        if unknown.any():
            flat[unknown] = 0.0
        flat -= self.centre
        flat /= self.scale
        return np.clip(flat, -self.CLIP, self.CLIP, out=flat)

    def __call__(self, data: FloatArray) -> Matrix:
        """Return (n, width) values of (n, ...) data."""
        standard = self.standardised(data)
        if not self.axes.size:
            return standard
        projected: Matrix = (standard @ self.axes).clip(-self.CLIP, self.CLIP)
        return projected


@dataclass(frozen=True, slots=True)
class Mixture:
    """A live version and the heads beside it, each with its share in the answer.

    Version and number of labels name it: it is a fold over the stored rows, so a replay of them
    makes any of a model's mixtures again.

    Attributes:
        version: Version of the live model.
        labels: Labels that the shares follow from.
        embedding: Scaling of the embedding.
        x: Scaling of the input.
        heads: (features, k, c) weights of k heads, on a constant, embedding and input.
        shares: (1 + k,) of the live model and of each head; they sum to one.

    Example:
        >>> one = Scaling(np.zeros(1), np.ones(1), np.zeros((0, 0)))
        >>> never = np.zeros((3, 1, 2))  # a head that knows nothing
        >>> half = Mixture(1, 64, one, one, never, np.array([0.5, 0.5]))
        >>> half(np.array([[1.0, 0.0]]), np.ones((1, 1)), np.ones((1, 1))).tolist()
        [[0.75, 0.25]]
    """

    FAINT: ClassVar[float] = 0.01
    """Least probability that a head gives a class, before they are made to sum to one."""

    version: int
    labels: int
    embedding: Scaling
    x: Scaling
    heads: Matrix
    shares: Matrix

    @property
    def name(self) -> tuple[int, int]:
        """Version and labels."""
        return self.version, self.labels

    def __call__(self, output: FloatArray, embedding: FloatArray, x: FloatArray) -> FloatArray:
        """Return (n, c) probabilities: the mean of all, weighted by their shares.

        Args:
            output: (n, c) probabilities by the live model.
            embedding: (n, e) its embeddings.
            x: (n, *input_shape) inputs.
        """
        n, c = output.shape
        known = np.hstack([np.ones((n, 1)), self.embedding(embedding), self.x(x)])
        scores = (known @ self.heads.reshape(len(self.heads), -1)).reshape(n, -1, c)
        # Targets were one-hot less 1/c, so what comes back are probabilities, nearly.
        guesses = np.maximum(scores + 1.0 / c, self.FAINT)
        by_heads = np.matmul((self.shares[1:] / guesses.sum(axis=2))[:, None], guesses)[:, 0]
        mixed: FloatArray = (self.shares[0] * output + by_heads).astype(output.dtype)
        return mixed
