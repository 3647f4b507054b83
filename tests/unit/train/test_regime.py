"""A change point that is too early is set right by the rows, and by nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.helpers.retraining import CHANGE, plan, world
from undrift.evidence import DriftKind
from undrift.train.attempt import settled
from undrift.train.pool import held_out
from undrift.train.regime import begin

N = 800


def stream(changes: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of two inputs whose sign of the sum is the class, or the other where ``changes``."""
    x = np.random.default_rng(seed).normal(size=(len(changes), 2)).astype(np.float32)
    return x, ((x.sum(axis=1) > 0) ^ changes).astype(np.int64), 1_000 + np.arange(len(changes))


@pytest.mark.parametrize("at", [200, 400, 600])
@pytest.mark.parametrize("seed", range(3))
def test_regime_begins_where_the_labels_of_like_rows_change(at: int, seed: int) -> None:
    found = begin(*stream(np.arange(N) >= at, seed), 1_000, seed=seed)
    assert abs(found - 1_000 - at) <= N // 8


@pytest.mark.parametrize("seed", range(10))
def test_one_regime_is_left_whole(seed: int) -> None:
    x, y, row = stream(np.zeros(N, dtype=bool), seed)
    noisy = y ^ (np.random.default_rng(seed).random(N) < 0.2)
    assert begin(x, noisy, row, 1_000, seed=seed) == 1_000


def test_one_strange_segment_among_good_ones_moves_nothing() -> None:
    strange = (np.arange(N) >= 300) & (np.arange(N) < 400)
    assert begin(*stream(strange), 1_000, seed=0) == 1_000


def test_inputs_that_moved_contradict_nothing() -> None:
    x, y, row = stream(np.zeros(N, dtype=bool))
    x[: N // 2] += 50.0
    assert begin(x, y, row, 1_000, seed=0) == 1_000


def test_numbers_contradict_as_classes_do() -> None:
    x, _, row = stream(np.zeros(N, dtype=bool))
    y = np.where(np.arange(N) < 400, 1.0, -1.0) * x.sum(axis=1)
    assert abs(begin(x, y, row, 1_000, seed=0) - 1_400) <= N // 8


def test_rows_before_and_of_the_reference_are_not_asked() -> None:
    x, y, row = stream(np.arange(N) >= 400)
    row = np.where(np.arange(N) < 400, -1, row)
    assert begin(x, y, row, 1_400, seed=0) == 1_400


def test_of_few_rows_nothing_is_said() -> None:
    x, y, row = stream(np.arange(100) >= 50)
    assert begin(x, y, row, 1_000, seed=0) == 1_000


EARLY = 0  # of a change at row 200


@pytest.mark.parametrize("kind", [DriftKind.CONCEPT, DriftKind.BOTH])
def test_a_plan_is_for_the_regime_that_the_rows_show(kind: DriftKind) -> None:
    pool = world().pool
    order = replace(plan(kind=kind), regime_start=EARLY)
    assert abs(settled(order, pool, 20).regime_start - CHANGE) < 100
    assert settled(replace(plan(), newest_rows=650), pool, 20).regime_start > pool.newest_since(650)


def test_a_regime_is_cut_as_far_as_rows_are_left_to_watch_a_version() -> None:
    pool = world().pool
    held = held_out(pool)
    order = replace(plan(), regime_start=EARLY)
    assert settled(order, pool, 141) == order
    found = settled(order, pool, 120)
    assert found.regime_start < CHANGE
    assert int((held & (pool.row >= found.regime_start)).sum()) == 120


def test_moved_inputs_alone_have_no_regime_to_cut() -> None:
    order = replace(plan(kind=DriftKind.COVARIATE), regime_start=EARLY)
    assert settled(order, world().pool, 20) == order
