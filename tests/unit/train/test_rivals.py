"""The rival methods, whole: over two workers, and against what they improve on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.helpers.retraining import SETTINGS, World, plan, world
from tests.helpers.two_workers import by_two
from undrift.evidence import DriftKind
from undrift.train.comm import Comm, SingleProcess
from undrift.train.result import TrainResult
from undrift.train.retrain import retrain
from undrift.train.trainee import Trainee

RIVALS = ("replay", "der++", "ewc", "mas", "rho_loss", "gradmatch")


def run(w: World, method: str, steps: int, comm: Comm | None = None) -> TrainResult:
    what = replace(plan(method, kind=DriftKind.BOTH), steps=steps)
    return retrain(
        Trainee(w.model, comm=comm or SingleProcess()),
        w.state,
        w.pool,
        w.reference,
        what,
        settings=SETTINGS,
    )


@pytest.fixture(scope="module")
def small_world() -> World:
    return world()


@pytest.fixture(scope="module")
def forgetful(small_world: World) -> float:
    """Accuracy on the old regime of fine-tuning."""
    found = run(small_world, "finetune", SETTINGS.steps)
    return small_world.accuracy(found.state_dict, turned=False)


@pytest.mark.thorough
@pytest.mark.parametrize("method", ["replay", "der++", "ewc", "mas"])
def test_less_is_forgotten_than_by_fine_tuning(
    small_world: World, forgetful: float, method: str
) -> None:
    found = run(small_world, method, SETTINGS.steps)
    assert small_world.accuracy(found.state_dict, turned=False) > forgetful + 0.05


def all_rivals(comm: Comm) -> dict[str, tuple[object, float]]:
    w = world()
    found = {method: run(w, method, 20, comm) for method in RIVALS}
    return {method: (result.state_dict, result.flops) for method, result in found.items()}


@pytest.mark.thorough
def test_two_workers_do_what_one_does(
    small_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = by_two(all_rivals, tmp_path, monkeypatch)
    for method in RIVALS:
        (weights, flops), (same, spent) = first[method], second[method]
        assert flops == spent
        assert all(torch.equal(t, same[n]) for n, t in weights.items()), method
        one = run(small_world, method, 20)
        assert all(torch.allclose(t, weights[n], atol=1e-3) for n, t in one.state_dict.items()), (
            method
        )
