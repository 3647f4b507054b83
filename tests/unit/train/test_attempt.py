"""From a plan to a judged candidate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch

import undrift.train.attempt
from tests.helpers.retraining import SETTINGS, plan, world
from undrift.errors import StoreError
from undrift.train.attempt import _archive, attempt
from undrift.train.trainee import Trainee


class Nothing:
    """Checkpoints that keep nothing."""

    def load(self) -> None:
        return None

    def offer(self, state: object) -> None:
        pass


@pytest.mark.thorough
@pytest.mark.parametrize(("budget", "trainings"), [("", [0, 1]), ("0.02 GFLOP", [0])])
def test_only_without_a_budget_is_a_collapsed_candidate_trained_again(
    monkeypatch: pytest.MonkeyPatch, budget: str, trainings: list[int]
) -> None:
    w, asked = world(), []
    monkeypatch.setattr(undrift.train.attempt, "_collapsed", lambda *_: True)

    def checkpoints(number: int) -> Nothing:
        asked.append(number)
        return Nothing()

    made = attempt(
        Trainee(w.model),
        [1],
        lambda _: w.state,
        w.pool,
        w.reference,
        replace(plan(), budget=budget),
        settings=SETTINGS,
        reference_rows=20,
        checkpoints=checkpoints,
    )
    assert asked == trainings
    assert made.learning_rate == SETTINGS.learning_rate / (1 if budget else 4)


def test_damaged_older_version_is_no_start_and_a_damaged_base_is_an_error() -> None:
    w = world()

    def weights(version: int) -> Mapping[str, torch.Tensor]:
        if version == 2:
            raise StoreError("version 2 is damaged")
        return w.state

    assert [number for number, _ in _archive(1, [2, 3], weights)] == [1, 3]
    with pytest.raises(StoreError, match="version 2 is damaged"):
        list(_archive(2, [1, 3], weights))


@pytest.mark.parametrize(("known", "learnt"), [(None, -1), ([40, 90, 70], 90)])
def test_versions_are_not_compared_on_rows_that_the_base_was_trained_on(
    monkeypatch: pytest.MonkeyPatch, known: list[int] | None, learnt: int
) -> None:
    w, asked = world(), []
    newest = None
    if known is not None:
        taken = w.reference.take(np.arange(len(known)))
        newest = replace(taken, row=np.array(known), newest=None)

    def choose(*_: object, learnt: int, **__: object) -> int:
        asked.append(learnt)
        return 1

    monkeypatch.setattr("undrift.train.attempt.choose_start", choose)
    reference = replace(w.reference, newest=newest)
    attempt(
        Trainee(w.model), [1], lambda _: w.state, w.pool, reference, replace(plan(), steps=1),
        settings=SETTINGS, reference_rows=20,
    )  # fmt: skip
    assert asked == [learnt]
