"""What every retraining method must do, run over each of them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from tests.retraining import SETTINGS, World, plan, world
from undrift.train.methods import METHODS
from undrift.train.retrain import Progress, TrainResult, retrain


@dataclass(frozen=True)
class Trained:
    """One retraining, and what it told and found on its way."""

    result: TrainResult
    seen: list[Progress]
    base: dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def small_world() -> World:
    return world()


@pytest.fixture(scope="module", params=sorted(METHODS))
def method(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def trained(small_world: World, method: str) -> Trained:
    base = {name: t.clone() for name, t in small_world.state.items()}
    seen: list[Progress] = []
    return Trained(run(small_world, method, progress=seen.append), seen, base)


def run(w: World, method: str, seed: int = 5, **how: object) -> TrainResult:
    what = plan(method, seed=seed)
    return retrain(w.model, w.state, w.pool, w.reference, what, settings=SETTINGS, **how)


def test_the_new_regime_is_learnt(small_world: World, method: str, trained: Trained) -> None:
    before = small_world.accuracy(small_world.state, turned=True)
    gained = small_world.accuracy(trained.result.state_dict, turned=True) - before
    # full and random mix in rows whose labels are no longer true, by definition
    assert gained > (0.3 if method in ("bandit", "finetune") else 0.1)


def test_same_plan_and_seed_give_the_same_weights(
    small_world: World, method: str, trained: Trained
) -> None:
    one, two, other = trained.result, run(small_world, method), run(small_world, method, seed=6)
    assert all(torch.equal(t, two.state_dict[n]) for n, t in one.state_dict.items())
    assert not all(torch.equal(t, other.state_dict[n]) for n, t in one.state_dict.items())
    assert one.choices == two.choices


def test_base_weights_are_not_touched(small_world: World, trained: Trained) -> None:
    assert all(torch.equal(t, trained.base[n]) for n, t in small_world.state.items())
    assert not all(torch.equal(t, trained.base[n]) for n, t in trained.result.state_dict.items())


def test_progress_is_reported_to_the_last_step(trained: Trained) -> None:
    seen, result = trained.seen, trained.result
    assert [p.step for p in seen] == sorted(p.step for p in seen)
    assert seen[-1].step == seen[-1].steps == result.steps
    assert seen[-1].flops == result.flops > 0


def test_held_out_rows_are_never_candidates(trained: Trained) -> None:
    chosen = trained.result.chosen
    judged = set(chosen.validation.tolist()) | set(chosen.retention.tolist())
    assert judged
    assert not judged & set(chosen.index.tolist())
