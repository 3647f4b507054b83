"""What the user's model is given of a row, and which of what it answers are the logits."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import nn

from undrift.errors import ModelError
from undrift.model.layout import DIGIT, Layout

_KEPT = "undrift_door"
_DTYPES = {
    "BOOL": torch.bool,
    "UINT8": torch.uint8,
    **{f"INT{bits}": getattr(torch, f"int{bits}") for bits in (8, 16, 32, 64)},
}


class Door:
    """How one model is asked: kept by the model itself, so that its copies have it too.

    Args:
        classes: Number of classes; None if any number will do.
        output: Name or index of the logits in what the model answers, nested ones joined by dots;
            None to find them: the one floating tensor of shape (rows, classes).
        layout: Its named inputs; None if it takes rows as they are.
        numbers: Whether it answers numbers instead of logits; one to a row may lack its dimension.

    Attributes:
        layout: Its named inputs.
        numbers: Whether it answers numbers.
        unit: (c,) what numbers are divided by, while it is trained; None: they stand as they are.
    """

    def __init__(
        self,
        classes: int | None = None,
        output: str | int | None = None,
        layout: Layout | None = None,
        *,
        numbers: bool = False,
    ) -> None:
        self._classes, self._output, self.layout = classes, output, layout
        self.numbers = numbers
        self.unit: torch.Tensor | None = None
        self._found: str | None = None
        self._by_name = True

    def mark(self, model: nn.Module) -> nn.Module:
        """Have `door_of` return this for a model; returns the model.

        Raises:
            ModelError: Some of the inputs are parameters of its forward, and others are not.
        """
        setattr(model, _KEPT, self)
        if self.layout is not None:
            self._by_name = _takes_by_name(model, [one.name for one in self.layout.inputs])
        return model

    def given(self, x: torch.Tensor, dtype: torch.dtype) -> tuple[list[Any], dict[str, Any]]:
        """Return what the model is called with, positional and by keyword: copies.

        Args:
            x: (n, *input_shape) rows.
            dtype: What floating-point numbers come in.
        """
        if self.layout is None:
            return [x.clone() if x.dtype == dtype else x.to(dtype)], {}
        parts = {}
        for one, digits in self.layout.parts():
            kind = _DTYPES.get(one.datatype, dtype)
            part = x[:, digits[0]].to(kind, copy=True)
            for i, place in enumerate(digits[1:], 1):
                part += x[:, place].to(kind) * DIGIT**i
            parts[one.name] = part.reshape(len(x), *one.shape)
        return ([], parts) if self._by_name else (list(parts.values()), {})

    def shape(self, x: torch.Tensor) -> str:
        """Return the shapes of what the model is called with, for the text of an error."""
        if self.layout is None:
            return str(list(x.shape))
        shapes = {one.name: [len(x), *one.shape] for one in self.layout.inputs}
        return ", ".join(f"{name} {shape}" for name, shape in shapes.items())

    @property
    def has_integers(self) -> bool:
        """Whether an input is whole numbers, which may be ids, so that rows have no distance."""
        return self.layout is not None and any(one.is_integer for one in self.layout.inputs)

    def logits(self, model: nn.Module, answer: Any, rows: int) -> torch.Tensor:
        """Return the logits in what a model answered; a tensor is them, whatever was asked for.

        Args:
            model: The model, for the text of an error.
            answer: A tensor, or a tuple, list, mapping or dataclass that holds some.
            rows: Rows that it was asked.

        Raises:
            ModelError: There is no such tensor, or more than one that may be meant.

        Example:
            >>> answer = {"logits": torch.zeros(2, 3), "hidden": torch.zeros(2, 8)}
            >>> Door(classes=3).logits(nn.Identity(), answer, 2).shape
            torch.Size([2, 3])
        """
        found = answer if isinstance(answer, torch.Tensor) else self._found_in(model, answer, rows)
        found = found[:, None] if self.numbers and found.ndim == 1 else found
        return found if self.unit is None else found / self.unit.to(found)

    def _found_in(self, model: nn.Module, answer: Any, rows: int) -> torch.Tensor:
        told = dict(_tensors(answer))
        if self._output is not None:
            found = _within(answer, str(self._output))
            if isinstance(found, torch.Tensor):
                return found
            raise ModelError(
                f"{type(model).__name__} answers with {_listed(told)}; model.output is "
                f"{self._output!r}, which is no tensor of it"
            )
        if self._found in told:
            return told[self._found]
        alike = [name for name, tensor in told.items() if self._fits(tensor, rows)]
        if len(alike) == 1:
            self._found = alike[0]
            return told[alike[0]]
        what, of = ("answer", "outputs") if self.numbers else ("logits", "classes")
        raise ModelError(
            f"{type(model).__name__} answers with {_listed(told)}; {len(alike) or 'none'} of it "
            f"can be the {what}, [{rows}, {self._classes or of}]; name them as model.output"
        )

    def _fits(self, tensor: torch.Tensor, rows: int) -> bool:
        dimensions = (1, 2) if self.numbers else (2,)
        if tensor.ndim not in dimensions or not tensor.is_floating_point() or len(tensor) != rows:
            return False
        return self._classes is None or tensor.shape[1] == self._classes


def door_of(model: nn.Module) -> Door:
    """Return how a model is asked; a model that no `Door` has marked takes rows as they are."""
    found = getattr(model, _KEPT, None)
    return found if isinstance(found, Door) else Door()


def first_weight(model: nn.Module) -> torch.Tensor | None:
    """Return the first floating-point parameter; ``parameters()`` takes ten times as long."""
    for parameter in model._parameters.values():
        if parameter is not None and parameter.is_floating_point():
            return parameter
    for part in model._modules.values():
        found = None if part is None else first_weight(part)
        if found is not None:
            return found
    return None


def _takes_by_name(model: nn.Module, names: list[str]) -> bool:
    """Tell whether the forward pass takes inputs by keyword: it has all of these parameters."""
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):  # compiled code tells no names
        return False
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return True
    known = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    strange = [name for name in names if name not in known]
    if strange and len(strange) < len(names):
        raise ModelError(
            f"the forward of {type(model).__name__} takes {', '.join(known)}, but model.inputs "
            f"names {', '.join(names)}; name all as it does, or none, to have them by position"
        )
    return not strange


def _children(answer: Any) -> dict[str, Any]:
    """Return what an answer consists of, by name, or by index where it has no names."""
    if isinstance(answer, Mapping):
        return {str(key): value for key, value in answer.items()}
    if isinstance(answer, tuple) and hasattr(answer, "_fields"):
        return dict(zip(answer._fields, answer, strict=True))
    if isinstance(answer, tuple | list):
        return {str(i): value for i, value in enumerate(answer)}
    if is_dataclass(answer):
        return {field.name: getattr(answer, field.name) for field in fields(answer)}
    return {}


def _tensors(answer: Any, before: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    for name, value in _children(answer).items():
        if isinstance(value, torch.Tensor):
            yield before + name, value
        else:
            yield from _tensors(value, f"{before}{name}.")


def _within(answer: Any, name: str) -> Any:
    """Return a part of an answer by its name or index, None if there is none."""
    parts = _children(answer)
    if name in parts:
        return parts[name]
    if name.removeprefix("-").isdecimal() and -len(parts) <= int(name) < len(parts):
        return list(parts.values())[int(name)]
    first, dot, rest = name.partition(".")
    return _within(_within(answer, first), rest) if dot else None


def _listed(told: Mapping[str, torch.Tensor]) -> str:
    shapes = [f"{name} {list(tensor.shape)}" for name, tensor in told.items()]
    more = f" and {len(shapes) - 8} more" if shapes[8:] else ""
    return ", ".join(shapes[:8]) + more if shapes else "no tensor"
