"""Retraining models that answer with numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import r2_score
from torch import nn

from tests.helpers.retraining import (
    CHANGE,
    SETTINGS,
    World,
    labels,
    network,
    plan,
    predictions,
    reference_of,
    rows,
    world,
)
from undrift.errors import TrainingError
from undrift.evidence import DriftKind
from undrift.records import Labels
from undrift.train.attempt import attempt
from undrift.train.gate import Comparison, judge
from undrift.train.methods.registry import METHODS
from undrift.train.objective import Regression, objective_for
from undrift.train.pool import Pool, split_pool
from undrift.train.retrain import retrain
from undrift.train.settings import TrainSettings
from undrift.train.start import choose_start
from undrift.train.strata import by_target, stratify
from undrift.train.trainee import Trainee

GATE = TrainSettings(min_improvement=0.01, max_retention_loss=0.1)
Y = np.random.default_rng(0).normal(5.0, 2.0, size=400).astype(np.float32)


def answers(y: np.ndarray, r2: float, seed: int = 1) -> np.ndarray:
    """Answers (n, 1) that explain this share of the variance."""
    noise = np.random.default_rng(seed).normal(size=len(y))
    noise *= math.sqrt((1.0 - r2) * y.var() / (noise**2).mean())
    return (y + noise).astype(np.float32)[:, None]


def compare(old: float, new: float) -> Comparison:
    return Comparison(answers(Y, old, 1), answers(Y, new, 2), Y)


NOTHING = Comparison(np.empty((0, 1), np.float32), np.empty((0, 1), np.float32), Y[:0])


@pytest.fixture(scope="module")
def numbers() -> World:
    return world(numbers=True)


@pytest.mark.thorough
@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_learns_numbers(numbers: World, method: str) -> None:
    w, what = numbers, plan(method, kind=DriftKind.BOTH)
    result = retrain(Trainee(w.model), w.state, w.pool, w.reference, what, settings=SETTINGS)
    before = w.accuracy(w.state, turned=True)
    assert w.accuracy(result.state_dict, turned=True) > before + 0.1


@pytest.mark.thorough
def test_an_attempt_at_numbers_is_accepted_and_its_reference_holds_answers(numbers: World) -> None:
    w = numbers
    tried = attempt(
        Trainee(w.model),
        [1],
        lambda _: w.state,
        w.pool,
        w.reference,
        plan(),
        settings=SETTINGS,
        reference_rows=50,
    )
    assert tried.verdict.accepted, tried.verdict.reason
    assert tried.verdict.metrics["validation_R2_new"] > 0.8
    w.model.load_state_dict(tried.result.state_dict)
    with torch.no_grad():
        again = w.model(torch.as_tensor(tried.reference.x)).numpy()
    assert np.allclose(again, tried.reference.output, atol=1e-6)
    assert tried.reference.y.dtype == np.float32


def test_quality_is_the_coefficient_of_determination() -> None:
    y = np.random.default_rng(3).normal(size=(50, 2)).astype(np.float32)
    answer = y + np.random.default_rng(4).normal(size=(50, 2)).astype(np.float32)
    expected = r2_score(y, answer, multioutput="uniform_average")
    assert Regression().quality(answer, y) == pytest.approx(expected, abs=1e-6)


def test_a_gain_in_explained_variance_is_accepted_and_told() -> None:
    report = judge(compare(0.3, 0.8), NOTHING, DriftKind.CONCEPT, GATE)
    assert report.accepted, report.reason
    assert report.reason.startswith("R2 on 400 recent rows 0.300 -> 0.800")
    assert report.metrics["validation_squared_error_p"] < 0.01


def test_a_gain_below_the_minimum_is_rejected() -> None:
    report = judge(compare(0.8, 0.8), NOTHING, DriftKind.CONCEPT, GATE)
    assert not report.accepted


def test_a_gain_in_one_lucky_row_is_chance() -> None:
    old = answers(Y, 0.9)
    new = old.copy()
    old[7] += 20.0
    report = judge(Comparison(old, new, Y), NOTHING, DriftKind.CONCEPT, GATE)
    assert report.metrics["validation_R2_new"] > report.metrics["validation_R2_old"] + 0.1
    assert "beyond chance" in report.reason


def test_an_unbounded_gain_does_not_pay_for_unbounded_forgetting() -> None:
    awful = Comparison(answers(Y, 0.0) + 50.0, answers(Y, 0.8), Y)
    report = judge(awful, compare(0.9, 0.8 - 5.0), DriftKind.BOTH, GATE)
    assert "forgets" in report.reason


def test_a_candidate_that_says_one_number_is_rejected() -> None:
    constant = np.full((400, 1), Y.mean(), np.float32)
    report = judge(Comparison(answers(Y, 0.0) + 9.0, constant, Y), NOTHING, DriftKind.NONE, GATE)
    assert "same answer" in report.reason
    assert not Regression().collapsed(constant, np.full(400, 3.0))


def test_the_version_that_explains_the_regime_best_is_the_start() -> None:
    def slope(k: float) -> dict[str, torch.Tensor]:
        return {"weight": torch.tensor([[k]]), "bias": torch.zeros(1)}

    x, row = Y[:, None], np.arange(400)
    pool = Pool(x, 2.0 * Y, row, np.zeros(400), x, row)
    versions = [(7, slope(0.0)), (3, slope(1.5)), (4, slope(1.0))]
    assert choose_start(Trainee(nn.Linear(1, 1)), versions, pool, regime_start=0) == 3
    assert choose_start(Trainee(nn.Linear(1, 1)), versions[:1], pool, regime_start=0) == 7


def test_strata_of_numbers_are_octiles() -> None:
    stratum = stratify(np.arange(400), by_target(Y), np.ones(400, dtype=bool))
    assert np.bincount(stratum).tolist() == [50] * 8
    assert max(Y[stratum == 0]) < min(Y[stratum == 7])


def test_whole_numbers_as_labels_are_targets_where_the_reference_has_numbers(
    numbers: World,
) -> None:
    told = labels(np.arange(CHANGE, dtype=np.int64))
    pool = Pool.build(predictions(numbers.pool.newest[:CHANGE]), told, numbers.reference, 100)
    assert pool.y.dtype == np.float32
    assert pool.y[-1] == CHANGE - 1


@pytest.mark.parametrize(
    ("told", "text"),
    [
        (np.zeros((3, 2), np.float32), r"shape \[2\] per row, .* reference \[\]"),
        (np.zeros(3, np.float32), "labels are numbers, .* reference has classes"),
    ],
)
def test_labels_unlike_the_reference_are_refused(told: np.ndarray, text: str) -> None:
    x, y = rows(100, turned=False, seed=2)
    some = Labels(("id0", "id1", "id2"), told, np.zeros(3))
    with pytest.raises(TrainingError, match=text):
        Pool.build(predictions(x), some, reference_of(network(), x, y), 100)


@pytest.mark.parametrize(
    ("y", "text"),
    [
        (np.where(np.arange(700) == 444, np.nan, 1.0), "target of row 444 of the pool is not"),
        (np.ones((700, 3)), "targets per row of the pool: 3; outputs of the model's head: 1;"),
        (np.full(700, 2.5), "are of target 2.5"),
    ],
)
def test_targets_that_cannot_be_learnt_are_refused(
    numbers: World, y: np.ndarray, text: str
) -> None:
    w = numbers
    x, row = w.pool.newest, np.arange(700)
    pool = Pool(x, y.astype(np.float32), row, np.zeros(700), x, row)
    with pytest.raises(TrainingError, match=text):
        retrain(Trainee(w.model), w.state, pool, w.reference, plan(), settings=SETTINGS)


def test_two_labels_per_row_are_refused_by_a_classifier() -> None:
    y = np.zeros((4, 2), np.int64)
    with pytest.raises(TrainingError, match="one class index per row"):
        objective_for(y).check(y, nn.Linear(3, 2))


@pytest.mark.parametrize("kind", list(DriftKind))
def test_an_empty_pool_is_refused(numbers: World, kind: DriftKind) -> None:
    p = numbers.pool
    empty = Pool(p.x[:0], p.y[:0], p.row[:0], p.at[:0], p.x[:0], p.row[:0])
    with pytest.raises(TrainingError, match="only 0 labelled rows"):
        split_pool(empty, kind=kind, regime_start=0, settings=SETTINGS, seed=0)
