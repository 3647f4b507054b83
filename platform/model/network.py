"""The user's model: building it, filling it with weights, and reading its embedding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter

from undrift.errors import ModelError
from undrift.model.door import Door, door_of, first_weight
from undrift.model.hooks import heed_hooks, untraced
from undrift.model.layout import layout_of
from undrift.model.names import StateDict, not_finite, prefix_of, with_shared
from undrift.model.settings import ModelSettings
from undrift.model.usercode import explain, load_function, one_line

Factory = Callable[[], nn.Module]

_ONE = 1e-3
_LISTED = 5  # problems named in one message; the rest are counted


def factory_of(section: ModelSettings, search_path: Path | None = None) -> Factory:
    """Return what builds the configured model, which knows how it is to be asked.

    Raises:
        ModelError: As `load_factory`.
    """
    return partial(_marked, load_factory(section.factory, search_path), section)


def _marked(factory: Factory, section: ModelSettings) -> nn.Module:
    door = Door(
        section.class_count or None,
        section.output,
        layout_of(section),
        numbers=section.is_regression,
    )
    return door.mark(factory())


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
    return partial(_build, name, load_function(name, search_path, "model factory"))


def _build(name: str, factory: Callable[[], Any]) -> nn.Module:
    try:
        model = factory()
    except Exception as error:
        raise ModelError(f"model factory {name!r} failed: {explain(error)}") from error
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"model factory {name!r} returned a {type(model).__name__}, not a torch.nn.Module"
        )
    lazy = [n for n, p in model.named_parameters() if isinstance(p, UninitializedParameter)]
    if lazy:
        raise ModelError(
            f"model factory {name!r} returned a model whose layers have no sizes yet "
            f"({_listing(lazy)}); pass one row through it before returning it"
        )
    meta = [n for n, p in model.named_parameters() if p.is_meta]
    if meta:
        raise ModelError(
            f"model factory {name!r} returned a model without memory for its weights "
            f"({_listing(meta)}); build it on the CPU, not on the device meta"
        )
    strange = [n for n, part in model.state_dict().items() if not isinstance(part, torch.Tensor)]
    if strange:
        raise ModelError(
            f"model factory {name!r} returned a model that keeps more than tensors in its state "
            f"({_listing(strange)}), as quantised layers and get_extra_state do; safetensors "
            "holds tensors alone, so keep the rest in what the factory builds"
        )
    heed_hooks()
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


def first_shape(model: nn.Module) -> tuple[int, ...] | None:
    """Return the shape of an input row, if the model's first layer tells it: numbers in a row."""
    layers = (m for m in model.modules() if any(True for _ in m.parameters(recurse=False)))
    first = next(layers, None)
    return (first.in_features,) if isinstance(first, nn.Linear) else None


def check_brought(model: nn.Module, state: StateDict) -> dict[str, torch.Tensor]:
    """Return weights from elsewhere, complete, if they may replace the model's own.

    Raises:
        ModelError: Names, shapes or types differ, or numbers are not finite; up to five are listed.
    """
    state = with_shared(model, state)
    check_state_dict(model, state, types=True)
    bad = not_finite(state)
    if bad:
        raise ModelError(f"weights have numbers that are not finite: {_listing(bad)}")
    return state


def check_state_dict(model: nn.Module, state: StateDict, *, types: bool = False) -> None:
    """Check that weights fit the architecture exactly.

    Args:
        model: The model.
        state: The weights.
        types: Whether they must be of the same types, too; else they are converted when loaded.

    Raises:
        ModelError: Names are missing or unexpected, or shapes differ; up to five are listed.
    """
    wanted = model.state_dict()
    prefix = prefix_of(wanted, state)
    if prefix:
        raise ModelError(
            f"weights do not fit {type(model).__name__}: all names begin with {prefix!r}, as those "
            "of a wrapper do; save the weights of the model within, as model.module or _orig_mod"
        )
    problems = [f"{n} is missing" for n in wanted if n not in state]
    problems += [f"{n} is not expected" for n in state if n not in wanted]
    problems += [
        f"{n} has shape {list(state[n].shape)}, not {list(tensor.shape)}"
        for n, tensor in wanted.items()
        if n in state and state[n].shape != tensor.shape
    ]
    problems += [
        f"{n} is of type {_type(state[n])}, not {_type(tensor)}"
        for n, tensor in wanted.items()
        if types and n in state and state[n].dtype != tensor.dtype
    ]
    if problems:
        raise ModelError(f"weights do not fit {type(model).__name__}: {_listing(problems)}")


def _type(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def load_weights(model: nn.Module, state: StateDict) -> None:
    """Copy weights that fit exactly into ``model``.

    Raises:
        ModelError: They do not fit; ``model`` is unchanged.
    """
    state = with_shared(model, state)
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
            f"{path} is not a whole safetensors file: {one_line(error)}; "
            "write it with safetensors.torch.save_model(model, path)"
        ) from error
    return tensors


def ask(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Run the user's model on rows; the one place where that is done.

    The model gets a copy, in the precision of its weights, of several named inputs each by itself:
    what it writes into it harms nobody. Its answer, perhaps a buffer of its own, is copied too.

    Args:
        model: The model, in whatever mode it is.
        x: (n, *input_shape) rows.

    Returns:
        (n, c) logits, of all that it answers.

    Raises:
        ModelError: It fails, the text says where in whose file; or has no logits in its answer.
    """
    weight, door = first_weight(model), door_of(model)
    rows, named = door.given(x, x.dtype if weight is None else weight.dtype)
    try:
        output = model(*rows, **named)
    except (torch.OutOfMemoryError, ModelError):
        raise
    except Exception as error:
        raise ModelError(
            f"{type(model).__name__} fails on input of shape {door.shape(x)}: {explain(error)}"
        ) from error
    return _own(door.logits(model, output, len(x)))


def _own(tensor: torch.Tensor) -> torch.Tensor:
    """Return a copy, but of what gradients flow through, where PyTorch itself sees to changes."""
    return tensor if tensor.requires_grad else tensor.clone()


@contextmanager
def blamed(model: nn.Module) -> Iterator[None]:
    """Have what a backward pass through the user's model raises told as the model's fault.

    Raises:
        ModelError: It fails.
    """
    try:
        yield
    except (torch.OutOfMemoryError, ModelError):
        raise
    except RuntimeError as error:
        raise ModelError(
            f"{type(model).__name__} has no backward pass: {explain(error)}; is something changed "
            "in place that it needs, or kept from one call to the next without detach?"
        ) from error


@contextmanager
def differentiable(model: nn.Module) -> Iterator[None]:
    """Have a model in evaluation mode in which gradients can be taken; its modes come back.

    cuDNN has no backward pass of recurrent layers in that mode.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
            yield
    finally:
        for module, mode in modes:
            module.training = mode


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

    def keep(_module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        seen.append(_own(args[0] if args else next(iter(named.values()))))

    handle = head.register_forward_pre_hook(untraced(keep), with_kwargs=True)
    try:
        logits = ask(model, x)
    finally:
        handle.remove()
    if not seen:
        raise ModelError(
            f"{type(model).__name__} answered without calling its head, or uses only its weight; "
            "name the layer whose input is the embedding as model.embedding, and call it"
        )
    embedding = seen[-1]
    if embedding.ndim != 2 or len(embedding) != len(x):
        raise ModelError(
            f"the head's input has shape {list(embedding.shape)}, not one vector for each of "
            f"{len(x)} rows; name another layer as head"
        )
    return logits, embedding


def width(model: nn.Module, x: torch.Tensor) -> int:
    """Return how many numbers a model answers to a row, by a forward pass over (n, ...) rows.

    Raises:
        ModelError: It fails.
    """
    with differentiable(model), torch.no_grad():
        return int(ask(model, x).shape[1])


def probe(model: nn.Module, head: nn.Linear, x: torch.Tensor) -> int:
    """Run the model on a few rows as it will be run, and return its number of outputs.

    Args:
        model: The model; its modes are restored.
        head: Its head.
        x: (n, *input_shape) rows, at least 2.

    Raises:
        ModelError: The model or its head cannot be used; the text says what to do.
    """
    name, shape = type(model).__name__, door_of(model).shape(x)
    with differentiable(model), torch.no_grad():
        before = [(n, module) for n, module in model.named_modules() if not module.training]
        output = ask(model, x)
        switched = [n or name for n, module in before if module.training]
        if switched:
            raise ModelError(
                f"the forward of {name} puts {_listing(switched)} into training mode, in which a "
                "replica must not answer; leave the modes to its callers"
            )
        got, numbers = list(output.shape), door_of(model).numbers
        if len(got) != 2 or got[0] != len(x) or got[1] < (1 if numbers else 2):
            per = "one logit per row and class, shape [{0}, classes]"
            if numbers:
                per = "one or more numbers per row, shape [{0}] or [{0}, outputs]"
            hint = ""
            if not numbers and got in ([len(x)], [len(x), 1]):
                hint = "; a model that answers numbers has model.task: regression"
            raise ModelError(
                f"{name} must return {per.format(len(x))} for input {shape}; it returned "
                f"{got}{hint}"
            )
        forward_with_embedding(model, head, x)
    output = output.float()
    bad = torch.nonzero(~output.isfinite().all(dim=1))
    if len(bad):
        raise ModelError(f"{name} answers row {int(bad[0])} of the reference with no finite number")
    if numbers:
        return got[1]
    if bool((output >= 0).all()) and bool(((output.sum(dim=1) - 1).abs() < _ONE).all()):
        raise ModelError(
            f"{name} answers with probabilities, rows that are never negative and sum to one; it "
            "must return logits: leave out the softmax at its end"
        )
    return got[1]


def _listing(items: list[str]) -> str:
    rest = len(items) - _LISTED
    return "; ".join(items[:_LISTED]) + (f"; and {rest} more" if rest > 0 else "")
