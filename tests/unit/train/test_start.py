from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from undrift.errors import TrainingError
from undrift.evidence import DriftKind
from undrift.train.candidate import build_reference, check_reference
from undrift.train.gate import Comparison, judge
from undrift.train.objective import Classification
from undrift.train.pool import Pool, held_out, split_pool
from undrift.train.settings import TrainSettings
from undrift.train.start import choose_start
from undrift.train.trainee import Trainee


def threshold(sign: float, bias: float = 0.0) -> dict[str, torch.Tensor]:
    """Weights of a linear model that says class 1 where sign * x + bias > 0."""
    return {
        "weight": torch.tensor([[0.0], [sign]]),
        "bias": torch.tensor([0.0, bias]),
    }


@pytest.fixture
def pool() -> Pool:
    """Rows of which class 1 are the positive ones."""
    x = np.random.default_rng(0).normal(size=(400, 1)).astype(np.float32)
    row = np.arange(400)
    return Pool(x, (x[:, 0] > 0).astype(np.int64), row, np.zeros(400), x, row)


def start(pool: Pool, *versions: tuple[int, dict[str, torch.Tensor]]) -> int:
    return choose_start(Trainee(nn.Linear(1, 2)), versions, pool, regime_start=0)


def labelling(right: np.ndarray) -> dict[str, torch.Tensor]:
    """Weights of a linear model of one-hot rows of class 1 that is right on some of them."""
    says = np.where(right, 1.0, -1.0)
    weight = torch.tensor(np.stack([-says, says]), dtype=torch.float32)
    return {"weight": weight, "bias": torch.zeros(2)}


@pytest.fixture
def one_hot() -> Pool:
    """400 rows of class 1, each of a column of its own."""
    x = np.eye(400, dtype=np.float32)
    return Pool(x, np.ones(400, dtype=np.int64), np.arange(400), np.zeros(400), x, np.arange(400))


def test_a_version_that_is_lucky_on_held_out_rows_is_no_start(one_hot: Pool) -> None:
    """The best of many on the rows of gate and monitor would deceive both (the winner's curse)."""
    rng, held = np.random.default_rng(0), held_out(one_hot)
    live, honest, lucky = (rng.random(400) < share for share in (0.4, 0.7, 0.5))
    lucky[held], honest[held] = True, False
    versions = [(7, labelling(live)), (3, labelling(honest)), (4, labelling(lucky))]
    trainee = Trainee(nn.Linear(400, 2))
    assert choose_start(trainee, versions, one_hot, regime_start=0) == 3
    # Where all rows may have been trained on, or nearly all, only those held out are left.
    for learnt, expected in ((200, 3), (390, 4), (399, 4)):
        assert choose_start(trainee, versions, one_hot, regime_start=0, learnt=learnt) == expected


def test_older_version_that_fits_the_regime_is_the_start(pool: Pool) -> None:
    assert start(pool, (7, threshold(-1)), (3, threshold(1)), (4, threshold(-1))) == 3


def test_live_version_is_the_start_when_an_older_one_is_hardly_better(pool: Pool) -> None:
    assert start(pool, (7, threshold(1, 0.05)), (3, threshold(1))) == 7


def test_collapsed_live_version_is_left_even_for_one_with_lower_accuracy(pool: Pool) -> None:
    assert start(pool, (7, threshold(0, 1)), (3, threshold(-1))) == 3


def test_collapsed_live_version_is_kept_when_there_is_no_other(pool: Pool) -> None:
    assert start(pool, (7, threshold(0, 1))) == 7


def test_without_held_out_rows_the_live_version_is_the_start(pool: Pool) -> None:
    versions = [(7, threshold(-1)), (3, threshold(1))]
    assert choose_start(Trainee(nn.Linear(1, 2)), versions, pool, regime_start=10_000) == 7


def test_too_few_held_out_rows_to_watch_a_candidate_by_are_refused(pool: Pool) -> None:
    check_reference(pool, 150, 50)  # of 250 rows in a row, every fifth block of ten
    with pytest.raises(TrainingError, match=r"only 40 held-out .* needs 50"):
        check_reference(pool, 200, 50)


def test_reference_of_a_new_version_has_the_configured_embedding(pool: Pool) -> None:
    model = nn.Sequential(nn.Linear(1, 5), nn.Linear(5, 2))
    chosen = split_pool(pool, kind=DriftKind.NONE, regime_start=0, settings=TrainSettings(), seed=0)
    assert build_reference(Trainee(model), pool, chosen, seed=0).embedding.shape[1] == 5
    assert build_reference(Trainee(model, "0"), pool, chosen, seed=0).embedding.shape[1] == 1


def test_one_class_in_the_data_is_not_a_collapse() -> None:
    same = np.tile(np.array([[0.7, 0.3]], np.float32), (5, 1))
    assert not Classification().collapsed(same, np.zeros(5, np.int64))
    assert Classification().collapsed(same, np.array([0, 0, 0, 0, 1]))


def test_gate_rejects_a_candidate_that_says_one_class(pool: Pool) -> None:
    constant = np.tile(np.array([[0.4, 0.6]], np.float32), (len(pool), 1))
    wrong = np.where(pool.y[:, None] == np.array([0, 1]), 0.0, 1.0).astype(np.float32)
    rows = Comparison(wrong, constant, pool.y)
    none = Comparison(wrong[:0], constant[:0], pool.y[:0])
    report = judge(rows, none, DriftKind.CONCEPT, TrainSettings())
    assert not report.accepted
    assert "same answer" in report.reason
