from __future__ import annotations

import json
from typing import Any

import pytest

from undrift.events import Codec, Swap
from undrift.records import Assignment

WHOLE = Assignment(3, shadow=5, canary=4, share=0.25)


def test_versions_are_those_that_take_part_live_first() -> None:
    assert Assignment(3).versions == (3,)
    assert WHOLE.versions == (3, 5, 4)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"live": 1, "shadow": 1}, "a version has one part, not two"),
        ({"live": 1, "shadow": 2, "canary": 2}, "a version has one part, not two"),
        ({"live": 1, "canary": 2, "share": 1.5}, "share must be between 0 and 1"),
        ({"live": 1, "canary": 2, "share": float("nan")}, "share must be between 0 and 1"),
        ({"live": 1, "share": 0.1}, "a share needs a shadow or a canary"),
        ({"live": 1, "vice": 2}, "is no assignment of versions"),
        ({}, "is no assignment of versions"),
    ],
)
def test_what_does_not_fit_is_refused(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Assignment.from_dict(given)


@pytest.mark.parametrize("assignment", [Assignment(3), WHOLE])
def test_assignment_survives_json(assignment: Assignment) -> None:
    assert Assignment.from_dict(json.loads(json.dumps(assignment.to_dict()))) == assignment


@pytest.mark.parametrize("assignment", [Assignment(3), WHOLE])
def test_order_to_swap_survives_json(assignment: Assignment) -> None:
    order = Swap(run_id="run-1", assignment=assignment)
    assert Codec.decode(json.loads(json.dumps(Codec.encode(order)))) == order
