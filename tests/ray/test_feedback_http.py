"""Late labels over HTTP: counted and reported, never an error for the rest."""

from __future__ import annotations

import itertools
from typing import Any

import httpx
import numpy as np
import pytest

from tests.helpers.support import eventually
from tests.ray.asking import FEEDBACK, INFER, counters, infer_body, refused
from tests.ray.running import Running

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("same_replicas")]

numbers = itertools.count()


def new_id() -> str:
    return f"http-{next(numbers)}"


def ask(http: httpx.Client, n: int) -> tuple[str, list[int]]:
    """Infer ``n`` rows; returns the request's id and the predicted classes."""
    x = np.random.default_rng(n).uniform(-1, 1, (n, 2))
    answer = http.post(INFER, json=infer_body(x, id=new_id())).json()
    return answer["id"], next(t["data"] for t in answer["outputs"] if t["name"] == "label")


def outcomes(http: httpx.Client) -> dict[str, float]:
    return {k[0]: v for k, v in counters(http, "undrift_labels_joined_total").items()}


def grows(http: httpx.Client, before: dict[str, float], **expected: int) -> None:
    """Wait until the outcomes of labels have grown as expected, and no others have.

    A label that overtakes its prediction is unknown before it is joined.
    """

    def grown() -> bool:
        more = {name: n - before.get(name, 0) for name, n in outcomes(http).items()}
        overtaking = expected.get("unknown", more["unknown"])
        return {name: n for name, n in more.items() if n} == (
            {**expected, "unknown": overtaking} if overtaking else expected
        )

    eventually(grown)


def send(http: httpx.Client, items: Any) -> dict[str, Any]:
    answer = http.post(FEEDBACK, json=items)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_labels_by_index_and_by_name_join_their_predictions(http: httpx.Client) -> None:
    before = outcomes(http)
    request, _ = ask(http, 3)
    items = [
        {"id": f"{request}:0", "label": 0},
        {"id": f"{request}:1", "label": "green", "timestamp": "2026-01-02T03:04:05Z"},
        {"id": f"{request}:2", "label": "blue", "timestamp": 1.7e9},
    ]
    assert send(http, items) == {"accepted": 3, "rejected": []}
    grows(http, before, joined=3)


def test_one_list_of_labels_serves_a_request_of_several_rows(http: httpx.Client) -> None:
    before = outcomes(http)
    request, labels = ask(http, 5)
    assert send(http, {"labels": [{"id": request, "label": labels}]})["accepted"] == 5
    grows(http, before, joined=5)


def test_label_for_unknown_id_is_counted_and_kept(http: httpx.Client) -> None:
    before = outcomes(http)
    answer = send(http, [{"id": new_id(), "label": 1}])
    assert answer == {"accepted": 1, "rejected": []}
    grows(http, before, unknown=1)


def test_second_and_conflicting_labels_are_counted_and_the_first_stands(http: httpx.Client) -> None:
    before = outcomes(http)
    request, (predicted,) = ask(http, 1)
    for label in (predicted, predicted, (predicted + 1) % 3):
        assert send(http, [{"id": request, "label": label}])["accepted"] == 1
    grows(http, before, joined=1, duplicate=1, conflict=1)


def test_bad_items_are_reported_and_never_spoil_the_rest(http: httpx.Client) -> None:
    before = outcomes(http)
    request, _ = ask(http, 2)
    answer = send(
        http,
        [
            {"id": f"{request}:0", "label": 0},
            {"id": f"{request}:1", "label": 3},
            {"id": f"{request}:1", "label": "purple"},
            {"label": 1},
            {"id": f"{request}:1", "label": 1, "colour": "red"},
            {"id": f"{request}:1", "label": 1, "timestamp": "yesterday"},
            "nonsense",
            {"id": f"{request}:1", "label": 1},
        ],
    )
    assert answer["accepted"] == 2
    assert {r["index"]: r["error"].partition(";")[0] for r in answer["rejected"]} == {
        1: "'label' must be a class index from 0 to 2 or one of 'red', 'green', 'blue'",
        2: "'label' must be a class index from 0 to 2 or one of 'red', 'green', 'blue'",
        3: "'id' is missing",
        4: "the item has an unknown key 'colour'",
        5: "'timestamp' must be Unix seconds or ISO 8601",
        6: 'expected an object {"id", "label"}, got a string',
    }
    grows(http, before, joined=2)


def test_feedback_of_which_nothing_is_accepted_is_refused_and_lists_it(
    http: httpx.Client, platform: Running
) -> None:
    answer = http.post(FEEDBACK, json=[{"id": new_id(), "label": "purple"}])
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"].startswith("none of 1 items is accepted; the first: 'label'")
    assert [item["index"] for item in answer.json()["rejected"]] == [0]
    assert platform.client.feedback([new_id()], [7])["accepted"] == 0


def test_whole_floats_are_labels(http: httpx.Client) -> None:
    before = outcomes(http)
    request, (predicted,) = ask(http, 1)
    item = {"id": request, "label": float(predicted), "timestamp": None}
    assert send(http, [item]) == {"accepted": 1, "rejected": []}
    grows(http, before, joined=1)


def test_feedback_that_is_no_list_is_refused(http: httpx.Client) -> None:
    refused(http.post(FEEDBACK, json=7), 400, 'must be a list of {"id", "label"} objects')
