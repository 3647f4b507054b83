"""Models of many families, through check, serving, retraining and swap."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers import matrix
from tests.helpers.families import FAMILIES
from tests.helpers.matrix import checked, come_through, page, served, world
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


@pytest.mark.thorough
@pytest.mark.parametrize(("number", "name"), list(enumerate(NAMES)))
def test_family_is_retrained_and_swapped(number: int, name: str) -> None:
    come_through(name, list(METHODS)[number % len(METHODS)])


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NAMES)
def test_family_is_retrained_by_every_method(name: str, method: str) -> None:
    come_through(name, method)


def test_page_tells_of_every_family_and_method() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert all(f"| {name} | {' | '.join(['yes'] * (len(METHODS) + 1))} |" in text for name in NAMES)
    assert " | ".join(METHODS) in text


def test_page_goes_on_where_it_was_cut_off_and_tells_what_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = NAMES[:2]
    monkeypatch.setattr(matrix, "METHODS", {"finetune": METHODS["finetune"]})
    monkeypatch.setattr(matrix, "FAMILIES", {one: FAMILIES[one], other: None})
    with pytest.raises(AttributeError):
        page(tmp_path)
    (kept,) = (file for file in tmp_path.rglob("*") if file.is_file())
    kept.write_text(f"| {one} | kept |", encoding="utf-8")
    worse = replace(FAMILIES[other], head="none")
    monkeypatch.setattr(matrix, "FAMILIES", {one: FAMILIES[one], other: worse})
    lines = page(tmp_path).splitlines()
    assert lines[-2] == f"| {one} | kept |"
    assert lines[-1].count("the head 'none' is not an nn.Linear layer") == 2
    monkeypatch.setattr(matrix, "code_digest", lambda: "of other code")
    assert page(tmp_path).splitlines()[-2] == f"| {one} | yes | yes |"
