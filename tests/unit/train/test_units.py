"""Numbers are learnt alike whatever unit they are measured in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.helpers.retraining import SETTINGS, World, plan, rows, world
from undrift.evidence import DriftKind
from undrift.records import Reference
from undrift.train.attempt import Attempt, attempt
from undrift.train.objective import Regression
from undrift.train.scoring import score
from undrift.train.trainee import Trainee
from undrift.train.units import in_units

pytestmark = pytest.mark.thorough
HEAD = ("4.weight", "4.bias")


class Times(nn.Module):
    """A layer that multiplies by a constant, as models do that undo a normalisation."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor


@pytest.fixture(scope="module")
def numbers() -> World:
    return world(numbers=True)


def in_another_unit(w: World, factor: float) -> World:
    """Return the same world with targets, answers and weights of the head times a factor."""

    def times(reference: Reference) -> Reference:
        return replace(
            reference, y=reference.y * np.float32(factor), output=reference.output * factor
        )

    state = {name: t * factor if name in HEAD else t.clone() for name, t in w.state.items()}
    pool = replace(w.pool, y=w.pool.y * np.float32(factor))
    return World(w.model, state, pool, times(w.reference), numbers=True)


def tried(w: World, model: nn.Module | None = None, method: str = "bandit") -> Attempt:
    return attempt(
        Trainee(model or w.model, "4"),
        [1],
        lambda _: w.state,
        w.pool,
        w.reference,
        plan(method, DriftKind.BOTH),
        settings=SETTINGS,
        reference_rows=20,
    )


@pytest.mark.parametrize("method", ["bandit", "der++", "ewc"])
@pytest.mark.parametrize("exponent", [-12, 12])
def test_a_unit_that_is_a_power_of_two_changes_no_bit(
    numbers: World, exponent: int, method: str
) -> None:
    factor = 2.0**exponent
    plain, other = (
        tried(numbers, method=method),
        tried(in_another_unit(numbers, factor), method=method),
    )
    for name, tensor in plain.result.state_dict.items():
        moved = other.result.state_dict[name]
        assert torch.equal(moved, tensor * factor if name in HEAD else tensor), name
    assert plain.verdict.metrics == other.verdict.metrics
    np.testing.assert_array_equal(plain.reference.output * factor, other.reference.output)
    np.testing.assert_array_equal(plain.reference.y * factor, other.reference.y)
    assert plain.reference.newest is not None
    assert other.reference.newest is not None
    np.testing.assert_array_equal(
        plain.reference.newest.output * factor, other.reference.newest.output
    )


@pytest.mark.parametrize("factor", [1e-4, 300.0, 1e6])
def test_numbers_of_any_size_are_learnt(numbers: World, factor: float) -> None:
    w = in_another_unit(numbers, factor)
    made = tried(w)
    assert made.verdict.accepted, made.verdict.reason
    w.model.load_state_dict(made.result.state_dict)
    x, y = rows(1000, turned=True, seed=98, numbers=True)
    said = score(w.model, x, objective=Regression())[0]
    assert Regression().quality(said, y * np.float32(factor)) > 0.8


def test_a_model_that_undoes_a_normalisation_itself_is_learnt_alike(numbers: World) -> None:
    w = in_another_unit(numbers, 512.0)
    model = nn.Sequential(*numbers.model, Times(512.0))
    state = {name: t.clone() for name, t in numbers.state.items()}
    undoing = World(model, state, w.pool, w.reference, numbers=True)
    made, plain = tried(undoing, model, "finetune"), tried(numbers, method="finetune")
    for name, tensor in plain.result.state_dict.items():
        assert torch.equal(made.result.state_dict[name], tensor), name
    x = rows(10, turned=True, seed=97, numbers=True)[0]
    with torch.no_grad():
        alone = model(torch.from_numpy(x))
    np.testing.assert_array_equal(score(model, x, objective=Regression())[0], alone.numpy())


def test_several_outputs_have_a_unit_each(numbers: World) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
    y = np.column_stack([numbers.pool.y, 1000.0 * numbers.pool.y]).astype(np.float32)
    pool = replace(numbers.pool, y=y)
    base = {name: t.clone() for name, t in model.state_dict().items()}
    with in_units(Trainee(model), pool, base) as units:
        assert units is not None
        assert units.unit.tolist() == [1.0, 1024.0]
        assert np.allclose(units.pool(pool).y.std(axis=0), 1.0, rtol=0.5)
        scaled = units.weights(lambda _: base)(1)
        assert torch.equal(scaled["2.weight"][1] * 1024.0, base["2.weight"][1])


def test_classes_have_no_unit(numbers: World) -> None:
    pool = replace(numbers.pool, y=(numbers.pool.y > 0).astype(np.int64))
    with in_units(Trainee(numbers.model), pool, numbers.state) as units:
        assert units is None
