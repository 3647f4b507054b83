"""Strata by clusters of what the start model sees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.helpers.retraining import SETTINGS, World, plan, world
from tests.helpers.setups import setup
from undrift.errors import TrainingError
from undrift.train.methods.clusters import by_cluster
from undrift.train.result import TrainResult
from undrift.train.retrain import retrain
from undrift.train.setup import Setup
from undrift.train.trainee import Trainee

CLUSTERED = SETTINGS.model_copy(update={"strata": "cluster"})


@pytest.fixture(scope="module")
def small_world() -> World:
    return world()


def run(w: World, *, selected: bool = True, budget: str = "", seed: int = 5) -> TrainResult:
    settings = CLUSTERED.model_copy(update={"sample_selection": selected})
    what = replace(plan(seed=seed), steps=20, budget=budget)
    return retrain(Trainee(w.model), w.state, w.pool, w.reference, what, settings=settings)


def embedding(s: Setup) -> np.ndarray:
    body = s.model[:-1]
    assert isinstance(body, nn.Sequential)
    with torch.no_grad():
        return body(s.x[s.chosen.index]).numpy()


def test_rows_of_a_cluster_are_alike_to_the_model() -> None:
    before = setup(old=200, new=200)
    after = by_cluster(before)
    chosen = after.chosen
    assert len(chosen.strata) <= 16
    assert all("rows" in name and "cluster" in name for name in chosen.strata)
    seen = embedding(after)[chosen.new]
    stratum = chosen.stratum[chosen.new]
    within = sum(seen[stratum == s].var(axis=0).sum() * (stratum == s).sum() for s in set(stratum))
    assert within / len(seen) < 0.5 * seen.var(axis=0).sum()


def test_clusters_never_mix_old_and_new_rows() -> None:
    chosen = by_cluster(setup(old=200, new=200)).chosen
    assert not set(chosen.stratum[chosen.new]) & set(chosen.stratum[~chosen.new])


def test_the_pass_over_the_candidates_is_counted() -> None:
    before = setup(old=200, new=200)
    spent = by_cluster(before).meter.flops
    assert spent == 400 * before.blocks.forward_flops


def test_a_model_that_sees_all_rows_alike_has_one_cluster_for_each_segment() -> None:
    before = setup(old=200, new=200)
    for parameter in before.model.parameters():
        parameter.data.zero_()
    assert len(by_cluster(before).chosen.strata) == 2


def test_the_bandit_chooses_clusters_and_their_names_are_in_the_audit(small_world: World) -> None:
    result = run(small_world)
    assert any("cluster" in name for name in result.chosen.strata)
    again = run(small_world)
    assert result.choices == again.choices
    assert all(torch.equal(t, again.state_dict[n]) for n, t in result.state_dict.items())


def test_without_sample_selection_no_clusters_are_made(small_world: World) -> None:
    assert not any("cluster" in name for name in run(small_world, selected=False).chosen.strata)


def test_clusters_are_paid_from_the_budget(small_world: World) -> None:
    budget = 0.9 * run(small_world).flops
    assert 0.8 * budget < run(small_world, budget=f"{budget}FLOP").flops <= budget


def test_an_embedding_that_is_not_finite_is_refused() -> None:
    before = setup(old=200, new=200)
    before.x[3] = torch.nan
    with pytest.raises(TrainingError, match="not finite for 1 of 400 candidates"):
        by_cluster(before)
