"""Rows as a model answered them, and streams made of them with a drift at a known row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from undrift.records import FloatArray, IntArray, Labels, Predictions, Reference

RAW_LIMIT = 256  # inputs of more numbers than this are watched through the embedding


@dataclass(frozen=True, slots=True)
class Rows:
    """Inputs, labels and answers, one row each.

    Attributes:
        x: (n, ...) inputs.
        y: (n,) true classes.
        embedding: (n, e) input of the last linear layer.
        output: (n, c) class probabilities.
        student: (n,) classes that a student of the model predicts.
    """

    x: FloatArray
    y: IntArray
    embedding: FloatArray
    output: FloatArray
    student: IntArray

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: slice | NDArray[np.intp] | NDArray[np.bool_]) -> Rows:
        return Rows(*(getattr(self, f.name)[index] for f in fields(self)))

    @staticmethod
    def concat(parts: Sequence[Rows]) -> Rows:
        """Join parts (at least one) in order."""
        return Rows(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Rows)))

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """(n,) True where the model errs."""
        wrong: NDArray[np.bool_] = self.output.argmax(axis=1) != self.y
        return wrong

    @property
    def disagrees(self) -> NDArray[np.bool_]:
        """(n,) True where the student predicts another class than the model."""
        disagrees: NDArray[np.bool_] = self.output.argmax(axis=1) != self.student
        return disagrees

    @property
    def watched(self) -> FloatArray:
        """(n, d) raw inputs, or embeddings where inputs are large."""
        flat = self.x.reshape(len(self), -1)
        return flat if flat.shape[1] <= RAW_LIMIT else self.embedding

    def reference(self) -> Reference:
        """Return these rows as the reference of version 1."""
        recent = np.ones(len(self), dtype=np.bool_)
        return Reference(self.x, self.y, self.embedding, self.output, recent)

    def predictions(self) -> Predictions:
        """Return these rows as answers of version 1, numbered from 0."""
        n = len(self)
        return Predictions(
            ids=tuple(map(str, range(n))),
            row=np.arange(n),
            at=np.arange(n) / 10.0,
            version=np.ones(n, dtype=np.int64),
            x=self.x,
            embedding=self.embedding,
            output=self.output,
        )

    def labels(self, first: int, stop: int, lag: int) -> Labels:
        """Return the labels of rows ``first`` to ``stop``, ``lag`` rows late."""
        rows = np.arange(first, stop)
        return Labels(tuple(map(str, rows.tolist())), self.y[first:stop], (rows + lag) / 10.0)


@dataclass(frozen=True, slots=True)
class Stream:
    """A reference and the rows that follow it.

    Attributes:
        reference: Held-out rows that every detector may learn from.
        rows: The stream.
        onset: First drifted row; None if the stream never drifts.
    """

    reference: Rows
    rows: Rows
    onset: int | None = None


def abrupt(reference: Rows, before: Rows, after: Rows) -> Stream:
    """Return ``before`` followed by ``after``."""
    return Stream(reference, Rows.concat([before, after]), onset=len(before))


def gradual(reference: Rows, before: Rows, after: Rows, width: int, seed: int) -> Stream:
    """Return ``before``, then rows of which a growing share is drawn from ``after``.

    Args:
        reference: Reference rows.
        before: More rows than ``after``; the surplus comes first, the rest is mixed in.
        after: Rows of the new world.
        width: Rows over which the share of new rows grows from 0 to 1, in a straight line.
        seed: Of the draws.

    Returns:
        A stream of as many rows as ``before``, whose onset is the first row that may be new.
    """
    onset = len(before) - len(after)
    share = np.minimum(1.0, np.arange(1, len(after) + 1) / width)
    new = np.random.default_rng(seed).random(len(after)) < share
    mixed = np.where(new, len(before) + np.arange(len(after)), onset + np.arange(len(after)))
    both = Rows.concat([before, after])
    return Stream(reference, both[np.concatenate([np.arange(onset), mixed])], onset)


def autoregressive(n: int, d: int, coefficient: float, rng: np.random.Generator) -> FloatArray:
    """Return (n, d) standard normal columns, each an AR(1) process of its own."""
    noise = rng.normal(size=(n, d)) * np.sqrt(1.0 - coefficient**2)
    noise[0] /= np.sqrt(1.0 - coefficient**2)
    x = np.empty((n, d))
    last = np.zeros(d)
    for i in range(n):
        x[i] = last = coefficient * last + noise[i]
    return x.astype(np.float32)


def day_blocks(days: IntArray, n: int, per_day: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return (n,) row indices: whole days drawn at random, rows shuffled within each."""
    drawn = rng.choice(days, size=-(-n // per_day))
    within = np.argsort(rng.random((len(drawn), per_day)), axis=1)
    index: NDArray[np.intp] = (drawn[:, None] * per_day + within).reshape(-1)[:n]
    return index


def tilted_mix(
    y: IntArray, heavy: Sequence[int], share: float, n: int, rng: np.random.Generator
) -> NDArray[np.intp]:
    """Return n distinct indices into ``y`` of which ``share`` have one of the ``heavy`` classes."""
    is_heavy = np.isin(y, heavy)
    count = round(share * n)
    index = np.concatenate(
        [
            rng.choice(np.flatnonzero(is_heavy), count, replace=False),
            rng.choice(np.flatnonzero(~is_heavy), n - count, replace=False),
        ]
    )
    return rng.permutation(index)
