"""The two importance penalties, checked against their definitions."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.helpers.retraining import network
from undrift.evidence import DriftKind
from undrift.train.methods.importance import Importance
from undrift.train.methods.protection import justified
from undrift.train.objective import Classification

KNOWLEDGE = Classification().knowledge


def test_both_penalties_are_zero_at_the_base_model() -> None:
    model, x = network(), torch.randn(40, 2)
    importance = Importance(model, x, KNOWLEDGE)
    index = torch.arange(10)
    activations: dict[int, torch.Tensor] = {}
    with importance.recording(activations):
        model(importance.x[index])
    assert importance.synapse().item() == 0.0
    assert importance.neuron(activations, index).item() / 10 == pytest.approx(0.0, abs=1e-12)


def test_synapse_importance_is_per_row_and_does_not_cancel() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 2, bias=False))
    x = torch.tensor([[1.0], [-1.0]])
    importance = Importance(model, x, KNOWLEDGE)
    with torch.no_grad():
        model[0].weight *= 1.5
    # one layer whose every weight moved by half its size: with equal importance that is 0.25
    assert importance.synapse().item() == pytest.approx(0.25, rel=1e-4)


def test_a_synapse_that_no_input_uses_may_move_for_free() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False))
    x = torch.tensor([[1.0, 0.0], [2.0, 0.0]])
    importance = Importance(model, x, KNOWLEDGE)
    with torch.no_grad():
        model[0].weight[:, 1] += 5.0
    assert importance.synapse().item() == 0.0


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_penalties_do_not_depend_on_the_units_of_the_input(scale: float) -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(3, 4)), torch.randn(64, 3)
    with torch.no_grad():
        model[0].bias.zero_()
    model[0].bias.requires_grad_(False)
    importance = Importance(model, x * scale, KNOWLEDGE)
    with torch.no_grad():
        model[0].weight *= 1.1
    index = torch.arange(64)
    activations: dict[int, torch.Tensor] = {}
    with importance.recording(activations):
        model(importance.x)
    spread = (importance.x @ model[0].weight.T).var(dim=0, correction=0)
    assert spread.min() > 0
    assert importance.neuron(activations, index).item() / 64 == pytest.approx(0.01, rel=0.3)


def test_neuron_penalty_falls_on_the_rows_that_the_index_names() -> None:
    torch.manual_seed(0)
    model, x = network(), torch.randn(30, 2)
    importance = Importance(model, x, KNOWLEDGE)
    index = torch.tensor([7, 3])
    activations: dict[int, torch.Tensor] = {}
    with importance.recording(activations):
        model(torch.cat([torch.randn(5, 2), importance.x[index]]))
    assert importance.neuron(activations, index).item() / 2 == pytest.approx(0.0, abs=1e-10)
    assert importance.neuron(activations, torch.tensor([3, 7])).item() > 1e-3


def test_measuring_leaves_the_model_as_it_was() -> None:
    model = network().train()
    model[0].weight.requires_grad_(False)
    before = [p.clone() for p in model.parameters()]
    Importance(model, torch.randn(300, 2), KNOWLEDGE)
    assert model.training
    assert not model[0].weight.requires_grad
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_at_most_128_rows_are_measured() -> None:
    assert len(Importance(network(), torch.randn(1000, 2), KNOWLEDGE).x) <= 128


@pytest.mark.parametrize(
    ("kind", "accuracy", "expected"),
    [
        (DriftKind.COVARIATE, 0.1, 1.0),
        (DriftKind.NONE, 0.1, 1.0),
        (DriftKind.CONCEPT, 0.1, 0.0),
        (DriftKind.CONCEPT, 0.7, 0.5),
        (DriftKind.BOTH, 0.7, 0.75),
    ],
)
def test_protection_falls_with_what_the_base_model_gets_wrong(
    kind: DriftKind, accuracy: float, expected: float
) -> None:
    assert justified(kind, accuracy, 0.9, chance=0.5) == pytest.approx(expected)
