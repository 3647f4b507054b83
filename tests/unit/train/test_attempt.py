"""From a plan to a judged candidate."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.helpers.retraining import SETTINGS, plan, world
from undrift.train.attempt import attempt
from undrift.train.trainee import Trainee

HOPELESS = SETTINGS.model_copy(update={"learning_rate": 3.0})  # the candidate collapses


class Nothing:
    """Checkpoints that keep nothing."""

    def load(self) -> None:
        return None

    def offer(self, state: object) -> None:
        pass


@pytest.mark.thorough
@pytest.mark.parametrize(("budget", "trainings"), [("", [0, 1]), ("0.02 GFLOP", [0])])
def test_only_without_a_budget_is_a_collapsed_candidate_trained_again(
    budget: str, trainings: list[int]
) -> None:
    w, asked = world(), []

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
        settings=HOPELESS,
        reference_rows=20,
        checkpoints=checkpoints,
    )
    assert asked == trainings
    assert made.verdict.accepted or budget
