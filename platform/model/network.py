"""The user's model: building it, filling it with weights, and reading its embedding."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from undrift.errors import ModelError

Factory = Callable[[], nn.Module]
StateDict = Mapping[str, torch.Tensor]

_LISTED = 5  # problems named in one message; the rest are counted


def load_factory(name: str, search_path: Path | None = None) -> Factory:
    """Find the function that builds the user's model.

    Args:
        name: ``module:attribute``, as ``shop.model:build``; the attribute takes no arguments.
        search_path: Folder to import from before all others; it stays on ``sys.path``, so that
            the module can import its neighbours whenever it likes.

    Returns:
        A function that builds a new model on each call; it raises ModelError if the user's code
        fails or returns something else than an ``nn.Module``.

    Raises:
        ModelError: There is no such module or attribute, or importing it fails.

    Example:
        >>> load_factory("torch.nn:Identity")()
        Identity()
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise ModelError(f"model factory {name!r} must read module:attribute, as my_model:build")
    if search_path is not None and str(search_path) not in sys.path:
        sys.path.insert(0, str(search_path))
        importlib.invalidate_caches()
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        where = f" (looked in {search_path} too)" if search_path is not None else ""
        raise ModelError(
            f"model factory {name!r}: cannot import {module_name!r}{where}: {_one_line(error)}"
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ModelError(f"model factory {name!r}: {module_name!r} has no {attribute!r}")
        found = getattr(found, part)
    if not callable(found):
        raise ModelError(f"model factory {name!r} is a {type(found).__name__}, not a function")
    return partial(_build, name, found)


def _build(name: str, factory: Callable[[], Any]) -> nn.Module:
    try:
        model = factory()
    except Exception as error:
        raise ModelError(f"model factory {name!r} failed: {_one_line(error)}") from error
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"model factory {name!r} returned a {type(model).__name__}, not a torch.nn.Module"
        )
    return model


def find_head(model: nn.Module, name: str = "auto") -> tuple[str, nn.Linear]:
    """Return the name and module of the last linear layer, whose input is the embedding.

    Args:
        model: The model.
        name: Dotted name of the layer; ``auto`` takes the linear layer registered last.

    Raises:
        ModelError: There is no linear layer, or none of that name.

    Example:
        >>> find_head(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)))[0]
        '2'
    """
    linear = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear)}
    if not linear:
        raise ModelError(
            f"{type(model).__name__} has no nn.Linear layer; the classification head must be one"
        )
    if name == "auto":
        name = next(reversed(linear))
    if name not in linear:
        raise ModelError(
            f"the head {name!r} is not an nn.Linear layer of {type(model).__name__}; "
            f"it has {_listing(list(linear))}"
        )
    return name, linear[name]


def check_state_dict(model: nn.Module, state: StateDict) -> None:
    """Check that weights fit the architecture exactly.

    Raises:
        ModelError: Names are missing or unexpected, or shapes differ; up to five are listed.
    """
    wanted = model.state_dict()
    problems = [f"{n} is missing" for n in wanted if n not in state]
    problems += [f"{n} is not expected" for n in state if n not in wanted]
    problems += [
        f"{n} has shape {list(state[n].shape)}, not {list(tensor.shape)}"
        for n, tensor in wanted.items()
        if n in state and state[n].shape != tensor.shape
    ]
    if problems:
        raise ModelError(f"weights do not fit {type(model).__name__}: {_listing(problems)}")


def load_weights(model: nn.Module, state: StateDict) -> None:
    """Copy weights that fit exactly into ``model``.

    Raises:
        ModelError: They do not fit; ``model`` is unchanged.
    """
    check_state_dict(model, state)
    model.load_state_dict(state, strict=True)


def load_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a safetensors file into memory.

    Raises:
        ModelError: The file is missing, cut short, or not in the safetensors format.
    """
    try:
        tensors: dict[str, torch.Tensor] = safetensors.torch.load_file(path)
    except FileNotFoundError as error:
        raise ModelError(f"there is no weights file {path}") from error
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelError(
            f"{path} is not a whole safetensors file: {_one_line(error)}; "
            "write it with safetensors.torch.save_file(model.state_dict(), path)"
        ) from error
    return tensors


def forward_with_embedding(
    model: nn.Module, head: nn.Linear, x: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run the model and also return what entered its head.

    Gradients flow as in a plain call. Two threads must not do this to one model at once.

    Args:
        model: The model.
        head: Its last linear layer.
        x: (n, *input_shape) input.

    Returns:
        Logits of shape (n, c) and the embedding of shape (n, e).

    Raises:
        ModelError: The head was not called, or not with one vector per row.

    Example:
        >>> head = nn.Linear(8, 3)
        >>> model = nn.Sequential(nn.Linear(4, 8), head)
        >>> [tuple(t.shape) for t in forward_with_embedding(model, head, torch.zeros(2, 4))]
        [(2, 3), (2, 8)]
    """
    seen: list[torch.Tensor] = []

    def keep(_module: nn.Module, args: tuple[Any, ...]) -> None:
        seen.append(args[0])

    handle = head.register_forward_pre_hook(keep)
    try:
        logits = model(x)
    finally:
        handle.remove()
    if not seen:
        raise ModelError(f"{type(model).__name__} answered without calling its head; name another")
    embedding = seen[-1]
    if embedding.ndim != 2 or len(embedding) != len(x):
        raise ModelError(
            f"the head's input has shape {list(embedding.shape)}, not one vector for each of "
            f"{len(x)} rows; name another layer as head"
        )
    return logits, embedding


def probe(model: nn.Module, input_shape: Sequence[int]) -> int:
    """Run the model on two rows of zeros and return its number of classes.

    Args:
        model: The model; its training mode is restored.
        input_shape: Shape of one input row.

    Raises:
        ModelError: The model fails on that shape, or its output is not (n, c) with c at least 2.
    """
    first = next(model.parameters(), torch.empty(0))
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            output = model(torch.zeros(2, *input_shape, device=first.device))
    except Exception as error:
        raise ModelError(
            f"{type(model).__name__} fails on input of shape {[2, *input_shape]} "
            f"(2 rows of the configured input shape): {_one_line(error)}"
        ) from error
    finally:
        model.train(training)
    shape = list(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
    if not isinstance(shape, list) or len(shape) != 2 or shape[0] != 2 or shape[1] < 2:
        raise ModelError(
            f"{type(model).__name__} must return one logit per row and class, shape [2, classes] "
            f"for input {[2, *input_shape]}; it returned {shape}"
        )
    return int(shape[1])


def _listing(items: list[str]) -> str:
    rest = len(items) - _LISTED
    return "; ".join(items[:_LISTED]) + (f"; and {rest} more" if rest > 0 else "")


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
