"""The model that is retrained, its head, and where: one value, so that no step can lose a part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import nn

from undrift.model.door import door_of
from undrift.model.network import ask, blamed, find_head, load_weights
from undrift.records import FloatArray, IntArray
from undrift.train.blocks import Blocks
from undrift.train.comm import Comm, SingleProcess
from undrift.train.objective import Objective
from undrift.train.scoring import score


@dataclass(frozen=True)
class Trainee:
    """What every step of a retraining works on.

    Attributes:
        model: A model of the right architecture; its weights are overwritten.
        head: Name of the linear layer whose input is the embedding; ``auto`` is the last one.
        device: Where the model runs.
        comm: The other workers; none by default.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> Trainee(net).layer.in_features, Trainee(net, head="0").layer.in_features
        (8, 4)
    """

    model: nn.Module
    head: str = "auto"
    device: torch.device | str = "cpu"
    comm: Comm = field(default_factory=SingleProcess)

    @cached_property
    def head_name(self) -> str:
        """Name of the head.

        Raises:
            ModelError: The model has no such linear layer.
        """
        return find_head(self.model, self.head)[0]

    @cached_property
    def layer(self) -> nn.Linear:
        """The head.

        Raises:
            ModelError: The model has no such linear layer.
        """
        return find_head(self.model, self.head)[1]

    @property
    def numbers(self) -> IntArray | None:
        """Columns of a row that are numbers, which have distances; None for all."""
        layout = door_of(self.model).layout
        return None if layout is None else layout.numbers

    def check(self, x: FloatArray) -> None:
        """Try on a few rows what a retraining needs: its head, an order of layers, gradients.

        The model is left in training mode, in which some answer otherwise.

        Raises:
            ModelError: The model fails.
            TrainingError: It cannot be trained.
        """
        rows = torch.as_tensor(x, device=self.device)
        Blocks(self.model, rows, self.head)
        self.model.train()
        for _ in range(2):  # the second pass fails if the model keeps what the first one computed
            answer = ask(self.model, rows).sum()
            with blamed(self.model):
                answer.backward()
        self.model.zero_grad(set_to_none=True)

    def like(self, model: nn.Module) -> Trainee:
        """Return the same with another model of the same architecture."""
        return replace(self, model=model)

    def load(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Give the model these weights, and bring it to its device.

        Raises:
            ModelError: They do not fit.
        """
        load_weights(self.model, weights)
        self.model.to(self.device)

    def score(
        self, x: FloatArray, objective: Objective | None = None, **options: Any
    ) -> tuple[FloatArray, FloatArray]:
        """Return answers and embeddings of rows; see `scoring.score`."""
        return score(
            self.model, x, objective=objective, head=self.head, device=self.device, **options
        )
