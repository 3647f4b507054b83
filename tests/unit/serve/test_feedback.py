from __future__ import annotations

import json
from typing import Any

import pytest

from undrift.errors import RequestError
from undrift.records import Labels
from undrift.serve.body import FEEDBACK_BYTES
from undrift.serve.feedback import parse_feedback
from undrift.serve.protocol import ModelSpec
from undrift.serve.settings import ServeSettings

SPEC = ModelSpec("m", (1,), n_classes=3, classes=("cat", "dog", "eel"))


def parse(value: Any, spec: ModelSpec = SPEC) -> tuple[Labels, list[dict[str, Any]]]:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return parse_feedback(raw, "application/json", spec, ServeSettings(), now=50.0)


def test_labels_by_index_and_by_name_in_order() -> None:
    labels, rejected = parse([{"id": "a", "label": 2}, {"id": "b", "label": "dog"}])
    assert labels.ids == ("a", "b")
    assert labels.label.tolist() == [2, 1]
    assert labels.at.tolist() == [50.0, 50.0]
    assert rejected == []


def test_labels_may_be_wrapped_in_an_object() -> None:
    assert parse({"labels": [{"id": "a", "label": 0}]})[0].ids == ("a",)


def test_list_of_labels_goes_to_the_rows_of_one_request() -> None:
    labels, _ = parse([{"id": "a", "label": [0, "eel"]}, {"id": "b", "label": [1]}])
    assert labels.ids == ("a:0", "a:1", "b")
    assert labels.label.tolist() == [0, 2, 1]


def test_label_of_a_single_row_of_a_request() -> None:
    assert parse([{"id": "a:12", "label": 0}])[0].ids == ("a:12",)


@pytest.mark.parametrize(
    ("timestamp", "seconds"),
    [
        (12, 12.0),
        (12.5, 12.5),
        ("1970-01-01T00:01:00Z", 60.0),
        ("1970-01-01T00:01:00", 60.0),
        ("1970-01-01T01:01:00+01:00", 60.0),
    ],
)
def test_timestamps(timestamp: Any, seconds: float) -> None:
    assert parse([{"id": "a", "label": 0, "timestamp": timestamp}])[0].at.tolist() == [seconds]


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (3, "expected an object"),
        ({"label": 0}, "'id' is missing"),
        ({"id": "a"}, "'label' is missing"),
        ({"id": "a", "label": 0, "when": 1}, "unknown key 'when'"),
        ({"id": "a", "label": 3}, "class index from 0 to 2 or one of 'cat', 'dog', 'eel'; got 3"),
        ({"id": "a", "label": -1}, "got -1"),
        ({"id": "a", "label": True}, "got True"),
        ({"id": "a", "label": 1.5}, "got 1.5"),
        ({"id": "a", "label": 3.0}, "got 3"),
        ({"id": "a", "label": -1.0}, "got -1"),
        ({"id": "a", "label": float("nan")}, "got nan"),
        ({"id": "a", "label": float("inf")}, "got inf"),
        ({"id": "a", "label": "1.0"}, "got '1.0'"),
        ({"id": "a", "label": None}, "'label' is missing"),
        ({"id": "a", "label": [1, None]}, "got None"),
        ({"id": None, "label": 1}, "'id' is missing"),
        ({"id": "a", "label": "cow"}, "got 'cow'"),
        ({"id": "a", "label": []}, "empty list"),
        ({"id": "a", "label": [0, "cow"]}, "got 'cow'"),
        ({"id": "a", "label": [[0]]}, "got [0]"),
        ({"id": "a:1", "label": [0, 1]}, "without ':'"),
        ({"id": "a:x", "label": 0}, "but for a row number"),
        ({"id": 5, "label": 0}, "got 5"),
        ({"id": "a", "label": 0, "timestamp": "noon"}, "Unix seconds or ISO 8601; got 'noon'"),
        ({"id": "a", "label": 0, "timestamp": -1}, "got -1"),
        ({"id": "a", "label": 0, "timestamp": 1e300}, "Unix seconds"),
        ({"id": "a", "label": 0, "timestamp": float("nan")}, "got nan"),
        ({"id": "a", "label": 0, "timestamp": True}, "got True"),
        ({"id": "a", "label": 0, "timestamp": "0001-01-01T00:00:00+14:00"}, "ISO 8601"),
    ],
)
def test_bad_item_is_reported_and_the_others_kept(item: Any, text: str) -> None:
    labels, rejected = parse([{"id": "x", "label": 0}, item, {"id": "y", "label": 1}])
    assert labels.ids == ("x", "y")
    assert [r["index"] for r in rejected] == [1]
    assert text in rejected[0]["error"]


def test_whole_floats_are_class_indices() -> None:
    labels, rejected = parse([{"id": "a", "label": 1.0}, {"id": "b", "label": [2.0, 0, -0.0]}])
    assert (labels.label.tolist(), rejected) == ([1, 2, 0, 0], [])


def test_null_timestamp_is_now_and_other_nulls_are_absent() -> None:
    item = {"id": "a", "label": 0, "timestamp": None, "note": None}
    assert parse({"labels": [item], "more": None})[0].at.tolist() == [50.0]


def test_names_are_unknown_to_a_model_without_class_names() -> None:
    _, rejected = parse([{"id": "a", "label": "dog"}], ModelSpec("m", (1,), n_classes=3))
    assert "class index from 0 to 2; got 'dog'" in rejected[0]["error"]


def test_empty_list_is_fine() -> None:
    labels, rejected = parse([])
    assert (len(labels), rejected) == (0, [])
    assert labels.label.dtype == "int64"


@pytest.mark.parametrize(
    "value", [b"{", {"label": 1}, {}, 7, "text", {"labels": {"id": "a"}}, {"labels": None}]
)
def test_body_that_is_no_list_of_labels(value: Any) -> None:
    with pytest.raises(RequestError):
        parse(value)


@pytest.mark.parametrize(
    "value",
    [
        [{"id": "a", "label": [0] * 10_001}],
        [{"id": "a", "label": 0}] * 10_001,
        [{"id": "a", "label": [0] * 5_000}, {"id": "b", "label": [0] * 5_001}],
        [0] * 10_001,
    ],
)
def test_more_labels_than_are_taken_at_once(value: Any) -> None:
    with pytest.raises(RequestError, match=r"10,001 labels in one request; at most 10,000 .*parts"):
        parse(value)


def test_body_beyond_the_bytes_of_a_feedback_is_not_read() -> None:
    with pytest.raises(RequestError, match=r"2,097,153 bytes of feedback; .* in parts") as caught:
        parse(b"?" * (FEEDBACK_BYTES + 1))
    assert caught.value.status == 413


def test_settings_refuse_more_labels_than_leave_others_their_turn() -> None:
    with pytest.raises(ValueError, match="25000"):
        ServeSettings(max_labels_per_request=25_001)


def test_as_many_labels_as_are_taken_at_once() -> None:
    assert len(parse([{"id": "a", "label": [0] * 10_000}])[0]) == 10_000


ONE = ModelSpec("m", (1,), n_classes=0, targets=1)
TWO = ModelSpec("m", (1,), n_classes=0, targets=2)


def test_labels_of_a_regression_are_numbers_of_one_row_or_of_several() -> None:
    labels, rejected = parse([{"id": "a", "label": 2.5}, {"id": "b", "label": [1, -3e5]}], ONE)
    assert labels.ids == ("a", "b:0", "b:1")
    assert labels.label.tolist() == [2.5, 1.0, -3e5]
    assert (labels.label.dtype, rejected) == ("float32", [])


def test_labels_of_several_outputs_are_lists() -> None:
    given = [{"id": "a", "label": [2.5, 1]}, {"id": "b", "label": [[1, 2], [3, 4]]}]
    labels, rejected = parse(given, TWO)
    assert labels.ids == ("a", "b:0", "b:1")
    assert labels.label.tolist() == [[2.5, 1.0], [1.0, 2.0], [3.0, 4.0]]
    assert rejected == []


@pytest.mark.parametrize(
    ("spec", "label", "text"),
    [
        (ONE, "tall", "must be a finite 32-bit number; got 'tall'"),
        (ONE, True, "must be a finite 32-bit number"),
        (ONE, 1e39, "must be a finite 32-bit number"),
        (ONE, 10**400, "must be a finite 32-bit number"),
        (ONE, [], "empty list"),
        (ONE, [1.0, "x"], "must be a finite 32-bit number; got 'x'"),
        (ONE, {}, "must be a finite 32-bit number"),
        (TWO, 1.0, "must be a list of 2 numbers; got 1.0"),
        (TWO, [1.0], "must be a list of 2 numbers"),
        (TWO, [1.0, 2.0, 3.0], "must be a list of 2 numbers"),
        (TWO, [[1.0, 2.0], [3.0]], "must be a list of 2 numbers"),
        (TWO, [1.0, "x"], "must be a finite 32-bit number; got 'x', in"),
    ],
)
def test_label_that_is_no_number_is_rejected(spec: ModelSpec, label: Any, text: str) -> None:
    labels, rejected = parse([{"id": "a", "label": label}, {"id": "b", "label": "x"}], spec)
    assert len(labels) == 0
    assert text in rejected[0]["error"]
    assert len(rejected) == 2


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e400"])
def test_number_that_is_not_finite_is_rejected(value: str) -> None:
    labels, rejected = parse(f'[{{"id": "a", "label": {value}}}]'.encode(), ONE)
    assert len(labels) == 0
    assert "finite" in rejected[0]["error"]
