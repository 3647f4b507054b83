"""Weights that were trained elsewhere, judged as a candidate is."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.helpers.retraining import CHANGE, SETTINGS, World, plan, world
from undrift.errors import ModelError, TrainingError
from undrift.evidence import DriftKind
from undrift.train.adopt import adopt
from undrift.train.attempt import Attempt
from undrift.train.pool import Pool
from undrift.train.trainee import Trainee

PLAN = replace(plan(), weights="a" * 64, origin="new.safetensors", method="", steps=0)


@pytest.fixture(scope="module")
def turned() -> World:
    return world()


def mirrored(w: World) -> dict[str, torch.Tensor]:
    """Return weights that see the second coordinate where the model sees the first."""
    return {**w.state, "0.weight": w.state["0.weight"].flip(1)}


def brought(
    w: World, weights: dict[str, torch.Tensor], pool: Pool | None = None, **change: object
) -> Attempt:
    order = replace(PLAN, **change)  # type: ignore[arg-type]
    return adopt(
        Trainee(w.model),
        weights,
        w.state,
        w.pool if pool is None else pool,
        w.reference,
        order,
        settings=SETTINGS,
        reference_rows=50,
    )


def test_better_weights_are_accepted_and_watched_by_the_regimes_own_rows(turned: World) -> None:
    made = brought(turned, mirrored(turned))
    assert made.verdict.accepted, made.verdict.reason
    assert made.verdict.metrics["validation_accuracy_new"] > 0.9
    recent = made.reference.rows[made.reference.recent]
    assert len(recent) >= 50
    assert recent.min() >= CHANGE
    assert (made.reference.output.argmax(1) == made.reference.y)[made.reference.recent].mean() > 0.9
    assert json.loads(json.dumps(made.figures())) == made.figures()


def test_worse_weights_are_rejected(turned: World) -> None:
    opposite = {**turned.state, **{k: -turned.state[k] for k in ("4.weight", "4.bias")}}
    pool, calm = turned.pool, turned.pool.row < CHANGE
    arrays = {name: getattr(pool, name)[calm] for name in ("x", "y", "row", "at")}
    made = brought(turned, opposite, replace(pool, **arrays), regime_start=0)
    assert not made.verdict.accepted
    assert made.verdict.metrics["validation_accuracy_new"] < 0.1


def test_few_rows_of_the_regime_leave_the_reference_of_the_live_version(turned: World) -> None:
    made = brought(turned, mirrored(turned), regime_start=690)
    assert np.array_equal(made.reference.x, turned.reference.x)
    assert not np.allclose(made.reference.output, turned.reference.output)
    assert made.reference.newest is not None
    assert made.reference.newest.rows[-1] == 699


@pytest.mark.parametrize("forgets", [True, False])
def test_without_labels_it_may_be_no_worse_on_the_reference(turned: World, forgets: bool) -> None:
    alone = Pool.of(turned.reference)
    small = {name: tensor * 1.01 for name, tensor in turned.state.items()}
    made = brought(turned, mirrored(turned) if forgets else small, alone, kind=DriftKind.NONE)
    assert made.verdict.accepted is not forgets
    assert "no recent row is labelled" in made.verdict.reason
    assert made.reference.newest is None
    text = json.dumps(made.figures())
    assert "NaN" not in text


def test_heads_that_answer_are_part_of_what_is_compared(turned: World) -> None:
    made = brought(turned, mirrored(turned), mixed=True)
    assert made.verdict.metrics["heads_rows"] == 100
    assert brought(turned, mirrored(turned), Pool.of(turned.reference), mixed=True)


def test_live_weights_are_told_to_be_live(turned: World) -> None:
    with pytest.raises(TrainingError, match="weights of version 1, which is live already"):
        brought(turned, turned.state)


def test_weights_that_do_not_fit_are_refused(turned: World) -> None:
    nan = {**turned.state, "4.bias": torch.tensor([0.0, torch.nan])}
    with pytest.raises(ModelError, match=r"not finite: 4.bias"):
        brought(turned, nan)


@pytest.mark.parametrize("factor", [1.0, 1e5])
def test_weights_that_answer_numbers_are_judged_by_r2(factor: float) -> None:
    w = world(numbers=True)
    state = {k: t * factor if k.startswith("4.") else t for k, t in w.state.items()}
    y = np.float32(factor)
    in_unit = replace(
        w,
        state=state,
        pool=replace(w.pool, y=w.pool.y * y),
        reference=replace(w.reference, y=w.reference.y * y, output=w.reference.output * y),
    )
    better = brought(in_unit, mirrored(in_unit))
    assert better.verdict.accepted, better.verdict.reason
    assert better.verdict.metrics["validation_R2_new"] > 0.9
    worse = brought(in_unit, {**state, "4.weight": -state["4.weight"]})
    assert not worse.verdict.accepted
