"""A model as an ordered list of blocks, of which the lower ones can rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from undrift.model import find_head

_MAX_BLOCKS = 6


@dataclass(frozen=True, slots=True)
class Block:
    """Neighbouring layers that train or rest together.

    Attributes:
        name: Names of its first and last layer.
        modules: Its layers, those that own parameters.
        parameters: Those of their parameters that require a gradient.
        flops: Floating-point operations of its forward pass, per row.
    """

    name: str
    modules: tuple[nn.Module, ...]
    parameters: tuple[nn.Parameter, ...]
    flops: float


class Blocks:
    """The blocks of a model in the order of its forward pass; the last is its head.

    Training from block ``i`` upward lets all blocks below it rest: they need no gradient, so
    backpropagation stops there. The head always trains.

    Args:
        model: The model.
        x: (n, *input_shape) a few rows, run once to learn the order and the cost of the layers.
    """

    def __init__(self, model: nn.Module, x: torch.Tensor) -> None:
        layers = _layers_in_order(model, x)
        groups = (
            [
                [int(i) for i in part]
                for part in np.array_split(
                    np.arange(len(layers) - 1), min(_MAX_BLOCKS - 1, len(layers) - 1)
                )
            ]
            if len(layers) > 1
            else []
        )
        groups.append([len(layers) - 1])
        self.all = tuple(_join([layers[i] for i in group]) for group in groups)

    def __len__(self) -> int:
        return len(self.all)

    def activate(self, lowest: int) -> None:
        """Let the blocks from ``lowest`` upward train, and those below it rest.

        Resting blocks also stop updating running statistics.
        """
        for i, block in enumerate(self.all):
            for module in block.modules:
                module.train(i >= lowest)
            for parameter in block.parameters:
                parameter.requires_grad_(i >= lowest)
                if i < lowest:
                    parameter.grad = None

    @property
    def forward_flops(self) -> float:
        """Operations per row of a forward pass."""
        return sum(b.flops for b in self.all)

    def step_flops(self, lowest: int) -> float:
        """Return the operations per row of one step that trains from ``lowest`` upward.

        Forward everywhere; backward to the inputs above the lowest block, and to the weights
        from it on, each at the cost of a forward pass.
        """
        weights = sum(b.flops for b in self.all[lowest:])
        inputs = sum(b.flops for b in self.all[lowest + 1 :])
        return self.forward_flops + weights + inputs


@dataclass(slots=True)
class _Layer:
    name: str
    modules: list[nn.Module]
    parameters: list[nn.Parameter]
    flops: float


def _layers_in_order(model: nn.Module, x: torch.Tensor) -> list[_Layer]:
    """Return the layers in forward order, the head last; small ones join the layer before."""
    owners = {
        name: module
        for name, module in model.named_modules()
        if any(True for _ in module.parameters(recurse=False))
    }
    positions = _positions(model, owners, x)
    head_name, _ = find_head(model)
    called = [n for n in positions if n != head_name]
    # A layer that runs inside another's code is never called itself: it follows its neighbour.
    registered = list(owners)
    for name in registered:
        if name not in positions and name != head_name:
            before = registered[: registered.index(name)]
            anchor = next((n for n in reversed(before) if n in called), None)
            called.insert(0 if anchor is None else called.index(anchor) + 1, name)
    layers: list[_Layer] = []
    taken: set[int] = set()
    for name in [*called, head_name]:
        own = [
            p
            for p in owners[name].parameters(recurse=False)
            if p.requires_grad and id(p) not in taken
        ]
        taken.update(id(p) for p in own)
        weights = max((p.numel() for p in own), default=0)
        flops = 2.0 * weights * positions.get(name, 1.0)
        small = all(p.ndim < 2 for p in own)
        if small and layers and name != head_name:
            layers[-1].modules.append(owners[name])
            layers[-1].parameters += own
            layers[-1].flops += flops
        else:
            layers.append(_Layer(name, [owners[name]], own, flops))
    return layers


def _positions(model: nn.Module, owners: dict[str, nn.Module], x: torch.Tensor) -> dict[str, float]:
    """Run the model; return, in order of call, how often per row each layer's weights are used."""
    positions: dict[str, float] = {}
    handles = []
    for name, module in owners.items():

        def seen(_m: nn.Module, _a: Any, output: Any, name: str = name) -> None:
            size = 1.0
            weight = getattr(_m, "weight", None)
            if isinstance(output, torch.Tensor) and isinstance(weight, torch.Tensor):
                channels = weight.shape[0] if weight.ndim >= 2 else weight.numel()
                size = max(1.0, output.numel() / (len(x) * channels))
            positions[name] = positions.get(name, 0.0) + size

        handles.append(module.register_forward_hook(seen))
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            model(x)
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    return positions


def _join(layers: list[_Layer]) -> Block:
    first, last = layers[0].name, layers[-1].name
    return Block(
        name=first if first == last else f"{first}..{last}",
        modules=tuple(m for layer in layers for m in layer.modules),
        parameters=tuple(p for layer in layers for p in layer.parameters),
        flops=sum(layer.flops for layer in layers),
    )
