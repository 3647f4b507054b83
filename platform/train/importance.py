"""Synapse and neuron importance: what the base model knows, and how not to lose it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from undrift.events import DriftKind

_SAMPLE = 128  # rows of the reference on which importance is measured
_REHEARSED = 32  # rows of it whose activations are compared at one step


class Importance:
    """Two penalties on leaving the base model, measured on rows that must not be forgotten.

    Synapse: ``sum_i O_i (theta_i - theta*_i)^2``, where O_i is the mean squared per-row
    gradient of half the squared norm of the logits. Neuron: ``sum_j N_j (a_j - a*_j)^2`` over
    the outputs of all linear and convolutional layers, where N_j is the same for activations.
    Per-row gradients matter: those of a batch cancel. The logits' norm matters: the loss of a
    converged model has hardly a gradient on what it knows best.

    Both are dimensionless and averaged over layers: a layer's synapse term is 1 where its
    weights have moved by their own size, its neuron term is 1 where its activations have moved
    by their own standard deviation. So a strength means the same for every model.

    Args:
        model: The base model with its weights; it is left as it is.
        x: (n, *input_shape) reference rows; at most 128, evenly spaced, are used.

    Reference:
        Aljundi et al.: Memory aware synapses. ECCV 2018. Klabjan, Zhu: Neural network
        retraining for model serving. arXiv 2004.14203, 2020, for the two terms; that they are
        measured on a stored sample, per row and per layer, differs from there.
    """

    def __init__(self, model: nn.Module, x: torch.Tensor) -> None:
        stride = max(1, -(-len(x) // _SAMPLE))
        self.x = x[::stride]
        self._layers = [
            m for m in model.modules() if isinstance(m, nn.Linear | nn.modules.conv._ConvNd)
        ]
        training = model.training
        model.eval()
        self._measure_neurons(model)
        self._measure_synapses(model)
        model.train(training)
        model.zero_grad(set_to_none=True)

    def _measure_neurons(self, model: nn.Module) -> None:
        with self.recording() as activations, torch.enable_grad():
            knowledge = _knowledge(model(self.x))
            called = [(m, activations[id(m)]) for m in self._layers if id(m) in activations]
            called = [(m, a) for m, a in called if a.requires_grad]
            activated = [a for _, a in called]
            gradients: tuple[torch.Tensor | None, ...] = torch.autograd.grad(
                knowledge, activated, allow_unused=True
            )
        self._neurons: list[tuple[int, torch.Tensor, torch.Tensor]] = []
        for (module, activation), gradient in zip(called, gradients, strict=True):
            if gradient is None:
                continue
            old = activation.detach()
            importance = gradient.pow(2).mean(dim=0)
            scale = (importance * old.var(dim=0, correction=0)).sum()
            if scale > 0:
                self._neurons.append((id(module), old, importance / scale))

    def _measure_synapses(self, model: nn.Module) -> None:
        owners = [list(m.parameters(recurse=False)) for m in model.modules()]
        owners = [own for own in owners if own]
        parameters = [p for own in owners for p in own]
        required = [p.requires_grad for p in parameters]
        importance = [torch.zeros_like(p) for p in parameters]
        for p in parameters:
            p.requires_grad_(True)
        with torch.enable_grad():
            for i in range(len(self.x)):
                knowledge = _knowledge(model(self.x[i : i + 1]))
                gradients = torch.autograd.grad(knowledge, parameters, allow_unused=True)
                for total, gradient in zip(importance, gradients, strict=True):
                    if gradient is not None:
                        total += gradient.pow(2)
        for p, needed in zip(parameters, required, strict=True):
            p.requires_grad_(needed)
        self._synapses: list[tuple[nn.Parameter, torch.Tensor, torch.Tensor]] = []
        found = iter(importance)
        for own in owners:
            weights = [next(found) for _ in own]
            count = sum(p.numel() for p in own)
            size = sum(p.detach().pow(2).sum() for p in own) / count
            scale = sum(w.sum() for w in weights) * size * len(owners)
            if scale > 0:
                self._synapses += [
                    (p, p.detach().clone(), w / scale) for p, w in zip(own, weights, strict=True)
                ]

    def synapse(self) -> torch.Tensor:
        """Return the synapse penalty of the model as it is now."""
        terms = [(w * (p - old).pow(2)).sum() for p, old, w in self._synapses if p.requires_grad]
        return torch.stack(terms).sum() if terms else self.x.new_zeros(())

    def neuron(
        self, activations: dict[int, torch.Tensor], index: torch.Tensor, total: int
    ) -> torch.Tensor:
        """Return the neuron penalty on the reference rows ``index``.

        Args:
            activations: What `recording` recorded; its last rows are those of ``index``.
            index: (k,) rows of `x`.
            total: Rows to average over: k, or more if other workers hold the rest.
        """
        terms = []
        for key, old, weight in self._neurons:
            now = activations[key][-len(index) :]
            terms.append((weight * (now - old[index]).pow(2)).sum() / total)
        return torch.stack(terms).sum() / len(terms) if terms else self.x.new_zeros(())

    def rehearse(self, generator: torch.Generator) -> torch.Tensor:
        """Draw the reference rows (k,) whose activations the next step compares."""
        return torch.randint(len(self.x), (min(_REHEARSED, len(self.x)),), generator=generator)

    @contextmanager
    def recording(self) -> Iterator[dict[int, torch.Tensor]]:
        """Record the outputs of all linear and convolutional layers, by id of the module."""
        activations: dict[int, torch.Tensor] = {}

        def record(module: nn.Module, _args: Any, output: torch.Tensor) -> None:
            activations[id(module)] = output

        handles = [m.register_forward_hook(record) for m in self._layers]
        try:
            yield activations
        finally:
            for handle in handles:
                handle.remove()


def protection(kind: DriftKind, accuracy: float, accuracy_before: float, classes: int) -> float:
    """Return the share, 0 to 1, of the protection that the drift leaves justified.

    Where the inputs moved, what the base model says about the old inputs is still right and
    worth all protection. Where the labels of the same inputs changed, it is wrong, and holding
    on to it is what makes a continual learner slow to recover. How wrong can be measured: the
    share of its skill above chance that the base model keeps in the new regime. If both
    happened, that share is the best guess for the old inputs as well, at most halved, since
    part of its errors are due to inputs that it never saw.

    Args:
        kind: What has drifted.
        accuracy: Accuracy of the base model in the new regime.
        accuracy_before: Its accuracy on its reference.
        classes: Number of classes.

    Example:
        >>> protection(DriftKind.CONCEPT, 0.5, 0.9, classes=2)
        0.0
        >>> protection(DriftKind.COVARIATE, 0.5, 0.9, classes=2)
        1.0
    """
    if kind in (DriftKind.NONE, DriftKind.COVARIATE):
        return 1.0
    chance = 1.0 / classes
    kept = (accuracy - chance) / max(accuracy_before - chance, 1e-6)
    kept = min(1.0, max(0.0, kept))
    return kept if kind is DriftKind.CONCEPT else (1.0 + kept) / 2.0


def _knowledge(logits: torch.Tensor) -> torch.Tensor:
    """Half the squared norm of the centred logits, summed over rows."""
    return 0.5 * (logits - logits.mean(dim=1, keepdim=True)).pow(2).sum()
