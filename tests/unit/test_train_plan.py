"""Plans survive JSON, and foreign ones are refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.retraining import plan, world
from undrift.errors import TrainingError
from undrift.train.attempt import settled
from undrift.train.plan import RetrainPlan


def test_round_trip_through_json() -> None:
    one = plan()
    assert RetrainPlan.from_dict(json.loads(json.dumps(one.to_dict()))) == one


@pytest.mark.parametrize("change", [{"kind": "unheard"}, {"surprise": 1}])
def test_plan_of_another_release_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(TrainingError, match="its fields are run_id"):
        RetrainPlan.from_dict({**plan().to_dict(), **change})


def test_plan_for_the_newest_rows_becomes_one_for_the_regime_that_they_begin() -> None:
    pool = world().pool
    found = settled(replace(plan(), newest_rows=50), pool)
    assert int((pool.row >= found.regime_start).sum()) == 50
    assert settled(plan(), pool) == plan()
