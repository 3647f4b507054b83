"""Synapse and neuron importance: what the base model knows, and how not to lose it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from undrift.model.hooks import untraced
from undrift.model.network import ask, blamed, differentiable

Knowledge = Callable[[torch.Tensor], torch.Tensor]

_SAMPLE = 128  # rows of the reference on which importance is measured


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
        model: The base model with its weights; it is left as it is. What requires no gradient
            cannot be left, so it is not measured.
        x: (n, *input_shape) reference rows; at most 128, evenly spaced, are used.
        knowledge: Half the squared norm (n,) of outputs (n, c), as `Objective.knowledge`.

    Reference:
        Aljundi et al.: Memory aware synapses. ECCV 2018. Klabjan, Zhu: Neural network
        retraining for model serving. arXiv 2004.14203, 2020, for the two terms; that they are
        measured on a stored sample, per row and per layer, differs from there.
    """

    def __init__(self, model: nn.Module, x: torch.Tensor, knowledge: Knowledge) -> None:
        stride = max(1, -(-len(x) // _SAMPLE))
        self.x = x[::stride]
        self._knowledge = knowledge
        self._layers = [
            m for m in model.modules() if isinstance(m, nn.Linear | nn.modules.conv._ConvNd)
        ]
        with differentiable(model):
            self._measure_neurons(model)
            self._measure_synapses(model)
        model.zero_grad(set_to_none=True)

    def _measure_neurons(self, model: nn.Module) -> None:
        activations: dict[int, torch.Tensor] = {}
        with self.recording(activations):
            knowledge = self._knowledge(ask(model, self.x)).sum()
            called = [(m, activations[id(m)]) for m in self._layers if id(m) in activations]
            called = [(m, a) for m, a in called if a.requires_grad]
            activated = [a for _, a in called]
            with blamed(model):
                gradients: tuple[torch.Tensor | None, ...] = torch.autograd.grad(
                    knowledge, activated, allow_unused=True
                )
        self._neurons: list[tuple[int, torch.Tensor, torch.Tensor]] = []
        for (module, activation), gradient in zip(called, gradients, strict=True):
            if gradient is None:
                continue
            old = activation.detach()
            importance = gradient.abs().pow(2).mean(dim=0)
            scale = (importance * old.var(dim=0, correction=0)).sum()
            if scale > 0:
                self._neurons.append((id(module), old, importance / scale))

    def _measure_synapses(self, model: nn.Module) -> None:
        owners = [
            [p for p in m.parameters(recurse=False) if p.requires_grad] for m in model.modules()
        ]
        owners = [own for own in owners if own]
        parameters = [p for own in owners for p in own]
        importance = [torch.zeros_like(p.abs()) for p in parameters]
        for i in range(len(self.x)):
            knowledge = self._knowledge(ask(model, self.x[i : i + 1])).sum()
            with blamed(model):
                gradients = torch.autograd.grad(knowledge, parameters, allow_unused=True)
            for total, gradient in zip(importance, gradients, strict=True):
                if gradient is not None:
                    total += gradient.abs().pow(2)
        self._synapses: list[tuple[nn.Parameter, torch.Tensor, torch.Tensor]] = []
        found = iter(importance)
        for own in owners:
            weights = [next(found) for _ in own]
            count = sum(p.numel() for p in own)
            size = sum(p.detach().abs().pow(2).sum() for p in own) / count
            scale = sum(w.sum() for w in weights) * size * len(owners)
            if scale > 0:
                self._synapses += [
                    (p, p.detach().clone(), w / scale) for p, w in zip(own, weights, strict=True)
                ]

    def synapse(self) -> torch.Tensor:
        """Return the synapse penalty of the model as it is now."""
        terms = [
            (w * (p - old).abs().pow(2)).sum() for p, old, w in self._synapses if p.requires_grad
        ]
        return torch.stack(terms).sum() if terms else self.x.new_zeros(())

    def neuron(self, activations: dict[int, torch.Tensor], index: torch.Tensor) -> torch.Tensor:
        """Return the neuron penalty, summed over the reference rows ``index``.

        Args:
            activations: What `recording` recorded; its last rows are those of ``index``.
            index: (k,) rows of `x`.
        """
        terms = []
        for key, old, weight in self._neurons:
            now = activations[key][-len(index) :]
            terms.append((weight * (now - old[index]).abs().pow(2)).sum())
        return torch.stack(terms).sum() / len(terms) if terms else self.x.new_zeros(())

    @contextmanager
    def recording(self, activations: dict[int, torch.Tensor]) -> Iterator[None]:
        """Fill a dict with the outputs of all linear and convolutional layers, by id of module."""
        activations.clear()

        def record(module: nn.Module, _args: Any, output: torch.Tensor) -> None:
            activations[id(module)] = output

        handles = [m.register_forward_hook(untraced(record)) for m in self._layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
