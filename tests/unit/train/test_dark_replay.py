"""DER++ against its equation."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tests.helpers.retraining import SETTINGS
from tests.helpers.setups import OLD, regression_targets, setup
from undrift.train.methods.dark_replay import _ALPHA, _BETA, DarkReplay
from undrift.train.setup import Setup

BATCH = SETTINGS.batch_size


def rehearsed(s: Setup, penalty: DarkReplay) -> tuple[torch.Tensor, torch.Tensor]:
    """Two draws of a batch each, and the rows of the pool that they are."""
    x = penalty.rehearse(slice(None))
    assert x is not None
    return x, torch.stack([(s.x == row).all(dim=1).nonzero()[0, 0] for row in x])


def test_both_terms_are_those_of_the_paper() -> None:
    s = setup()
    penalty = DarkReplay(s)
    with torch.no_grad():
        stored = s.model(s.x)
        s.model[0].weight += 0.3
    x, rows = rehearsed(s, penalty)
    output = s.model(x)
    dark, labelled = rows[:BATCH], rows[BATCH:]
    expected = _ALPHA * F.mse_loss(output[:BATCH], stored[dark])
    expected = expected + _BETA * F.cross_entropy(output[BATCH:], s.y[labelled])
    assert penalty.term(output).item() == pytest.approx(expected.item(), rel=1e-5)


def test_both_draws_are_independent_and_of_older_rows() -> None:
    s = setup()
    _, rows = rehearsed(s, DarkReplay(s))
    assert rows.max() < OLD
    assert rows[:BATCH].tolist() != rows[BATCH:].tolist()


def test_numbers_are_kept_as_classes_are() -> None:
    s = setup(y=regression_targets())
    penalty = DarkReplay(s)
    x, rows = rehearsed(s, penalty)
    output = s.model(x)
    half_squared = 0.5 * (output[BATCH:] - s.y[rows[BATCH:]]).pow(2).sum(dim=1).mean()
    assert penalty.term(output).item() == pytest.approx(_BETA * half_squared.item(), rel=1e-5)


def test_storing_outputs_is_counted() -> None:
    s = setup()
    DarkReplay(s)
    assert s.meter.flops == OLD * s.blocks.forward_flops


def test_without_older_rows_nothing_is_rehearsed() -> None:
    penalty = DarkReplay(setup(old=0))
    assert penalty.rehearse(slice(None)) is None
    assert penalty.rehearsed() == 0
    assert penalty.term(None) is None
