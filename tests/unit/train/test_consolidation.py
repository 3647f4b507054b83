"""EWC and MAS against their definitions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.helpers.retraining import network
from tests.helpers.setups import reference, regression_targets, setup
from undrift.train.methods.consolidation import AwareSynapses, Consolidation, ElasticWeights

BOTH = pytest.mark.parametrize("method", [ElasticWeights, AwareSynapses])


def linear() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 2, bias=False))


def cost_of_moving(penalty: Consolidation, model: nn.Module, column: int) -> float:
    """The penalty when one column of weights has moved by 1."""
    with torch.no_grad():
        model[0].weight[:, column] += 1.0
        cost = penalty.term(None).item()
        model[0].weight[:, column] -= 1.0
    return cost


@pytest.mark.parametrize(("method", "ratio"), [(ElasticWeights, 9.0), (AwareSynapses, 3.0)])
def test_importance_is_a_squared_or_an_absolute_gradient(
    method: type[Consolidation], ratio: float
) -> None:
    model = linear()
    x = np.array([[1.0, 3.0], [-1.0, -3.0]] * 10, np.float32)  # gradients that cancel in a batch
    s = replace(setup(model=model), reference=reference(x, np.zeros(20, np.int64)))
    penalty = method(s)
    costs = [cost_of_moving(penalty, model, column) for column in (0, 1)]
    assert costs[1] / costs[0] == pytest.approx(ratio, rel=1e-4)


def test_fisher_information_is_that_of_the_models_own_answers() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    # Rows (a, 1): the Fisher information of a weight is p (1 - p) times its input squared.
    a = np.repeat([0.0, 4.0], 128)
    x = np.stack([a, np.ones(256)], axis=1).astype(np.float32)
    s = replace(setup(model=model), reference=reference(x, np.zeros(256, np.int64)))
    penalty = ElasticWeights(s)
    p = 1.0 / (1.0 + np.exp(-a))
    fisher = p * (1.0 - p)
    expected = (fisher * a**2).mean() / fisher.mean()
    ratio = cost_of_moving(penalty, model, 0) / cost_of_moving(penalty, model, 1)
    assert ratio == pytest.approx(expected, rel=0.5)


@BOTH
def test_moving_all_weights_by_their_size_costs_half_the_strength(
    method: type[Consolidation],
) -> None:
    s = setup()
    penalty = method(s)
    assert penalty.term(None).item() == 0.0
    with torch.no_grad():
        for p in s.model.parameters():
            p *= 2.0
    assert penalty.term(None).item() == pytest.approx(method.strength / 2.0, rel=1e-4)


@BOTH
def test_labels_of_the_reference_do_not_matter(method: type[Consolidation]) -> None:
    costs = []
    for label in (0, 1):
        s = setup()
        y = np.full(len(s.reference), label)
        penalty = method(replace(s, reference=replace(s.reference, y=y)))
        with torch.no_grad():
            s.model[0].weight += 0.1
        costs.append(penalty.term(None).item())
    assert costs[0] == costs[1] > 0.0


@BOTH
def test_numbers_are_protected_as_classes_are(method: type[Consolidation]) -> None:
    s = setup(y=regression_targets())
    penalty = method(s)
    with torch.no_grad():
        s.model[0].weight *= 2.0
    assert penalty.term(None).item() > 0.0


@BOTH
def test_weights_that_do_not_train_are_left_out(method: type[Consolidation]) -> None:
    s = setup()
    penalty = method(s)
    for p in s.model.parameters():
        p.requires_grad_(False)
    assert penalty.term(None) is None


@BOTH
def test_measuring_is_counted_and_leaves_the_model_as_it_was(method: type[Consolidation]) -> None:
    model = network()
    s = setup(model=model)
    before = [p.clone() for p in model.parameters()]
    method(s)
    assert s.meter.flops == len(s.reference) * s.blocks.step_flops(0)
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@BOTH
def test_without_a_reference_nothing_is_protected(method: type[Consolidation]) -> None:
    s = setup()
    assert method(replace(s, reference=s.reference.take(np.arange(0)))).term(None) is None
