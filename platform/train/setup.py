"""What a retraining begins with, and what its method builds on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from undrift.records import Reference
from undrift.train.blocks import Blocks
from undrift.train.budget import Meter
from undrift.train.comm import Comm
from undrift.train.guide import Guide
from undrift.train.objective import Objective
from undrift.train.plan import RetrainPlan
from undrift.train.pool import Split
from undrift.train.settings import TrainSettings
from undrift.train.trainee import Trainee


@dataclass(frozen=True, slots=True)
class Setup:
    """One retraining before its first step; the model has the weights that it starts from.

    Attributes:
        trainee: The model, on the device of ``x``, its head, and the other workers.
        blocks: The model as blocks.
        objective: What it is trained for.
        x: (n, *input_shape) inputs of the pool.
        y: (n,) targets of the pool.
        chosen: Which rows of the pool are used, and for what.
        guide: The loss that guides choices.
        reference: Reference of the base version.
        plan: What to do.
        settings: How to do it.
        meter: Where whatever costs compute is counted.
    """

    trainee: Trainee
    blocks: Blocks
    objective: Objective
    x: torch.Tensor
    y: torch.Tensor
    chosen: Split
    guide: Guide
    reference: Reference
    plan: RetrainPlan
    settings: TrainSettings
    meter: Meter

    @property
    def model(self) -> nn.Module:
        """The model that is trained."""
        return self.trainee.model

    @property
    def head(self) -> nn.Linear:
        """Its head, whose input is the embedding."""
        return self.trainee.layer

    @property
    def comm(self) -> Comm:
        """The other workers."""
        return self.trainee.comm
