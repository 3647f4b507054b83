"""Quadratic penalties on moving weights that mattered to the start model: EWC and MAS."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from undrift.train.passes import forward
from undrift.train.penalty import Penalty
from undrift.train.setup import Setup

_SAMPLE = 256  # rows of the reference on which importance is measured
_AT_ONCE = 32  # rows whose gradients are held at once,
_NUMBERS = 2**24  # or fewer, so that they are at most so many numbers


class Consolidation(Penalty, ABC):
    """Adds lambda/2 sum_i Omega_i (theta_i - theta*_i)^2; Omega is measured row by row.

    The papers' lambda goes with the size of gradients and has to be searched anew for every
    model, over orders of magnitude. Omega is therefore divided by sum_i Omega_i theta*_i^2, one
    number for the whole model, so that weights which all move by their own size cost lambda/2.

    Args:
        setup: The retraining; importance is measured on at most 256 evenly spaced rows of its
            reference, without their labels.
    """

    strength: float

    def __init__(self, setup: Setup) -> None:
        self._weighted: list[tuple[nn.Parameter, torch.Tensor, torch.Tensor]] = []
        reference = setup.reference
        if not len(reference):
            return
        stride = -(-len(reference) // _SAMPLE)
        x = torch.as_tensor(reference.x[::stride], device=setup.x.device)
        parameters = {n: p for n, p in setup.model.named_parameters() if p.requires_grad}
        importance = {name: torch.zeros_like(p) for name, p in parameters.items()}
        direction = self._direction(setup, forward(setup, x)[0])
        setup.model.eval()
        for gradients in row_gradients(setup.model, parameters, x, direction):
            for name, gradient in gradients.items():
                importance[name] += self._magnitude(gradient).sum(dim=0)
        setup.meter.add(len(x), setup.blocks.step_flops(0), everywhere=True)
        old = {name: p.detach().clone() for name, p in parameters.items()}
        size = sum(float((importance[n] * p.pow(2)).sum()) for n, p in old.items())
        if size > 0.0:
            self._weighted = [(p, old[n], importance[n] / size) for n, p in parameters.items()]

    @abstractmethod
    def _direction(self, setup: Setup, output: torch.Tensor) -> torch.Tensor:
        """Return the gradient (n, c) of what is differentiated with respect to the output."""

    @abstractmethod
    def _magnitude(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return how much each weight matters, from its gradient."""

    def term(self, output: torch.Tensor | None) -> torch.Tensor | None:  # noqa: ARG002
        """Return the penalty."""
        terms = [(w * (p - old).pow(2)).sum() for p, old, w in self._weighted if p.requires_grad]
        return 0.5 * self.strength * torch.stack(terms).sum() if terms else None


class ElasticWeights(Consolidation):
    """Elastic weight consolidation: Omega is the diagonal of the Fisher information.

    The Fisher information is the true one: an expectation over the model's own answers, of which
    one is drawn for every row. No label is used.

    Args:
        setup: The retraining.

    Reference:
        Kirkpatrick et al.: Overcoming catastrophic forgetting in neural networks. PNAS 114, 2017.
    """

    strength = 10.0

    def _direction(self, setup: Setup, output: torch.Tensor) -> torch.Tensor:
        generator = torch.Generator(output.device).manual_seed(setup.plan.seed)
        return setup.objective.residual(output, setup.objective.draw(output, generator))

    def _magnitude(self, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.pow(2)


class AwareSynapses(Consolidation):
    """Memory aware synapses: Omega is the mean |gradient| of the output's squared norm.

    Row by row, as in the paper; the authors' code takes the gradient of a batch, which cancels.

    Args:
        setup: The retraining.

    Reference:
        Aljundi et al.: Memory aware synapses: learning what (not) to forget. ECCV 2018.
    """

    strength = 10.0

    def _direction(self, setup: Setup, output: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        return 2.0 * output

    def _magnitude(self, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.abs()


def row_gradients(
    model: nn.Module,
    parameters: dict[str, nn.Parameter],
    x: torch.Tensor,
    direction: torch.Tensor,
) -> Iterator[dict[str, torch.Tensor]]:
    """Yield the gradients of <output, direction>, row by row, a few rows at once.

    Args:
        model: The model, in the mode in which it is to be differentiated.
        parameters: Those of its parameters that are differentiated, by name.
        x: (n, *input_shape) rows.
        direction: (n, c) one direction for each row's output.
    """
    fixed: dict[str, Any] = {n: p.detach() for n, p in parameters.items()}
    size = sum(p.numel() for p in parameters.values())
    at_once = min(_AT_ONCE, max(1, _NUMBERS // size))

    def along(weights: dict[str, Any], row: torch.Tensor, to: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = functional_call(model, weights, (row[None],))
        return (output[0] * to).sum()

    each = vmap(grad(along), in_dims=(None, 0, 0))
    for rows, to in zip(x.split(at_once), direction.split(at_once), strict=True):
        yield each(fixed, rows, to)
