"""Weights by name: in the model, in what wraps it, in what it wraps; whether all are finite."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

StateDict = Mapping[str, torch.Tensor]


def with_shared(model: nn.Module, state: StateDict) -> dict[str, torch.Tensor]:
    """Return weights in which a tensor that the model has under several names is under all of them.

    `safetensors.torch.save_model` writes such a tensor once. Those that are added are copies. Of
    weights of what the model wraps, as `save_pretrained` leaves them, the names are completed.
    """
    found, names = _wrapped(model, state), dict[int, list[str]]()
    for kind in (model.named_parameters, model.named_buffers):
        for name, tensor in kind(remove_duplicate=False):
            names.setdefault(id(tensor), []).append(name)
    for alike in names.values():
        known = next((name for name in alike if name in found), None)
        if known is not None:
            found |= {name: found[known].clone() for name in alike if name not in found}
    return found


def _wrapped(model: nn.Module, state: StateDict) -> dict[str, torch.Tensor]:
    """Return weights under the model's names, if one prefix before all of theirs makes them so."""
    wanted, first = model.state_dict().keys(), next(iter(state), "")
    if not first or any(name in wanted for name in state):
        return dict(state)
    before = [name.removesuffix(first) for name in wanted if name.endswith("." + first)]
    fitting = [prefix for prefix in before if all(prefix + name in wanted for name in state)]
    if len(fitting) != 1:
        return dict(state)
    return {fitting[0] + name: tensor for name, tensor in state.items()}


def prefix_of(wanted: StateDict, state: StateDict) -> str:
    """Return what stands before each of the names that are wanted; empty if nothing does."""
    first = next(iter(wanted), "")
    found = [name.removesuffix(first) for name in state if first and name.endswith(first)]
    return next((p for p in found if p and all(p + name in state for name in wanted)), "")


def not_finite(state: StateDict) -> list[str]:
    """Return the names of the floating-point tensors with a number that is not finite."""
    floats = {n: t for n, t in state.items() if t.is_floating_point()}
    wide = {n: t.float() if t.itemsize == 1 else t for n, t in floats.items()}
    return [name for name, tensor in wide.items() if not bool(tensor.isfinite().all())]
