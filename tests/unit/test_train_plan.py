"""Plans survive JSON, and foreign ones are refused."""

from __future__ import annotations

import json

import pytest

from tests.retraining import plan
from undrift.errors import TrainingError
from undrift.train.plan import RetrainPlan


def test_round_trip_through_json() -> None:
    one = plan()
    assert RetrainPlan.from_dict(json.loads(json.dumps(one.to_dict()))) == one


@pytest.mark.parametrize("change", [{"kind": "unheard"}, {"surprise": 1}])
def test_plan_of_another_release_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(TrainingError, match="its fields are run_id"):
        RetrainPlan.from_dict({**plan().to_dict(), **change})
