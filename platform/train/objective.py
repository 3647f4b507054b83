"""What a model is trained for: the right class, or a number close to the right one."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from undrift.errors import TrainingError
from undrift.records import FloatArray, IntArray


class Objective(Protocol):
    """A loss, and what the methods need to know of it."""

    def check(self, y: FloatArray | IntArray, head: nn.Linear) -> None:
        """Check that a head can be trained on targets.

        Raises:
            TrainingError: It cannot.
        """

    def losses(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss (n,) of each row."""

    def residual(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the gradient (n, c) of each row's loss with respect to its output."""

    def answers(self, output: torch.Tensor) -> torch.Tensor:
        """Return what is served for an output (n, c)."""

    def knowledge(self, output: torch.Tensor) -> torch.Tensor:
        """Return half the squared norm (n,) of each row's output: what the model says, how loudly.

        Unlike the loss it has a gradient on rows that a converged model answers well.
        """

    def quality(self, answer: FloatArray, y: FloatArray | IntArray) -> float:
        """Return how good answers (n, c) are, at most 1."""

    def chance(self, outputs: int) -> float:
        """Return the quality of a model that knows nothing, with so many outputs."""


class Classification:
    """Cross-entropy over logits (n, c) and class indices (n,); quality is accuracy."""

    def check(self, y: FloatArray | IntArray, head: nn.Linear) -> None:
        """Check that every label is one of the head's classes."""
        classes, largest = head.out_features, int(y.max(initial=0))
        if largest >= classes or int(y.min(initial=0)) < 0:
            raise TrainingError(
                f"the pool has label {largest}, but the model's head has {classes} classes "
                f"(0 to {classes - 1}); extend the model or drop those labels"
            )

    def losses(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the cross-entropy (n,) of each row."""
        return F.cross_entropy(output, target, reduction="none")

    def residual(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return probabilities minus the true class, one-hot (n, c)."""
        return output.softmax(dim=1) - F.one_hot(target, output.shape[1]).to(output.dtype)

    def answers(self, output: torch.Tensor) -> torch.Tensor:
        """Return class probabilities (n, c)."""
        return output.softmax(dim=1)

    def knowledge(self, output: torch.Tensor) -> torch.Tensor:
        """Return half the squared norm (n,) of the logits, centred: their mean says nothing."""
        return 0.5 * (output - output.mean(dim=1, keepdim=True)).pow(2).sum(dim=1)

    def quality(self, answer: FloatArray, y: FloatArray | IntArray) -> float:
        """Return the accuracy, 0 to 1."""
        return float((answer.argmax(axis=1) == y).mean())

    def chance(self, outputs: int) -> float:
        """Return one over the number of classes."""
        return 1.0 / outputs


class Regression:
    """Half the squared error over outputs (n, c) and targets (n,) or (n, c).

    Quality is the coefficient of determination: 1 minus the squared error over the variance.
    """

    def check(self, y: FloatArray | IntArray, head: nn.Linear) -> None:
        """Check that there is one finite target per output."""
        wide = y.shape[1] if y.ndim > 1 else 1
        if wide != head.out_features:
            raise TrainingError(
                f"the pool has {wide} target{'s' if wide > 1 else ''} per row, but the model's "
                f"head has {head.out_features} outputs"
            )
        if not np.isfinite(y).all():
            row = int(np.flatnonzero(~np.isfinite(y.reshape(len(y), -1)).all(axis=1))[0])
            raise TrainingError(f"the target of row {row} of the pool is not finite; drop it")

    def losses(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return half the squared error (n,) of each row."""
        return 0.5 * self.residual(output, target).pow(2).sum(dim=1)

    def residual(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return output minus target (n, c)."""
        return output - target.reshape(output.shape).to(output.dtype)

    def answers(self, output: torch.Tensor) -> torch.Tensor:
        """Return the output itself."""
        return output

    def knowledge(self, output: torch.Tensor) -> torch.Tensor:
        """Return half the squared norm (n,) of the output."""
        return 0.5 * output.pow(2).sum(dim=1)

    def quality(self, answer: FloatArray, y: FloatArray | IntArray) -> float:
        """Return the coefficient of determination; minus infinity to 1."""
        y = y.reshape(answer.shape)
        spread = float(((y - y.mean(axis=0)) ** 2).sum())
        return 1.0 - float(((answer - y) ** 2).sum()) / max(spread, 1e-12)

    def chance(self, outputs: int) -> float:  # noqa: ARG002
        """Return 0: the mean of the targets explains nothing."""
        return 0.0


def objective_for(y: FloatArray | IntArray) -> Objective:
    """Return the objective for targets: integers are classes, other numbers are to be met."""
    return Classification() if np.issubdtype(y.dtype, np.integer) else Regression()
