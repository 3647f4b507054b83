"""Reducible-loss selection."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.helpers.retraining import SETTINGS
from tests.helpers.setups import NEW, OLD, setup
from undrift.train.methods.rho_loss import _CANDIDATES, ReducibleLossSampler, irreducible_losses
from undrift.train.setup import Setup

NEW_ONLY = np.repeat([0.0, 1.0], [OLD, NEW])


def begun(s: Setup) -> ReducibleLossSampler:
    sampler = ReducibleLossSampler(s)
    sampler.begin_round(0.0)
    return sampler


def mislabelled(share: float) -> tuple[Setup, np.ndarray]:
    """New rows alone are candidates; some have the other class."""
    s = setup(weight=NEW_ONLY)
    wrong = np.flatnonzero(np.random.default_rng(0).random(OLD + NEW) < share)
    s.y[wrong] = 1 - s.y[wrong]
    return replace(s, plan=replace(s.plan, steps=1500)), wrong


@pytest.mark.thorough
def test_labels_that_cannot_be_foreseen_are_irreducible() -> None:
    s, wrong = mislabelled(0.2)
    rows = np.arange(OLD, OLD + NEW)
    losses = irreducible_losses(s, rows, np.full(NEW, 1.0 / NEW)).numpy()
    noise = np.isin(rows, wrong)
    # A model that was trained on a row would have learnt its label by heart.
    assert np.median(losses[noise]) > 1.0
    assert np.median(losses[~noise]) < 0.3


@pytest.mark.thorough
def test_rows_with_wrong_labels_are_avoided() -> None:
    s, wrong = mislabelled(0.2)
    sampler = begun(s)
    drawn = np.concatenate([sampler.draw(32).index for _ in range(20)])
    assert np.isin(drawn, wrong).mean() < 0.05  # 0.19 of the candidates


def test_the_largest_reducible_losses_are_kept() -> None:
    s = setup(weight=NEW_ONLY)
    sampler = begun(s)
    kept = sampler.draw(NEW // _CANDIDATES).index  # so many that every candidate is looked at
    rows = np.arange(OLD, OLD + NEW)
    irreducible = sampler.state()["irreducible"]
    with torch.no_grad():
        reducible = s.objective.losses(s.model(s.x[rows]), s.y[rows]) - irreducible
    best = rows[reducible.argsort(descending=True)[: len(kept)]]
    assert sorted(kept.tolist()) == sorted(best.tolist())


def test_untrusted_rows_are_never_drawn() -> None:
    sampler = begun(setup(weight=NEW_ONLY))
    assert min(sampler.draw(32).index.min() for _ in range(20)) >= OLD


def test_twins_and_passes_are_counted() -> None:
    s = setup()
    sampler = begun(s)
    passes = (OLD + NEW) * s.blocks.forward_flops
    steps = round((s.meter.flops - passes) / (SETTINGS.batch_size * s.blocks.step_flops(0)))
    assert steps == pytest.approx(0.2 * SETTINGS.steps, abs=2)
    before = s.meter.flops
    announced = sampler.draw_flops(32)
    sampler.draw(32)
    assert s.meter.flops - before == announced == _CANDIDATES * 32 * s.blocks.forward_flops


def test_twins_keep_to_their_share_of_a_budget() -> None:
    s = setup()
    budget = 400 * SETTINGS.batch_size * s.blocks.step_flops(0)
    s = setup(budget=f"{budget}FLOP")
    begun(s)
    assert 0.2 * budget < s.meter.flops < 0.25 * budget


def test_the_model_is_left_as_it_was() -> None:
    s = setup()
    before = [p.clone() for p in s.model.parameters()]
    begun(s).draw(32)
    assert all(torch.equal(a, b) for a, b in zip(before, s.model.parameters(), strict=True))
    assert not s.model.training
