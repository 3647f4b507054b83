"""What an operator's request becomes, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from undrift.control.requests import event_of
from undrift.errors import RequestError
from undrift.events import AdoptRequested, PromoteRequested, RetrainRequested, RollbackRequested


@pytest.mark.parametrize(
    ("verb", "body", "event"),
    [
        ("retrain", {}, RetrainRequested(at=5.0, cause="operator", rows=9)),
        (
            "retrain",
            {"method": "full", "budget": "2.5 TFLOP"},
            RetrainRequested(at=5.0, cause="operator", method="full", budget="2.5 TFLOP", rows=9),
        ),
        ("retrain", {"steps": 7}, RetrainRequested(at=5.0, cause="operator", steps=7, rows=9)),
        ("promote", {"version": 2}, PromoteRequested(at=5.0, cause="operator", version=2)),
        (
            "promote",
            {"version": 2, "strategy": "canary"},
            PromoteRequested(at=5.0, cause="operator", version=2, strategy="canary"),
        ),
        (
            "weights",
            {"weights": "a", "origin": "b"},
            AdoptRequested(at=5.0, cause="operator", weights="a", origin="b", rows=9),
        ),
        ("rollback", {}, RollbackRequested(at=5.0, cause="operator")),
    ],
)
def test_request_becomes_an_event(verb: str, body: dict[str, Any], event: object) -> None:
    assert event_of(verb, body, [1, 2], 5.0, rows=9) == event


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"budget": "30"}, r"budget: got '30', expected a number above 0 with a unit"),
        ({"budget": "-1s"}, r"budget: got '-1s', expected"),
        ({"budget": 30}, r"budget: got 30, expected text, as 30s or 2\.5TFLOP"),
        ({"budget": "1s", "steps": 3}, r"steps and budget: .* give one of them"),
        ({"method": "magic"}, r"method: got 'magic'; there are bandit"),
        ({"steps": -1}, r"steps: got -1, expected a number greater than 0"),
        ({"pace": 1}, r"unknown key 'pace'; known are budget, method, steps"),
    ],
)
def test_ill_formed_retraining_is_refused(body: dict[str, Any], text: str) -> None:
    with pytest.raises(RequestError, match=text):
        event_of("retrain", body, [1], 5.0)


def test_unknown_strategy_is_refused() -> None:
    with pytest.raises(RequestError, match="strategy: got 'slow'; there are now, shadow, canary"):
        event_of("promote", {"version": 2, "strategy": "slow"}, [1, 2], 5.0)


def test_retraining_waits_for_the_first_report_since_its_rows_are_part_of_the_order() -> None:
    with pytest.raises(RequestError, match="the monitor has not reported yet") as refused:
        event_of("retrain", {}, [1], 5.0)
    assert refused.value.status == 503


def test_unknown_verb_and_unknown_version_are_not_found() -> None:
    for verb, body in (("fly", {}), ("promote", {"version": 3}), ("rollback", {"version": True})):
        with pytest.raises(RequestError) as refused:
            event_of(verb, body, [1, 2], 5.0)
        assert refused.value.status == 404
