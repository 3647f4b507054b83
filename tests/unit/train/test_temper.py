"""A start speaks no louder than it is right, and is otherwise left as it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.helpers.retraining import SETTINGS, plan, world
from tests.helpers.setups import NEW, OLD, reference, regression_targets, setup
from undrift.train.retrain import retrain
from undrift.train.setup import Setup
from undrift.train.temper import temper
from undrift.train.trainee import Trainee


class Sure(nn.Module):
    """Names the class of the first input's sign, loudly; the labels are of another column."""

    def __init__(self, loud: float = 20.0) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2, bias=False)
        self.head = nn.Linear(2, 2)
        with torch.no_grad():
            self.first.weight.copy_(torch.eye(2))
            self.head.weight.copy_(loud * torch.tensor([[-1.0, 0.0], [1.0, 0.0]]))
            self.head.bias.fill_(0.3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.first(x))
        return out


def labelled(right: float, loud: float = 20.0) -> Setup:
    """Labels of which a share is as the model says."""
    made = setup(model=Sure(loud))
    rng = np.random.default_rng(0)
    says = (made.x[:, 0] > 0).numpy()
    y = np.where(rng.random(len(says)) < right, says, ~says).astype(np.int64)
    return replace(made, y=torch.as_tensor(y))


def test_what_is_always_wrong_is_silenced() -> None:
    made = labelled(0.0)
    assert temper(made) == 0.0
    assert all(not p.any() for p in made.head.parameters())


def test_what_is_always_right_is_left_as_it_is() -> None:
    made = labelled(1.0)
    before = {name: t.clone() for name, t in made.model.state_dict().items()}
    assert temper(made) == 1.0
    assert all(torch.equal(before[name], t) for name, t in made.model.state_dict().items())


@pytest.mark.parametrize("right", [0.6, 0.9])
def test_what_is_right_more_often_than_the_usual_label_is_left_as_it_is(right: float) -> None:
    assert temper(labelled(right)) == 1.0


def biased(often: float) -> Setup:
    """Four of five labels are of class 1, and the model names class 1 for every other row."""
    made = setup(model=Sure(loud=4.0))
    rng = np.random.default_rng(0)
    says = (made.x[:, 0] > 0).numpy()
    y = rng.random(len(says)) < np.where(says, 0.8 + often, 0.8 - often)
    return replace(made, y=torch.as_tensor(y.astype(np.int64)))


def test_between_it_is_as_loud_as_it_is_right() -> None:
    scales = [temper(biased(often)) for often in (0.05, 0.15)]
    assert 0.0 < scales[0] < scales[1] < 1.0


def test_bias_and_weights_are_scaled_alike_and_features_not_at_all() -> None:
    made = biased(0.15)
    scale = temper(made)
    assert 0.0 < scale < 1.0
    assert made.head.bias[0].item() == pytest.approx(0.3 * scale)
    assert made.head.weight[1, 0].item() == pytest.approx(4.0 * scale)
    assert torch.equal(made.model.first.weight, torch.eye(2))


def test_only_trusted_rows_are_asked() -> None:
    made = labelled(0.0)
    new = np.arange(OLD + NEW) >= OLD
    says = (made.x[:, 0] > 0).long()
    made = replace(made, y=torch.where(torch.arange(len(says)) < OLD, says, 1 - says))
    trusted = replace(made.chosen, weight=np.where(new, 0.0, 1.0))
    assert temper(replace(made, chosen=trusted)) == 1.0
    assert temper(replace(made, chosen=replace(made.chosen, weight=np.where(new, 1.0, 0.0)))) == 0.0


def test_a_class_that_it_never_knew_is_nothing_to_be_wrong_about() -> None:
    made = labelled(0.0)
    one = reference(made.reference.x, np.zeros_like(made.reference.y))
    rows_of_the_other = replace(made, y=torch.ones_like(made.y), reference=one)
    assert temper(rows_of_the_other) == 1.0


def test_numbers_shared_frozen_and_inner_heads_are_left_alone() -> None:
    assert temper(setup(y=regression_targets(2))) == 1.0
    frozen = labelled(0.0)
    frozen.head.weight.requires_grad_(False)
    assert temper(frozen) == 1.0
    shared = labelled(0.0)
    shared.model.first.weight = shared.head.weight
    assert temper(shared) == 1.0
    inner = setup(model=nn.Sequential(nn.Linear(2, 2), nn.Tanh()))
    assert temper(inner) == 1.0
    assert inner.head.weight.any()


@pytest.mark.thorough
@pytest.mark.parametrize("method", ["bandit", "random", "finetune"])
def test_a_world_turned_upside_down_is_learnt(method: str) -> None:
    """Without it a start that is sure ends with a constant answer."""
    small = world()
    live = small.pool.row >= 0
    pool = replace(small.pool, y=np.where(live, 1 - (small.pool.x[:, 0] > 0), small.pool.y))
    loud = {n: 40.0 * t if n.startswith("4") else t for n, t in small.state.items()}
    result = retrain(
        Trainee(small.model), loud, pool, small.reference, plan(method), settings=SETTINGS
    )
    assert small.accuracy(result.state_dict, turned=False) < 0.1
