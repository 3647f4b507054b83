from __future__ import annotations

import json
import random
import uuid
from typing import Any

import numpy as np
import pytest

from undrift.errors import ConfigError, RequestError
from undrift.ids import IdSource, new_id
from undrift.serve.protocol import (
    InferRequest,
    ModelSpec,
    encode_error,
    encode_infer,
    model_metadata,
    parse_infer,
    server_metadata,
)
from undrift.serve.settings import ServeSettings

SPEC = ModelSpec("digits", (2, 3), n_classes=2, classes=("no", "yes"))
SETTINGS = ServeSettings(max_rows_per_request=10, max_json_bytes=10_000, max_json_values=1_100)
FLAT = [1, 2.5, -3, 4, 5, 6]


def body(**tensor: Any) -> dict[str, Any]:
    whole = {"name": "input", "shape": [1, 2, 3], "datatype": "FP32", "data": FLAT, **tensor}
    return {"inputs": [{k: v for k, v in whole.items() if v is not ...}]}


def parse(value: Any, content_type: str = "application/json") -> InferRequest:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return parse_infer(raw, content_type, SPEC, SETTINGS)


def refused(value: Any, status: int = 400) -> str:
    with pytest.raises(RequestError) as caught:
        parse(value)
    assert caught.value.status == status
    return str(caught.value)


def test_flat_and_nested_data_mean_the_same() -> None:
    flat = parse(body(data=FLAT * 2, shape=[2, 2, 3]))
    nested = parse(body(data=np.reshape(FLAT * 2, (2, 2, 3)).tolist(), shape=[2, 2, 3]))
    assert flat.x.dtype == np.float32
    assert flat.x.shape == (2, 2, 3)
    np.testing.assert_array_equal(flat.x, np.reshape(FLAT * 2, (2, 2, 3)))
    np.testing.assert_array_equal(flat.x, nested.x)


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64", "INT8", "INT64", "UINT8", "UINT64"])
def test_numeric_datatypes_are_converted(datatype: str) -> None:
    assert parse(body(datatype=datatype, data=[0, 1, 2, 3, 4, 5])).x.ravel().tolist() == [*range(6)]


def test_booleans_become_zero_and_one() -> None:
    x = parse(body(datatype="BOOL", data=[True, False, True, True, False, False])).x
    assert x.ravel().tolist() == [1, 0, 1, 1, 0, 0]


def test_callers_id_is_kept_and_names_the_rows() -> None:
    one = parse({"id": "order 7", **body()})
    assert (one.id, one.row_ids) == ("order 7", ("order 7",))
    two = parse({"id": "a", **body(data=FLAT * 2, shape=[2, 2, 3])})
    assert two.row_ids == ("a:0", "a:1")


def test_missing_id_becomes_a_uuid7() -> None:
    assert uuid.UUID(parse(body()).id).version == 7


def test_json_content_type_may_carry_a_charset_or_be_absent() -> None:
    assert len(parse(body(), "Application/JSON; charset=utf-8").x) == 1
    assert len(parse(body(), "").x) == 1


def test_other_content_type_is_415() -> None:
    with pytest.raises(RequestError, match="application/octet-stream") as caught:
        parse(body(), "application/octet-stream")
    assert caught.value.status == 415


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"inputs": [1]} x', "trailing"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 1_000, "recursion"),
        ([], "must be a JSON object with 'inputs', not a list"),
        ({}, "list of one tensor, 'input'; got null"),
        ({"inputs": []}, "got 0 entries"),
        ({"inputs": [1]}, "list of one tensor"),
        ({"inputs": body()["inputs"] * 2}, "got 2 entries"),
        ({"input": [1]}, "list of one tensor, 'input'; got null"),
        ({"inputs": None}, "list of one tensor, 'input'; got null"),
        ({"inputs": [None]}, "list of one tensor"),
        (body(name="x"), "the input is named 'input'; got 'x'"),
        (body(name=...), "the input has no 'name'"),
        (body(data=...), "must have either 'data' or 'binary_data_size'"),
        (body(name=None), "the input has no 'name'"),
        (body(datatype=..., dtype="FP32"), "the input has no 'datatype'"),
        (body(data=None), "must have either 'data' or 'binary_data_size'"),
        (body(datatype="BYTES"), "'datatype' must be one of FP16, FP32"),
        (body(datatype=["FP32"]), "'datatype' must be one of"),
        (body(shape=[2, 3]), "'shape' must be [rows, 2, 3]; got [2, 3]"),
        (body(shape=[1, 3, 2]), "'shape' must be [rows, 2, 3]"),
        (body(shape=[0, 2, 3]), "'shape' must be [rows, 2, 3]"),
        (body(shape=[True, 2, 3]), "'shape' must be"),
        (body(shape=["1", 2, 3]), "'shape' must be"),
        (body(shape=[]), "'shape' must be"),
        (body(shape=7), "'shape' must be"),
        (body(data=FLAT[:5]), "'data' has 5 numbers; shape [1, 2, 3] needs 6"),
        (body(data=[]), "'data' has 0 numbers"),
        (body(data="AAAA"), "'data' must be a list of numbers, not a string"),
        (body(data=[*FLAT[:5], "6"]), "number 5 is '6'"),
        (body(data=[*FLAT[:5], None]), "number 5 is None"),
        (body(data=[*FLAT[:5], [6]]), "number 5 is [6]"),
        (body(data=[*FLAT[:5], 10**400]), "number 5 is a huge number"),
        (body(data=[*FLAT[:5], float("nan")]), "must be finite 32-bit numbers; number 5 is nan"),
        (body(data=[*FLAT[:5], 1e39]), "number 5 is 1e+39"),
        (body(data=[[[1, 2, 3]]]), "expected a list of 2, got 1 items"),
        (body(data=[[[1, 2, 3], [1, 2]]]), "expected a list of 3, got 2 items"),
        (body(data=[[[1, 2, 3], 4]]), "expected a list of 3, got a number"),
        (body(data=[[1, 2, 3], [4, 5, 6]]), "'data' has 2 rows; shape [1, 2, 3] needs 1"),
        (
            body(datatype="UINT8", data=[0, 1, 2, 3, 4, 256]),
            "number 5 of 'data', 256, is not UINT8",
        ),
        (body(datatype="INT8", data=[0.5] * 6), "number 0 of 'data', 0.5, is not INT8"),
        (body(datatype="BOOL", data=[0, 1, 2, 0, 0, 0]), "number 2 of 'data', 2, is not BOOL"),
        ({"id": "", **body()}, "'id' must be a string of 1 to 128"),
        ({"id": 7, **body()}, "got 7"),
        ({"id": "a:1", **body()}, "without ':'"),
        ({"id": "a\nb", **body()}, "printable"),
        ({"id": "x" * 129, **body()}, "1 to 128"),
        ({"outputs": [{"name": "logits"}], **body()}, "out of probabilities, label, class"),
        ({"outputs": "label", **body()}, "'outputs' must be"),
        ({"outputs": [{"name": "label"}, {"name": "label"}], **body()}, "different"),
        ({"outputs": [None], **body()}, "'outputs' must be"),
        ({"outputs": [{"name": None}], **body()}, "'outputs' must be"),
        ({"outputs": False, **body()}, "'outputs' must be"),
    ],
)
def test_bad_request_says_what_was_expected(value: Any, text: str) -> None:
    assert text in refused(value)


NULLS = {
    "id": None,
    "parameters": None,
    "outputs": None,
    "model_name": None,
    **body(parameters=None),
}


def test_null_is_as_good_as_absent() -> None:
    request = parse(NULLS)
    assert uuid.UUID(request.id).version == 7
    assert (request.outputs, request.binary, request.timeout_s) == (SPEC.outputs, frozenset(), None)
    inner = {
        "parameters": {"binary_data_output": None, "timeout": None, "sequence_id": None},
        "outputs": [
            {"name": "label", "parameters": None},
            {"name": "class", "parameters": {"binary_data": None, "classification": None}},
        ],
        **body(parameters={"binary_data_size": None, "shared_memory_region": None}),
    }
    request = parse(inner)
    assert (request.outputs, request.binary) == (("label", "class"), frozenset())
    assert request.timeout_s is None


def test_a_null_parameter_of_an_output_leaves_it_to_the_request() -> None:
    wanted = [{"name": "label", "parameters": {"binary_data": None}}]
    request = parse({"parameters": {"binary_data_output": True}, "outputs": wanted, **body()})
    assert request.binary == {"label"}


def test_what_other_servers_know_is_let_pass() -> None:
    free = {"content_type": "np", "headers": {"a": [1]}, "mine": None, "": 3, "priority": 0}
    request = parse(
        {
            "id": "a",
            "model_name": "other",
            "model_version": "7",
            "raw_output_contents": [],
            "parameters": {**free, "sequence_start": True, "sequence_id": 0},
            "outputs": [{"name": "label", "shape": [1], "parameters": free}],
            **body(parameters=free, content_type="np"),
        }
    )
    assert (request.id, request.outputs) == ("a", ("label",))
    np.testing.assert_array_equal(request.x.ravel(), FLAT)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"parameters": {"sequence_id": 7}, **body()}, "'sequence_id' is not served here"),
        ({"parameters": {"sequence_id": "s"}, **body()}, "without sequences"),
        (body(parameters={"shared_memory_region": "r"}), "'shared_memory_region' of 'input' is"),
        (body(parameters={"shared_memory_byte_size": 8}), "come and go in the body alone"),
        (body(parameters={"shared_memory_offset": 8}), "come and go in the body alone"),
        (
            {"outputs": [{"name": "label", "parameters": {"classification": 2}}], **body()},
            "'classification' of 'label' is not served here: outputs are sent as they are",
        ),
        (
            {"outputs": [{"name": "class", "parameters": {"shared_memory_region": "r"}}], **body()},
            "'shared_memory_region' of 'class' is not served here",
        ),
    ],
)
def test_parameters_that_would_change_what_the_answer_means_are_refused(
    value: Any, text: str
) -> None:
    assert text in refused(value)


HELD = [0, -1, 2**24, -(2**24), 2**24 + 2, 2**40]


@pytest.mark.parametrize("datatype", ["INT64", "FP64"])
def test_whole_numbers_that_32_bit_floats_hold_are_taken(datatype: str) -> None:
    x = parse(body(datatype=datatype, data=HELD)).x
    assert [int(value) for value in x.ravel().tolist()] == HELD


@pytest.mark.parametrize(
    ("datatype", "value", "becomes"),
    [
        ("INT32", 2**24 + 1, "16777216"),
        ("UINT32", 2**32 - 1, "4294967296"),
        ("INT64", -(2**24) - 1, "-16777216"),
        ("INT64", 1_700_000_001, "1700000000"),
        ("INT64", 2**53 + 1, "9007199254740992"),  # which 64-bit floats do not hold either
        ("INT64", 2**63 - 1, "9223372036854775808"),
        ("UINT64", 2**63 + 1, "9223372036854775808"),
        ("FP64", 123_456_789.0, "123456792"),
        ("FP64", 123_456_789, "123456792"),
    ],
)
def test_whole_number_that_would_be_rounded_is_named(
    datatype: str, value: float, becomes: str
) -> None:
    text = refused(body(datatype=datatype, data=[*FLAT[:1], 2, 3, value, 5, 6]))
    assert f"number 3 of 'data', {value}, would become {becomes} as a 32-bit float" in text
    nested = [[[1, 2, 3], [value, 5, 6]]]
    assert f"number 3 of 'data', {value}" in refused(body(datatype=datatype, data=nested))


@pytest.mark.parametrize(("datatype", "value"), [("INT64", 2**63), ("UINT64", 2**64)])
def test_number_just_beyond_its_type_is_told_from_the_largest(datatype: str, value: int) -> None:
    text = refused(body(datatype=datatype, data=[1, 2, 3, 4, 5, value]))
    assert f"number 5 of 'data', {value}, is not {datatype}" in text


@pytest.mark.parametrize(
    ("datatype", "value"), [("FP64", 0.1), ("FP64", 2**24 + 1.5), ("FP32", 2**24 + 1)]
)
def test_fractions_and_declared_32_bit_floats_are_taken_as_near_as_they_come(
    datatype: str, value: float
) -> None:
    assert parse(body(datatype=datatype, data=[value] * 6)).x[0, 0, 0] == np.float32(value)


def test_too_many_rows_or_bytes_is_413() -> None:
    assert "11 rows; at most 10" in refused(body(shape=[11, 2, 3], data=FLAT * 11), status=413)
    assert "a huge number rows" in refused(body(shape=[10**400, 2, 3]), status=413)
    assert "10,001 bytes of JSON; at most 10,000" in refused(b" " * 10_001, status=413)


def test_damaged_requests_are_refused_and_nothing_worse() -> None:
    rng = random.Random(0)
    whole = bytearray(json.dumps({"id": "a", **body()}).encode())
    texts: list[str] = []
    for _ in range(3_000):
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(damaged))
            damaged[at : at + rng.randint(0, 3)] = rng.choice(
                [b"", b"[", b"]", b'"', b"null", b"1e999", b"-", b"{}", b"\x00", b":", b"9" * 30]
            )
        try:
            parse(bytes(damaged))
        except RequestError as error:
            texts.append(str(error))
    assert len(texts) > 1_000
    assert all(json.loads(encode_error(text))["error"] == text for text in texts)


def test_answer_carries_id_version_and_hash() -> None:
    request = parse({"id": "a", **body(data=FLAT * 2, shape=[2, 2, 3])})
    output = np.array([[0.25, 0.75], [0.9, 0.1]], np.float32)
    content, json_length = encode_infer(request, output, SPEC, 4, "cafe")
    answer = json.loads(content)
    assert json_length == len(content)
    assert answer == {
        "model_name": "digits",
        "model_version": "4",
        "id": "a",
        "parameters": {"weights_hash": "cafe"},
        "outputs": [
            {
                "name": "probabilities",
                "shape": [2, 2],
                "datatype": "FP32",
                "data": [0.25, 0.75, float(np.float32(0.9)), float(np.float32(0.1))],
            },
            {"name": "label", "shape": [2], "datatype": "INT64", "data": [1, 0]},
            {"name": "class", "shape": [2], "datatype": "BYTES", "data": ["yes", "no"]},
        ],
    }


def test_only_the_outputs_asked_for_are_sent() -> None:
    request = parse({"outputs": [{"name": "label"}], **body()})
    content, _ = encode_infer(request, np.array([[0.9, 0.1]], np.float32), SPEC, 1, "")
    answer = json.loads(content)
    assert [t["name"] for t in answer["outputs"]] == ["label"]
    assert parse({"outputs": [], **body()}).outputs == SPEC.outputs


def test_model_answer_that_is_not_finite_is_refused_by_row() -> None:
    request = parse(body(data=FLAT * 2, shape=[2, 2, 3]))
    with pytest.raises(RequestError, match="answer to row 1 is not finite") as caught:
        encode_infer(request, np.array([[1, 0], [np.nan, 0]], np.float32), SPEC, 1, "")
    assert caught.value.status == 422


def test_metadata_describes_inputs_and_outputs() -> None:
    meta = model_metadata(SPEC, [1, 2])
    assert meta["versions"] == ["1", "2"]
    assert meta["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 2, 3]}]
    assert [t["name"] for t in meta["outputs"]] == ["probabilities", "label", "class"]
    nameless = model_metadata(ModelSpec("m", (2,), n_classes=5), [])
    assert nameless["outputs"][0] == {
        "name": "probabilities",
        "datatype": "FP32",
        "shape": [-1, 5],
    }
    assert server_metadata("0.1")["version"] == "0.1"


def test_class_names_must_match_the_classes() -> None:
    with pytest.raises(ConfigError, match="has 3 classes, but 2 class names"):
        ModelSpec("m", (1,), n_classes=3, classes=("a", "b"))
    with pytest.raises(ConfigError, match="configured twice"):
        ModelSpec("m", (1,), n_classes=2, classes=("a", "a"))


def test_ids_increase_and_are_valid_uuid7() -> None:
    ids = [new_id() for _ in range(5_000)]
    assert ids == sorted(set(ids))
    assert {(uuid.UUID(i).version, uuid.UUID(i).variant) for i in ids} == {(7, uuid.RFC_4122)}


def test_ids_increase_while_the_clock_steps_back(monkeypatch: pytest.MonkeyPatch) -> None:
    source = IdSource()
    first = source()
    monkeypatch.setattr("undrift.ids.time.time_ns", lambda: 10**15)
    assert first < source() < source()


def test_ids_begin_with_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("undrift.ids.time.time_ns", lambda: 0x0123456789AB * 1_000_000)
    assert IdSource()().startswith("01234567-89ab-7")


def test_ids_carry_into_the_clock_when_the_tail_is_used_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("undrift.ids.time.time_ns", lambda: 5_000_000)
    monkeypatch.setattr("undrift.ids.os.urandom", lambda n: b"\xff" * n)
    source = IdSource()
    source()
    source._tail = (1 << 74) - 1
    last = source._ms
    new = uuid.UUID(source())
    assert new.int >> 80 == last + 1
