"""Models of many families, through check, serving, retraining and swap."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.families import FAMILIES
from tests.helpers.matrix import checked, retrained, served, world
from undrift.train.methods.registry import METHODS

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
NAMES = list(FAMILIES)


@pytest.mark.parametrize("name", NAMES)
def test_family_is_read_and_served_as_it_answers_by_itself(name: str, tmp_path: Path) -> None:
    inputs = checked(name, tmp_path)
    model, weights, pool, _ = world(name)
    assert set(inputs.weights) == set(weights)
    (answer,) = served(name, [inputs.weights])
    dtype = next(p.dtype for p in model.parameters() if p.is_floating_point())
    with torch.no_grad():
        alone = FAMILIES[name].alone(model.eval(), torch.from_numpy(pool.x[:9].copy()).to(dtype))
    wanted = alone.float().reshape(9, -1)
    if not FAMILIES[name].targets:
        wanted = wanted.softmax(dim=1)
    np.testing.assert_allclose(answer, wanted.numpy(), rtol=1e-5, atol=1e-5)


def check(name: str, method: str) -> None:
    found, before = retrained(name, method)
    model = FAMILIES[name].build()
    trainable = {n for n, p in model.named_parameters(remove_duplicate=False) if p.requires_grad}
    moved = {n for n, value in found.state_dict.items() if not torch.equal(value, before[n])}
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert moved & trainable
    assert not moved & frozen
    assert all(found.state_dict[n].dtype == value.dtype for n, value in before.items())
    first, second = served(name, [before, found.state_dict])
    assert np.isfinite(second).all()
    assert not np.array_equal(first, second)


@pytest.mark.thorough
@pytest.mark.parametrize(("number", "name"), list(enumerate(NAMES)))
def test_family_is_retrained_and_swapped(number: int, name: str) -> None:
    check(name, list(METHODS)[number % len(METHODS)])


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NAMES)
def test_family_is_retrained_by_every_method(name: str, method: str) -> None:
    check(name, method)


def test_page_tells_of_every_family_and_method() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert all(f"| {name} |" in text for name in NAMES)
    assert " | ".join(METHODS) in text
