"""Retraining end to end on a small world."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.helpers.retraining import SETTINGS, World, plan, world
from tests.helpers.two_workers import by_two
from undrift.errors import ModelError, TrainingError
from undrift.evidence import DriftKind
from undrift.train.candidate import judge_candidate
from undrift.train.comm import Comm, SingleProcess
from undrift.train.pool import held_out
from undrift.train.result import TrainResult
from undrift.train.retrain import retrain
from undrift.train.trainee import Trainee

SHORT = {"kind": DriftKind.BOTH, "steps": 30}
NO_PROTECTION = {"synapse_strength": 0.0, "neuron_strength": 0.0, "retention_share": 0.0}


@pytest.fixture(scope="module")
def small_world() -> World:
    return world()


def run(
    w: World,
    changes: dict[str, object] | None = None,
    comm: Comm | None = None,
    **settings: object,
) -> TrainResult:
    what = replace(plan(), **(changes or {}))
    tuned = SETTINGS.model_copy(update=settings)
    return retrain(
        Trainee(w.model, comm=comm or SingleProcess()),
        w.state,
        w.pool,
        w.reference,
        what,
        settings=tuned,
    )


@pytest.fixture(scope="module")
def result(small_world: World) -> TrainResult:
    return run(small_world)


@pytest.fixture(scope="module")
def unprotected(small_world: World) -> float:
    """Accuracy on the old regime of a retraining with nothing to keep it."""
    forgetful = run(small_world, {"kind": DriftKind.BOTH}, **NO_PROTECTION)
    return small_world.accuracy(forgetful.state_dict, turned=False)


def test_every_choice_is_logged_with_its_probability(result: TrainResult) -> None:
    log, audit = result.log(), result.audit()
    choices = result.steps // 10
    assert int((log["bandit"] == "block").sum()) == choices
    assert sum(arm["draws"] for arm in audit["block"]) == choices
    assert ((log["probability"] > 0) & (log["probability"] <= 1)).all()
    assert ((log["reward"] >= 0) & (log["reward"] <= 1)).all()


@pytest.mark.thorough
def test_block_selection_spends_fewer_operations(small_world: World) -> None:
    bandit = run(small_world, batch_size=256)  # the guide that it takes is paid for, too
    everything = run(small_world, batch_size=256, block_selection=False)
    assert bandit.steps == everything.steps
    assert bandit.flops < everything.flops


def test_a_short_budget_makes_batches_smaller_and_steps_stay_as_many(small_world: World) -> None:
    whole = run(small_world, batch_size=64, block_selection=False, synapse_strength=0.0)
    third = {"budget": f"{whole.flops / 3:.0f}FLOP"}
    for method, rows in (("bandit", 21), ("random", 64)):
        short = run(
            small_world,
            {**third, "method": method},
            batch_size=64, block_selection=False, synapse_strength=0.0,
        )  # fmt: skip
        assert short.metrics["batch_size"] == pytest.approx(rows, abs=1)
        assert short.steps == pytest.approx(SETTINGS.steps * 64 / 3 / rows, rel=0.1)
        assert short.flops <= whole.flops / 3


@pytest.mark.thorough
@pytest.mark.parametrize("strength", ["synapse_strength", "neuron_strength"])
def test_protection_keeps_what_the_base_model_knows(
    small_world: World, unprotected: float, strength: str
) -> None:
    settings = NO_PROTECTION | {strength: 30.0}
    protected = run(small_world, {"kind": DriftKind.BOTH}, **settings)
    assert small_world.accuracy(protected.state_dict, turned=False) > unprotected + 0.05


@pytest.mark.thorough
def test_pure_concept_drift_switches_protection_off(
    small_world: World, result: TrainResult
) -> None:
    assert result.metrics["protection"] < 0.2
    assert run(small_world, {"kind": DriftKind.COVARIATE}).metrics["protection"] == 1.0


def test_candidate_is_judged_and_gets_a_reference_that_it_never_saw(
    small_world: World, result: TrainResult
) -> None:
    w = small_world
    verdict, reference = judge_candidate(
        Trainee(w.model), w.state, result, w.pool, plan(), settings=SETTINGS
    )
    assert verdict.accepted, verdict.reason
    assert int(reference.recent.sum()) == len(result.chosen.validation)
    trained = {x.tobytes() for x in w.pool.x[result.chosen.index]}
    assert not any(x.tobytes() in trained for x in reference.x[reference.recent])
    w.model.load_state_dict(result.state_dict)
    logits = w.model(torch.as_tensor(reference.x)).softmax(dim=1).detach().numpy()
    assert np.allclose(logits, reference.output, atol=1e-6)
    assert reference.embedding.shape == (len(reference), 16)
    newest = reference.newest
    assert newest is not None
    assert (newest.rows == np.unique(w.pool.row[w.pool.row >= 0])).all()  # trained on or not
    assert newest.recent.sum() == len(result.chosen.validation)
    assert not any(x.tobytes() in trained for x in newest.x[newest.recent])
    assert newest.embedding.shape == (len(newest), 16)


def test_base_version_as_candidate_is_rejected(small_world: World, result: TrainResult) -> None:
    w = small_world
    same = replace(result, state_dict=w.state)
    verdict, _ = judge_candidate(Trainee(w.model), w.state, same, w.pool, plan(), settings=SETTINGS)
    assert not verdict.accepted


def test_unknown_method_is_refused(small_world: World) -> None:
    with pytest.raises(TrainingError, match="unknown method 'magic'; there are bandit"):
        run(small_world, {"method": "magic"})


def test_finetune_without_new_rows_is_refused(small_world: World) -> None:
    shift = {"method": "finetune", "kind": DriftKind.COVARIATE, "regime_start": 10_000}
    with pytest.raises(TrainingError, match="nothing to train on"):
        run(small_world, shift)


def test_label_outside_the_known_classes_is_refused(small_world: World) -> None:
    y = small_world.pool.y.copy()
    y[-1] = 2
    broken = replace(small_world, pool=replace(small_world.pool, y=y))
    with pytest.raises(TrainingError, match="label 2, but the model's head has 2 classes"):
        run(broken)


def test_inputs_that_are_not_finite_end_the_run(small_world: World) -> None:
    x = small_world.pool.x.copy()
    x[~held_out(small_world.pool)] = math.nan
    broken = replace(small_world, pool=replace(small_world.pool, x=x))
    with pytest.raises(TrainingError, match="diverged"):
        run(broken)


def test_model_without_linear_head_is_refused(small_world: World) -> None:
    model = nn.Sequential(nn.Conv1d(1, 2, 1))
    w = replace(small_world, model=model, state=model.state_dict())
    with pytest.raises(ModelError, match=r"no nn\.Linear"):
        run(w)


def short(comm: Comm) -> tuple[object, ...]:
    result = run(world(), SHORT, comm=comm)
    return result.state_dict, list(map(tuple, result.choices))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Compute as workers do by default: sums in another order may end in another draw."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.thorough
@pytest.mark.usefixtures("one_thread")
def test_two_workers_do_what_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (first, choices), (second, others) = by_two(short, tmp_path, monkeypatch)
    base = world()
    one = run(base, SHORT)
    assert choices == others
    assert all(torch.equal(t, second[n]) for n, t in first.items())
    assert [c[:3] for c in choices] == [c[:3] for c in one.choices]
    assert all(torch.allclose(t, first[n], atol=1e-3) for n, t in one.state_dict.items())
    assert not all(torch.equal(t, base.state[n]) for n, t in one.state_dict.items())
