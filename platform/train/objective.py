"""What a model is trained for: the right class, or a number close to the right one."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from undrift.errors import TrainingError
from undrift.records import FloatArray, TargetArray


class Objective(Protocol):
    """A loss, and what the methods need to know of it.

    Attributes:
        measure: What quality is called.
        error: What the error of one row is called.
    """

    measure: str
    error: str

    def check(self, y: TargetArray, head: nn.Linear) -> None:
        """Check that a head can be trained on targets.

        Raises:
            TrainingError: It cannot.
        """

    def losses(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss (n,) of each row."""

    def residual(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the gradient (n, c) of each row's loss with respect to its output."""

    def fisher_direction(self, output: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Draw vectors (n, c) whose outer products are on average each row's Fisher information.

        It is that of the output, for answers that come from the model itself. Random signs vary
        less than drawn answers: a confident model would hardly ever draw another than its own.
        """

    def answers(self, output: torch.Tensor) -> torch.Tensor:
        """Return what is served for an output (n, c)."""

    def knowledge(self, output: torch.Tensor) -> torch.Tensor:
        """Return half the squared norm (n,) of each row's output: what the model says, how loudly.

        Unlike the loss it has a gradient on rows that a converged model answers well.
        """

    def quality(self, answer: FloatArray, y: TargetArray) -> float:
        """Return how good answers (n, c) are, at most 1."""

    def errors(self, answer: FloatArray, y: TargetArray) -> NDArray[np.float64]:
        """Return the error (n,) of each row, a proper score: least for what is likeliest true."""

    def collapsed(self, answer: FloatArray, y: TargetArray) -> bool:
        """Return whether the answers are all the same although the targets differ."""

    def chance(self, outputs: int) -> float:
        """Return the quality of a model that knows nothing, with so many outputs."""


class Classification:
    """Cross-entropy over logits (n, c) and class indices (n,); quality is accuracy."""

    measure = "accuracy"
    error = "brier"

    def check(self, y: TargetArray, head: nn.Linear) -> None:
        """Check that every row has one label, of one of the head's classes."""
        if y.ndim != 1:
            raise TrainingError(
                f"the pool has labels of shape {list(y.shape)}, but a classifier takes one class "
                "index per row"
            )
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

    def fisher_direction(self, output: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Sum, with random signs, each class's gradient times the root of its probability."""
        chance = output.softmax(dim=1)
        signed = _signs(output, generator) * chance.sqrt()
        return signed - chance * signed.sum(dim=1, keepdim=True)

    def answers(self, output: torch.Tensor) -> torch.Tensor:
        """Return class probabilities (n, c)."""
        return output.softmax(dim=1)

    def knowledge(self, output: torch.Tensor) -> torch.Tensor:
        """Return half the squared norm (n,) of the logits, centred: their mean says nothing."""
        return 0.5 * (output - output.mean(dim=1, keepdim=True)).pow(2).sum(dim=1)

    def quality(self, answer: FloatArray, y: TargetArray) -> float:
        """Return the accuracy, 0 to 1."""
        return float((answer.argmax(axis=1) == y).mean())

    def errors(self, answer: FloatArray, y: TargetArray) -> NDArray[np.float64]:
        """Return half the Brier score (n,) of each row, 0 to 1."""
        one_hot = np.eye(answer.shape[1])[y]
        half_brier: NDArray[np.float64] = 0.5 * ((answer - one_hot) ** 2).sum(axis=1)
        return half_brier

    def collapsed(self, answer: FloatArray, y: TargetArray) -> bool:
        """Return whether every row gets the same class."""
        return bool(len(np.unique(answer.argmax(axis=1))) == 1 and len(np.unique(y)) > 1)

    def chance(self, outputs: int) -> float:
        """Return one over the number of classes."""
        return 1.0 / outputs


class Regression:
    """Half the squared error over outputs (n, c) and targets (n,) or (n, c).

    Quality is R2, the coefficient of determination: 1 minus the squared error over the variance.
    """

    measure = "R2"
    error = "squared_error"

    def check(self, y: TargetArray, head: nn.Linear) -> None:
        """Check that there is one finite target per output."""
        wide = y.shape[1] if y.ndim > 1 else 1
        if wide != head.out_features:
            raise TrainingError(
                f"targets per row of the pool: {wide}; outputs of the model's head: "
                f"{head.out_features}; make them equal"
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

    def fisher_direction(self, output: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Draw random signs: half the squared error stands for a normal of unit variance."""
        return _signs(output, generator)

    def answers(self, output: torch.Tensor) -> torch.Tensor:
        """Return the output itself."""
        return output

    def knowledge(self, output: torch.Tensor) -> torch.Tensor:
        """Return half the squared norm (n,) of the output."""
        return 0.5 * output.pow(2).sum(dim=1)

    def quality(self, answer: FloatArray, y: TargetArray) -> float:
        """Return the coefficient of determination, mean over outputs; minus infinity to 1."""
        return 1.0 - float(self.errors(answer, y).mean())

    def errors(self, answer: FloatArray, y: TargetArray) -> NDArray[np.float64]:
        """Return the squared error (n,) of each row over the variance, mean over outputs."""
        y = y.reshape(answer.shape).astype(np.float64)
        apart = (answer - y) ** 2 / np.maximum(y.var(axis=0), 1e-12)
        errors: NDArray[np.float64] = apart.mean(axis=1)
        return errors

    def collapsed(self, answer: FloatArray, y: TargetArray) -> bool:
        """Return whether the answers vary less than a thousandth as much as the targets."""
        spread = y.reshape(answer.shape).std(axis=0)
        return bool(spread.any() and (answer.std(axis=0) <= 1e-3 * spread).all())

    def chance(self, outputs: int) -> float:  # noqa: ARG002
        """Return 0: the mean of the targets explains nothing."""
        return 0.0


def _signs(output: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    drawn = torch.randint(0, 2, output.shape, generator=generator, device=output.device)
    return (2 * drawn - 1).to(output.dtype)


def objective_for(y: TargetArray) -> Objective:
    """Return the objective for targets: integers are classes, other numbers are to be met."""
    return Classification() if np.issubdtype(y.dtype, np.integer) else Regression()
