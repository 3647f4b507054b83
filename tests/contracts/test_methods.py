"""What every retraining method must do, run over each of them."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from tests.helpers.retraining import SETTINGS, World, plan, world
from undrift.errors import TrainingError
from undrift.train.methods.registry import METHODS
from undrift.train.result import Progress, TrainResult
from undrift.train.retrain import retrain
from undrift.train.trainee import Trainee

pytestmark = pytest.mark.thorough


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


@pytest.fixture(scope="module")
def short(small_world: World, method: str, trained: Trained) -> tuple[str, TrainResult]:
    """A fifth of the same run: what is said of every step shows in it as well."""
    budget = f"{trained.result.flops / 5}FLOP"
    return budget, run(small_world, method, budget=budget)


def run(w: World, method: str, seed: int = 5, budget: str = "", **how: object) -> TrainResult:
    what = replace(plan(method, seed=seed), budget=budget)
    return retrain(Trainee(w.model), w.state, w.pool, w.reference, what, settings=SETTINGS, **how)


def test_the_new_regime_is_learnt(small_world: World, method: str, trained: Trained) -> None:
    before = small_world.accuracy(small_world.state, turned=True)
    gained = small_world.accuracy(trained.result.state_dict, turned=True) - before
    # the others mix in rows whose labels are no longer true, or move few weights, by definition
    assert gained > (0.3 if method in ("bandit", "finetune") else 0.02)


def test_same_plan_and_seed_give_the_same_weights(
    small_world: World, method: str, short: tuple[str, TrainResult]
) -> None:
    budget, one = short
    two, other = (run(small_world, method, seed=seed, budget=budget) for seed in (5, 6))
    assert all(torch.equal(t, two.state_dict[n]) for n, t in one.state_dict.items())
    assert not all(torch.equal(t, other.state_dict[n]) for n, t in one.state_dict.items())
    assert one.choices == two.choices


def test_base_weights_are_not_touched(small_world: World, trained: Trained) -> None:
    assert all(torch.equal(t, trained.base[n]) for n, t in small_world.state.items())
    assert not all(torch.equal(t, trained.base[n]) for n, t in trained.result.state_dict.items())


def test_progress_is_reported_to_the_last_step(trained: Trained) -> None:
    seen, result = trained.seen, trained.result
    assert [p.step for p in seen] == sorted(p.step for p in seen)
    assert [p.share for p in seen] == sorted(p.share for p in seen)
    assert seen[-1].step == result.steps
    assert seen[-1].share == 1.0
    assert seen[-1].flops == result.flops > 0


class KilledError(Exception):
    """What ends a run in the middle, as a kill would."""


class Kept:
    """Checkpoints in memory that pass through a file's bytes; fails after some rounds."""

    def __init__(self, rounds: int) -> None:
        self.rounds, self.saved = rounds, b""

    def load(self) -> dict[str, Any] | None:
        return torch.load(io.BytesIO(self.saved), weights_only=True) if self.saved else None

    def offer(self, state: Callable[[], dict[str, Any]]) -> None:
        buffer = io.BytesIO()
        torch.save(state(), buffer)
        self.saved = buffer.getvalue()
        self.rounds -= 1
        if not self.rounds:
            raise KilledError


def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(
    small_world: World, method: str, short: tuple[str, TrainResult]
) -> None:
    kept, (budget, whole) = Kept(rounds=2), short
    with pytest.raises(KilledError):
        run(small_world, method, budget=budget, checkpoints=kept)
    resumed = run(small_world, method, budget=budget, checkpoints=kept)
    assert all(torch.equal(t, resumed.state_dict[n]) for n, t in whole.state_dict.items())
    assert resumed.choices == whole.choices
    assert (resumed.steps, resumed.flops) == (whole.steps, whole.flops)


def test_a_budget_of_operations_is_spent_and_not_exceeded(
    small_world: World, method: str, trained: Trained
) -> None:
    budget = 0.4 * trained.result.flops
    spent = run(small_world, method, budget=f"{budget}FLOP").flops
    assert 0.9 * budget < spent <= budget


def test_a_budget_that_covers_no_step_is_refused(small_world: World, method: str) -> None:
    with pytest.raises(TrainingError, match="does not cover one step"):
        run(small_world, method, budget="1 FLOP")


def test_held_out_rows_are_never_candidates(trained: Trained) -> None:
    chosen = trained.result.chosen
    judged = set(chosen.validation.tolist()) | set(chosen.retention.tolist())
    assert judged
    assert not judged & set(chosen.index.tolist())
