"""A model as an ordered list of blocks, of which the lower ones can rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from undrift.errors import TrainingError
from undrift.model.hooks import untraced
from undrift.model.network import ask, blamed, differentiable, find_head

_MAX_BLOCKS = 6


@dataclass(frozen=True, slots=True)
class Block:
    """Neighbouring layers that train or rest together.

    Attributes:
        name: Names of its first and last layer.
        modules: Its layers, those that own parameters, with what parametrises them.
        parameters: Those of their parameters that require a gradient.
    """

    name: str
    modules: tuple[nn.Module, ...]
    parameters: tuple[nn.Parameter, ...]


class Blocks:
    """The blocks of a model in the order of its forward pass; the last has its head.

    Training from block ``i`` upward lets all blocks below it rest: they need no gradient, so
    backpropagation stops there. The head always trains. A parameter that several layers share
    belongs to the lowest of them, and every block has something to train.

    Attributes:
        forward_flops: Floating-point operations per row of a forward pass.

    Args:
        model: The model; it is left as it is.
        x: (n, *input_shape) a few rows, run to learn the order and the cost of the layers.
        head: Linear layer whose input is the embedding.

    Raises:
        TrainingError: No parameter requires a gradient.
        ModelError: The model has no linear head.
    """

    def __init__(self, model: nn.Module, x: torch.Tensor, head: str = "auto") -> None:
        with differentiable(model):
            layers = _layers_in_order(model, x, head)
            count = min(_MAX_BLOCKS - 1, len(layers) - 1)
            parts = np.array_split(np.arange(len(layers) - 1), count) if count else []
            groups = [*parts, np.array([len(layers) - 1])]
            self.all = tuple(_join([layers[i] for i in group]) for group in groups)
            self.forward_flops, self._backward_flops = _count(model, x, self.all)

    def __len__(self) -> int:
        return len(self.all)

    def activate(self, lowest: int) -> None:
        """Let the blocks from ``lowest`` upward train, and those below it rest.

        Resting blocks also stop updating running statistics.
        """
        for i, block in enumerate(self.all):
            for module in block.modules:
                module.training = i >= lowest  # train() would also set the layers within it
            for parameter in block.parameters:
                parameter.requires_grad_(i >= lowest)
                if i < lowest:
                    parameter.grad = None

    def step_flops(self, lowest: int) -> float:
        """Return the operations per row of one step that trains from ``lowest`` upward."""
        return self.forward_flops + self._backward_flops[lowest]


def _count(
    model: nn.Module, x: torch.Tensor, blocks: Sequence[Block]
) -> tuple[float, tuple[float, ...]]:
    """Return the operations per row, forward and, for each lowest block, backward."""
    with _countable_kernels():
        with FlopCounterMode(display=False) as counter:
            output = ask(model, x).sum()
        if not output.requires_grad:
            raise TrainingError(
                f"{type(model).__name__} has no gradient in evaluation mode; is there a no_grad or "
                "a detach on its way?"
            )
        forward = counter.get_total_flops() / len(x)
        backward = []
        for lowest in range(len(blocks)):
            active = [p for block in blocks[lowest:] for p in block.parameters]
            with blamed(model), FlopCounterMode(display=False) as counter:
                torch.autograd.grad(output, active, retain_graph=True, allow_unused=True)
            backward.append(counter.get_total_flops() / len(x))
    return forward, tuple(backward)


@contextmanager
def _countable_kernels() -> Iterator[None]:
    """Let recurrent layers and attention run as the matrix products that torch can count."""
    backends = (torch.backends.cudnn, torch.backends.mkldnn)
    fast = torch.backends.mha.get_fastpath_enabled()
    enabled = [b.set_flags(_enabled=False, _fp32_precision=None)[0] for b in backends]
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for backend, before in zip(backends, enabled, strict=True):
            backend.set_flags(_enabled=before, _fp32_precision=None)


def _layers_in_order(model: nn.Module, x: torch.Tensor, head: str) -> list[Block]:
    """Return the layers in forward order, the head last; small ones join the layer before."""
    owned = _owned(model)
    owners = {name: model.get_submodule(name) for name in owned}
    if not any(p.requires_grad for p in model.parameters()):
        raise TrainingError(
            f"no parameter of {type(model).__name__} requires a gradient; there is nothing to train"
        )
    head, _ = find_head(model, head)
    layers: list[Block] = []
    taken: set[int] = set()
    for name in [*(n for n in _order_of_calls(model, owners, x) if n != head), head]:
        mine = {id(p): p for p in owned.get(name, ()) if p.requires_grad and id(p) not in taken}
        own = tuple(mine.values())
        taken.update(mine)
        small = not own if name == head else all(p.ndim < 2 for p in own)
        layer = Block(name, _with_parametrizations(model.get_submodule(name)), own)
        if layers and (small or not layers[-1].parameters):
            kept = layers[-1] if layers[-1].parameters else layer
            layer = _join([layers.pop(), layer], kept.name)
        layers.append(layer)
    return layers


def _owned(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Return the parameters of each layer; a parametrised one owns those that make its own."""
    found: dict[str, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        layer = f".{name}".partition(".parametrizations.")[0].lstrip(".")
        layer = layer if layer != name else name.rpartition(".")[0]
        found.setdefault(layer, []).append(parameter)
    return found


def _with_parametrizations(layer: nn.Module) -> tuple[nn.Module, ...]:
    made = getattr(layer, "parametrizations", None)
    return (layer, *made.modules()) if isinstance(made, nn.Module) else (layer,)


def _order_of_calls(model: nn.Module, owners: dict[str, nn.Module], x: torch.Tensor) -> list[str]:
    """Run the model, and return the names of ``owners`` in the order of their first calls.

    A layer that runs inside another's code is never called itself: it follows its neighbour.
    """
    called: dict[str, None] = {}
    handles = []
    for name, module in owners.items():

        def seen(_module: nn.Module, _args: Any, name: str = name) -> None:
            called.setdefault(name)

        handles.append(module.register_forward_pre_hook(untraced(seen)))
    try:
        with torch.no_grad():
            ask(model, x)
    finally:
        for handle in handles:
            handle.remove()
    order, before = list(called), ""
    for name in owners:
        if name not in called:
            order.insert(order.index(before) + 1 if before in order else 0, name)
        before = name
    return order


def _join(layers: Sequence[Block], name: str = "") -> Block:
    first, last = layers[0].name, layers[-1].name
    return Block(
        name=name or (first if first == last else f"{first}..{last}"),
        modules=tuple(m for layer in layers for m in layer.modules),
        parameters=tuple(p for layer in layers for p in layer.parameters),
    )
