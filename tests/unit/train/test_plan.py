"""Plans survive JSON, and foreign ones are refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.helpers.retraining import plan, world
from undrift.errors import TrainingError
from undrift.events import Train
from undrift.evidence import DriftKind
from undrift.train.attempt import settled
from undrift.train.plan import RetrainPlan
from undrift.train.settings import TrainSettings


def test_round_trip_through_json() -> None:
    one = plan()
    assert RetrainPlan.from_dict(json.loads(json.dumps(one.to_dict()))) == one


@pytest.mark.parametrize("change", [{"kind": "unheard"}, {"surprise": 1}])
def test_plan_of_another_release_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(TrainingError, match="its fields are run_id"):
        RetrainPlan.from_dict({**plan().to_dict(), **change})


ORDER = Train(run_id="run-7", base_version=3, until_row=900, kind=DriftKind.BOTH, regime_start=40)
CONFIGURED = TrainSettings(method="full", steps=50, budget="30s", workers=2)


def test_order_that_leaves_all_open_is_carried_out_as_configured() -> None:
    found = RetrainPlan.of(ORDER, CONFIGURED, {"labels": 4})
    assert (found.run_id, found.base_version, found.kind) == ("run-7", 3, DriftKind.BOTH)
    assert (found.regime_start, found.until_row, found.as_of) == (40, 900, {"labels": 4})
    assert (found.method, found.steps, found.budget, found.workers) == ("full", 50, "30s", 2)
    assert RetrainPlan.of(replace(ORDER, run_id="run-8"), CONFIGURED).seed != found.seed


@pytest.mark.parametrize(
    ("asked", "steps", "budget"),
    [
        ({"steps": 9}, 9, ""),  # whoever names steps wants them made
        ({"budget": "1GFLOP"}, 50, "1GFLOP"),
        ({"method": "random"}, 50, "30s"),
    ],
)
def test_what_the_order_says_goes_before_the_configuration(
    asked: dict[str, object], steps: int, budget: str
) -> None:
    found = RetrainPlan.of(replace(ORDER, **asked), CONFIGURED)
    assert (found.steps, found.budget) == (steps, budget)
    assert found.method == asked.get("method", "full")


def test_plan_for_the_newest_rows_becomes_one_for_the_regime_that_they_begin() -> None:
    pool = world().pool
    found = settled(replace(plan(), newest_rows=50), pool, 20)
    assert int((pool.row >= found.regime_start).sum()) == 50
    assert settled(plan(), pool, 20) == plan()
