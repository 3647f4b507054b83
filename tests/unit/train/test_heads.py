"""Heads that a candidate is held against: they know what a retraining may know, and no more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.helpers.retraining import CHANGE, SETTINGS, World, plan, rows, world
from undrift.train.candidate import judge_candidate
from undrift.train.heads import heads_right
from undrift.train.pool import REFERENCE_ROW, Pool, held_out
from undrift.train.retrain import retrain
from undrift.train.trainee import Trainee


@pytest.fixture(scope="module")
def turned() -> World:
    return world()


def right(w: World, pool: Pool, since: int = CHANGE) -> float:
    index = np.flatnonzero(held_out(pool) & (pool.row >= CHANGE))
    trainee = Trainee(w.model)
    trainee.load(w.state)
    return float(heads_right(trainee, pool, index, since).mean())


def test_heads_follow_a_turned_world_that_the_model_does_not_know(turned: World) -> None:
    w = turned
    assert w.accuracy(w.state, turned=True) < 0.6
    assert right(w, w.pool) > 0.85


def test_what_is_held_out_is_not_learnt(turned: World) -> None:
    w = turned
    lies = np.where(held_out(w.pool), 1 - w.pool.y, w.pool.y)
    assert right(w, replace(w.pool, y=lies)) == pytest.approx(1.0 - right(w, w.pool), abs=0.02)


def test_the_head_is_chosen_by_rows_of_the_regime(turned: World) -> None:
    """In an old world full of noise a long memory is right more often; since the turn, a short."""
    w, rng = turned, np.random.default_rng(0)
    x, y = rows(8000, turned=False, seed=7)
    noisy = np.where(rng.random(len(y)) < 0.4, 1 - y, y)
    before = np.full(len(y), REFERENCE_ROW)
    long = replace(
        w.pool,
        x=np.concatenate([x, w.pool.x]),
        y=np.concatenate([noisy, w.pool.y]),
        row=np.concatenate([before, w.pool.row]),
    )
    assert right(w, long) > right(w, long, since=REFERENCE_ROW) + 0.05


def test_where_heads_answer_too_a_candidate_must_beat_them(turned: World) -> None:
    w, mixed = turned, replace(plan(), mixed=True, steps=60)
    trainee = Trainee(w.model)
    result = retrain(trainee, w.state, w.pool, w.reference, mixed, settings=SETTINGS)
    alone, _ = judge_candidate(trainee, w.state, result, w.pool, plan(), settings=SETTINGS)
    beside, _ = judge_candidate(trainee, w.state, result, w.pool, mixed, settings=SETTINGS)
    assert alone.accepted
    assert not beside.accepted, beside.reason
    assert "heads that learn from the labels" in beside.reason
    assert "heads_accuracy" not in alone.metrics
