"""What every retraining method must do, run over each of them."""

from __future__ import annotations

import pytest
import torch

from tests.retraining import SETTINGS, World, plan, world
from undrift.train.methods import METHODS
from undrift.train.retrain import Progress, TrainResult, retrain


@pytest.fixture(scope="module")
def small_world() -> World:
    return world()


@pytest.fixture(params=sorted(METHODS))
def method(request: pytest.FixtureRequest) -> str:
    return request.param


def run(small_world: World, method: str, seed: int = 5, **how: object) -> TrainResult:
    w = small_world
    return retrain(
        w.model, w.state, w.pool, w.reference, plan(method, seed=seed), settings=SETTINGS, **how
    )


def test_the_new_regime_is_learnt(small_world: World, method: str) -> None:
    result = run(small_world, method)
    before = small_world.accuracy(small_world.state, turned=True)
    gained = small_world.accuracy(result.state_dict, turned=True) - before
    # full and random mix in rows whose labels are no longer true, by definition
    assert gained > (0.3 if method in ("bandit", "finetune") else 0.1)


def test_same_plan_and_seed_give_the_same_weights(small_world: World, method: str) -> None:
    one, two, other = (run(small_world, method, seed=s) for s in (5, 5, 6))
    assert all(torch.equal(t, two.state_dict[n]) for n, t in one.state_dict.items())
    assert not all(torch.equal(t, other.state_dict[n]) for n, t in one.state_dict.items())
    assert one.choices == two.choices


def test_base_weights_are_not_touched(small_world: World, method: str) -> None:
    before = {n: t.clone() for n, t in small_world.state.items()}
    run(small_world, method)
    assert all(torch.equal(t, before[n]) for n, t in small_world.state.items())


def test_progress_is_reported_to_the_last_step(small_world: World, method: str) -> None:
    seen: list[Progress] = []
    result = run(small_world, method, progress=seen.append)
    assert [p.step for p in seen] == sorted(p.step for p in seen)
    assert seen[-1].step == seen[-1].steps == result.steps
    assert seen[-1].flops == result.flops > 0


def test_held_out_rows_are_never_candidates(small_world: World, method: str) -> None:
    chosen = run(small_world, method).chosen
    judged = set(chosen.validation.tolist()) | set(chosen.retention.tolist())
    assert judged
    assert not judged & set(chosen.index.tolist())
