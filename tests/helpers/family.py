"""What a family of models is: a function that builds one, and what goes in and out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from undrift.model.door import Door
from undrift.model.layout import Layout
from undrift.model.settings import InputSettings

CLASSES = 3


def told(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return the logits of a model that takes one tensor and answers one."""
    return model(x)


@dataclass(frozen=True)
class Family:
    """A model and the shape of its rows.

    Attributes:
        build: Returns a new model; seeded, so that all are alike.
        shape: Of one row.
        head: Its head, as ``model.embedding`` names it.
        tokens: Rows are whole numbers from 0 to 19.
        inputs: Its named inputs, instead of the shape; whole numbers of them are from 0 to 19.
        output: Which part of its answer are the logits, as ``model.output`` names it.
        alone: Returns its logits without undrift, of rows as they are stored.
        targets: Numbers that it answers to a row; 0 where it answers classes.
    """

    build: Callable[[], nn.Module]
    shape: tuple[int, ...] = (6,)
    head: str = "auto"
    tokens: bool = False
    inputs: tuple[InputSettings, ...] = ()
    output: str | int | None = None
    alone: Callable[[nn.Module, torch.Tensor], torch.Tensor] = told
    targets: int = 0

    @property
    def layout(self) -> Layout | None:
        return Layout(self.inputs) if self.inputs else None

    @property
    def door(self) -> Door:
        """How it is asked."""
        numbers = self.targets > 0
        return Door(None if numbers else CLASSES, self.output, self.layout, numbers=numbers)
