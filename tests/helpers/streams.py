"""Synthetic streams for the tests of the monitor: six features, two classes or a number."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from undrift.records import Labels, Predictions, Reference

LEAD = np.array([2.0, -1.5, 1.0, 0.0, 0.0, 0.0], dtype=np.float32)


class Stream:
    """A source of predictions and of their true labels.

    The label follows the model's own probability, so the model is calibrated until the concept is
    inverted for a share ``flipped`` of rows, or the inputs are moved by ``shift``.
    """

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.row = 0

    def take(
        self, n: int, *, shift: float = 0.0, flipped: float = 0.0, version: int = 1
    ) -> tuple[Predictions, Labels]:
        x = self.rng.normal(size=(n, 6))
        x[:, 5] = x[:, 5] > 0.5
        x[:, :3] += shift
        up = 1.0 / (1.0 + np.exp(-x @ LEAD))
        label = self.rng.random(n) < up
        label ^= self.rng.random(n) < flipped
        rows = np.arange(self.row, self.row + n)
        self.row += n
        ids = tuple(f"id-{i}" for i in rows)
        predictions = Predictions(
            ids=ids,
            row=rows,
            at=rows / 10.0,
            version=np.full(n, version),
            x=x.astype(np.float32),
            embedding=x[:, :2].astype(np.float32),
            output=np.stack([1 - up, up], axis=1).astype(np.float32),
        )
        return predictions, Labels(ids=ids, label=label.astype(np.int64), at=rows / 10.0 + 50.0)

    def reference(self, n: int = 600) -> Reference:
        predictions, labels = type(self)(int(self.rng.integers(2**31))).take(n)
        return Reference(
            x=predictions.x,
            y=labels.label,
            embedding=predictions.embedding,
            output=predictions.output,
            recent=np.ones(n, dtype=np.bool_),
        )


class NumberStream(Stream):
    """The same with a number: the label is what a linear model answers, and normal noise.

    The sign of the model is wrong for a share ``flipped`` of rows.
    """

    def take(
        self, n: int, *, shift: float = 0.0, flipped: float = 0.0, version: int = 1
    ) -> tuple[Predictions, Labels]:
        rows, told = super().take(n, shift=shift, version=version)
        answer = (rows.x @ LEAD)[:, None]
        sign = np.where(self.rng.random(n) < flipped, -1.0, 1.0)
        label = (sign * answer[:, 0] + self.rng.normal(size=n)).astype(np.float32)
        rows = replace(rows, output=answer, answered=answer)
        return rows, Labels(told.ids, label, told.at)
