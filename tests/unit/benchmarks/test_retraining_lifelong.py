from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.retraining import base, lifelong
from benchmarks.retraining.task import Rows


def cloud(shift: float, n: int, rng: np.random.Generator) -> Rows:
    """Ten classes round a circle, turned by ``shift`` radians."""
    y = rng.integers(10, size=n)
    angle = 2 * np.pi * y / 10 + shift
    x = 4 * np.stack([np.cos(angle), np.sin(angle)], 1) + 0.5 * rng.normal(size=(n, 2))
    where = np.full((n, 1), shift)  # so that all tasks can be known at once
    return Rows(np.hstack([x, 3 * where]).astype(np.float32), y.astype(np.int64))


def network() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(3, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))


@pytest.fixture
def first() -> tuple[torch.nn.Module, Rows, list[lifelong.Part]]:
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    model = network()
    base.fit(model, cloud(0.0, 2_000, rng), 8, 0)
    parts = [(cloud(shift, lifelong.ROWS, rng), cloud(shift, 300, rng)) for shift in (0.0, 0.9)]
    return model, cloud(0.0, 400, rng), parts


@pytest.mark.thorough
def test_loop_learns_each_task_and_says_what_answers_at_its_end(
    first: tuple[torch.nn.Module, Rows, list[lifelong.Part]],
) -> None:
    found = lifelong.looped(*first, "random", 4.0, 0)
    assert [len(row) for row in found["accuracy"]] == [1, 2]
    assert found["accuracy"][0][0] > 0.9
    assert found["accuracy"][1][1] > 0.5  # the first model knows a tenth of it
    assert found["accepted"] >= 1
    assert found["flops"][0] == 0 < found["flops"][1]
    assert found["cpu_s"][1] > 0


@pytest.mark.thorough
def test_training_anew_spends_ten_passes_over_all_so_far_and_frozen_nothing(
    first: tuple[torch.nn.Module, Rows, list[lifelong.Part]],
) -> None:
    model, reference, parts = first
    row = lifelong.row_flops(model, reference.x)
    frozen = lifelong.anew(model, reference, parts, False, 0)
    found = lifelong.anew(model, reference, parts, True, 0)
    rows = [0, 2 * lifelong.ROWS + 400]
    assert found["flops"] == [lifelong.EPOCHS * n * row for n in rows]
    assert frozen["flops"] == [0.0] * 2
    assert found["retrainings"] == 1
    assert np.mean(found["accuracy"][-1]) > np.mean(frozen["accuracy"][-1]) + 0.1


def test_what_answers_is_the_version_asked_first_for_a_row() -> None:
    x, y = np.zeros((4, 3), np.float32), np.zeros(4, np.int64)
    model = network()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    shelf = lifelong.Watched(model, weights, x, y)
    shelf.add(weights, shelf.reference(1))
    shelf.answers(2, x, 0, 2)
    shelf.answers(1, x, 0, 2)  # the former version, asked beside it
    assert shelf.live == 2
    shelf.answers(1, x, 2, 4)
    assert shelf.live == 1
