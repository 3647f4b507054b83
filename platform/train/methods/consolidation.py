"""Quadratic penalties on moving weights that mattered to the start model: EWC and MAS."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn

from undrift.model.network import ask, blamed, differentiable
from undrift.train.methods.penalty import Penalty
from undrift.train.setup import Setup

_SAMPLE = 256  # rows of the reference on which importance is measured


class Consolidation(Penalty, ABC):
    """Adds lambda/2 sum_i Omega_i (theta_i - theta*_i)^2; Omega is measured row by row.

    The papers' lambda goes with the size of gradients and has to be searched anew for every
    model, over orders of magnitude. Omega is therefore divided by sum_i Omega_i theta*_i^2, one
    number for the whole model, so that weights which all move by their own size cost lambda/2.

    Args:
        setup: The retraining; importance is measured on at most 256 evenly spaced rows of its
            reference, without their labels. Without a reference there is no penalty.
    """

    # lambda: of 3 to 10,000, that with the best mean accuracy on new and old rows when a network
    # learns new digits, and turned ones (scikit-learn's 8 x 8 digits)
    strength: float

    def __init__(self, setup: Setup) -> None:
        self._weighted: list[tuple[nn.Parameter, torch.Tensor, torch.Tensor]] = []
        if not len(setup.reference):
            return
        stride = -(-len(setup.reference) // _SAMPLE)
        x = torch.as_tensor(setup.reference.x[::stride], device=setup.x.device)
        parameters = [p for p in setup.model.parameters() if p.requires_grad]
        importance = [torch.zeros_like(p.abs()) for p in parameters]
        generator = torch.Generator(x.device).manual_seed(setup.plan.seed)
        # One row after another: vmap does not run every model, and is slower for convolutions.
        with differentiable(setup.model):
            for row in x.split(1):
                score = self._score(setup, ask(setup.model, row).float(), generator)
                with blamed(setup.model):
                    gradients = torch.autograd.grad(score, parameters, allow_unused=True)
                for total, gradient in zip(importance, gradients, strict=True):
                    if gradient is not None:
                        total += self._magnitude(gradient)
        setup.meter.add(len(x), setup.blocks.step_flops(0), everywhere=True)
        old = [p.detach().clone() for p in parameters]
        size = sum(float((w * o.abs().pow(2)).sum()) for w, o in zip(importance, old, strict=True))
        if size > 0.0:
            scaled = [w / size for w in importance]
            self._weighted = list(zip(parameters, old, scaled, strict=True))

    @abstractmethod
    def _score(
        self, setup: Setup, output: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        """Return what is differentiated, for the output (1, c) of one row."""

    @abstractmethod
    def _magnitude(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return how much each weight matters to one row."""

    def term(self, output: torch.Tensor | None) -> torch.Tensor | None:  # noqa: ARG002
        """Return the penalty."""
        terms = [
            (w * (p - old).abs().pow(2)).sum() for p, old, w in self._weighted if p.requires_grad
        ]
        return 0.5 * self.strength * torch.stack(terms).sum() if terms else None


class ElasticWeights(Consolidation):
    """Elastic weight consolidation: Omega is the diagonal of the Fisher information.

    The Fisher information is the true one, an expectation over the model's own answers, estimated
    by one random projection of each row (`Objective.fisher_direction`).

    Args:
        setup: The retraining.

    Reference:
        Kirkpatrick et al.: Overcoming catastrophic forgetting in neural networks. PNAS 114, 2017.
    """

    strength = 100.0

    def _score(
        self, setup: Setup, output: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        return (output * setup.objective.fisher_direction(output.detach(), generator)).sum()

    def _magnitude(self, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.abs().pow(2)


class AwareSynapses(Consolidation):
    """Memory aware synapses: Omega is the mean |gradient| of the output's squared norm.

    Row by row, as in the paper; the authors' code takes the gradient of a batch, which cancels.

    Args:
        setup: The retraining.

    Reference:
        Aljundi et al.: Memory aware synapses: learning what (not) to forget. ECCV 2018.
    """

    strength = 100.0

    def _score(
        self,
        setup: Setup,  # noqa: ARG002
        output: torch.Tensor,
        generator: torch.Generator,  # noqa: ARG002
    ) -> torch.Tensor:
        return output.pow(2).sum()

    def _magnitude(self, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.abs()
