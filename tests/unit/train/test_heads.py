"""Heads that a candidate is held against: they know what a retraining may know, and no more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.helpers.retraining import CHANGE, SETTINGS, World, labels, plan, predictions, rows, world
from undrift.evidence import DriftKind
from undrift.train.candidate import judge_candidate, with_later
from undrift.train.heads import heads_right
from undrift.train.pool import REFERENCE_ROW, Pool, held_out, split_pool
from undrift.train.retrain import retrain
from undrift.train.trainee import Trainee


@pytest.fixture(scope="module")
def turned() -> World:
    return world()


def right(w: World, pool: Pool, since: int = CHANGE) -> float:
    index = np.flatnonzero(held_out(pool) & (pool.row >= CHANGE))
    trainee = Trainee(w.model)
    trainee.load(w.state)
    chosen = split_pool(
        pool, kind=DriftKind.CONCEPT, regime_start=CHANGE, settings=SETTINGS, seed=0
    )
    return float(heads_right(trainee, pool, chosen, index, since).mean())


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
        answered=None,
    )
    assert right(w, long) > right(w, long, since=REFERENCE_ROW) + 0.05


def test_where_heads_answer_too_a_candidate_is_judged_with_its_own(turned: World) -> None:
    w, mixed = turned, replace(plan(), mixed=True, steps=8)
    trainee = Trainee(w.model)
    result = retrain(trainee, w.state, w.pool, w.reference, mixed, settings=SETTINGS)
    alone, _ = judge_candidate(trainee, w.state, result, w.pool, plan(), settings=SETTINGS)
    beside, _ = judge_candidate(trainee, w.state, result, w.pool, mixed, settings=SETTINGS)
    assert alone.accepted
    old, new, itself = (beside.metrics[f"heads_accuracy_{k}"] for k in ("old", "new", "alone"))
    assert itself < 0.6 < 0.85 < min(old, new)  # after a training this short
    assert beside.accepted == (new > old), beside.reason
    assert "heads_accuracy_old" not in alone.metrics


def test_rows_whose_labels_came_meanwhile_are_held_out_and_the_newest(turned: World) -> None:
    w = turned
    trainee = Trainee(w.model)
    result = retrain(trainee, w.state, w.pool, w.reference, plan(), settings=SETTINGS)
    x, y = rows(150, turned=False, seed=8)  # the world has turned back
    whole_x = np.concatenate([w.pool.x[w.pool.row >= 0], x])
    whole_y = np.concatenate([w.pool.y[w.pool.row >= 0], y])
    later = Pool.build(predictions(whole_x), labels(whole_y), w.reference, 20_000)
    longer, pool = with_later(result, w.pool, later, CHANGE)
    held = pool.row[longer.chosen.validation]
    assert set(range(700, 850)) <= set(held.tolist())
    assert (np.diff(held) > 0).all()
    np.testing.assert_array_equal(pool.row[longer.chosen.index], result.chosen.row)
    before, _ = judge_candidate(trainee, w.state, result, w.pool, plan(), settings=SETTINGS)
    verdict, reference = judge_candidate(trainee, w.state, longer, pool, plan(), settings=SETTINGS)
    assert before.accepted
    assert not verdict.accepted
    assert int(reference.recent.sum()) == len(held)


def test_late_labels_of_older_regimes_do_not_count_as_recent(turned: World) -> None:
    w = turned
    result = retrain(Trainee(w.model), w.state, w.pool, w.reference, plan(), settings=SETTINGS)
    known = w.pool.row != 50  # its label comes while the retraining trains
    early = replace(w.pool, x=w.pool.x[known], y=w.pool.y[known], row=w.pool.row[known])
    early = replace(early, at=w.pool.at[known])
    longer, _ = with_later(result, early, w.pool, CHANGE)
    assert len(longer.chosen.validation) == len(result.chosen.validation)


def test_without_later_labels_nothing_is_added(turned: World) -> None:
    whole, new = turned.pool.and_later(turned.pool)
    assert (len(whole), len(new)) == (len(turned.pool), 0)
