"""The configured head is the head everywhere, also where it is not the layer registered last."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.helpers.retraining import SETTINGS, World, plan, world
from undrift.evidence import DriftKind
from undrift.train.attempt import attempt
from undrift.train.methods.registry import METHODS
from undrift.train.trainee import Trainee


class HeadFirst(nn.Module):
    """Its head is ``fc``; ``aux``, registered later, answers another question and is not served."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 2)
        self.body = nn.Linear(2, 16)
        self.aux = nn.Linear(16, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.relu(self.body(x)))


@pytest.fixture(scope="module")
def pool_world() -> World:
    return world()


@pytest.mark.thorough
@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_retrains_the_head_that_the_configuration_names(
    pool_world: World, method: str
) -> None:
    torch.manual_seed(1)
    model = HeadFirst()
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    w = pool_world
    made = attempt(
        Trainee(model, "fc"),
        [1],
        lambda _: weights,
        w.pool,
        w.reference,
        replace(plan(method, kind=DriftKind.BOTH), steps=30),
        settings=SETTINGS,
        reference_rows=10,
    )
    assert made.reference.embedding.shape[1] == 16
    assert made.result.blocks[-1].startswith(("fc", "body"))
    assert not torch.equal(made.result.state_dict["fc.weight"], weights["fc.weight"])
