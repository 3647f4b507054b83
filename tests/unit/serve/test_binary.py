from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from undrift.errors import RequestError
from undrift.serve.protocol import InferRequest, ModelSpec, encode_infer, parse_infer
from undrift.serve.settings import ServeSettings
from undrift.serve.tensors import DATATYPES

SPEC = ModelSpec("digits", (2,), n_classes=2, classes=("nö", "yes"))
X = np.array([[0, 1], [1, 0], [1, 1]])
OUTPUT = np.array([[0.25, 0.75], [0.9, 0.1], [0.4, 0.6]], np.float32)
NUMPY = {
    "BOOL": "?",
    **{f"UINT{8 * n}": f"<u{n}" for n in (1, 2, 4, 8)},
    **{f"INT{8 * n}": f"<i{n}" for n in (1, 2, 4, 8)},
    **{f"FP{8 * n}": f"<f{n}" for n in (2, 4, 8)},
}


def request(raw: bytes, datatype: str = "FP32", size: Any = ..., **more: Any) -> tuple[bytes, str]:
    """Return a body that ends with ``raw``, and its header."""
    tensor = {
        "name": "input",
        "shape": [3, 2],
        "datatype": datatype,
        "parameters": {"binary_data_size": len(raw) if size is ... else size},
    }
    head = json.dumps({"inputs": [tensor], **more}).encode()
    return head + raw, str(len(head))


def parse(body: bytes, length: str | None, kind: str = "application/octet-stream") -> InferRequest:
    return parse_infer(body, kind, SPEC, ServeSettings(), length)


def refused(body: bytes, length: str | None, kind: str = "") -> str:
    with pytest.raises(RequestError) as caught:
        parse(body, length, kind)
    assert caught.value.status == 400
    return str(caught.value)


@pytest.mark.parametrize("datatype", [d for d in DATATYPES if d != "BF16"])
def test_bytes_of_every_datatype_become_the_models_floats(datatype: str) -> None:
    x = parse(*request(X.astype(NUMPY[datatype]).tobytes(), datatype)).x
    assert x.dtype == np.float32
    assert x.flags.aligned
    np.testing.assert_array_equal(x, X)


@pytest.mark.parametrize("shift", range(4))
def test_floats_that_lie_well_are_not_copied(shift: int) -> None:
    content, length = request(X.astype(np.float32).tobytes(), "FP32")
    head = content[: int(length)] + b" " * (-int(length) % 4 + shift)
    body = head + content[int(length) :]
    x = parse(body, str(len(head))).x
    assert np.shares_memory(x, np.frombuffer(body, np.uint8)) == (shift == 0)
    assert x.flags.aligned
    np.testing.assert_array_equal(x, X)


def test_brain_floats_are_the_upper_half_of_floats() -> None:
    values = np.array([[1.5, -2], [0, 256], [-0.125, 3]], "<f4")
    raw = (values.view("<u4") >> 16).astype("<u2").tobytes()
    np.testing.assert_array_equal(parse(*request(raw, "BF16")).x, values)


@pytest.mark.parametrize("kind", ["", "application/json", "application/octet-stream"])
def test_content_type_of_a_binary_request_may_be_any_that_clients_send(kind: str) -> None:
    assert len(parse(*request(X.astype("<f4").tobytes()), kind).x) == 3


def test_length_of_the_whole_body_means_that_all_is_json() -> None:
    tensor = {"name": "input", "shape": [3, 2], "datatype": "FP32", "data": X.tolist()}
    body = json.dumps({"inputs": [tensor]}).encode()
    np.testing.assert_array_equal(parse(body, str(len(body))).x, X)


RAW = X.astype("<f4").tobytes()


@pytest.mark.parametrize(
    ("case", "text"),
    [
        (request(RAW[:-1]), "23 bytes of binary data; shape [3, 2] of FP32 needs 24"),
        (request(RAW, "FP64"), "24 bytes of binary data; shape [3, 2] of FP64 needs 48"),
        (request(RAW, size=20), "24 bytes follow the JSON; 'binary_data_size' says 20"),
        (request(RAW, size=10**30), "'binary_data_size' says"),
        (request(RAW, size=-24), "'binary_data_size' says -24"),
        (request(RAW, size="24"), "'binary_data_size' must be a whole number; got '24'"),
        (request(RAW, size=None), "must have either 'data' or 'binary_data_size'"),
        (request(b"\x02" * 6, "BOOL"), "byte 0 of the binary data, 2, is not BOOL"),
        (request(np.full((3, 2), np.nan, "<f2").tobytes(), "FP16"), "number 0 is nan"),
        (request(np.full((3, 2), 1e300, "<f8").tobytes(), "FP64"), "number 0 is 1e+300"),
        ((request(RAW)[0], None), "the body is not JSON"),
        ((request(RAW)[0], "-1"), "must be the number of bytes of JSON, at most the"),
        ((request(RAW)[0], "99999"), "at most the"),
        ((request(RAW)[0], "9" * 5000), "at most the"),
        ((request(RAW)[0], "²"), "at most the"),
        ((request(RAW)[0], ""), "at most the"),
    ],
)
def test_bytes_that_do_not_fit_are_refused(case: tuple[bytes, str | None], text: str) -> None:
    assert text in refused(*case)


@pytest.mark.parametrize(
    ("datatype", "value", "becomes"),
    [
        ("INT32", -(2**24) - 1, "-16777216"),
        ("UINT32", 2**32 - 1, "4294967296"),
        ("INT64", 2**53 + 1, "9007199254740992"),
        ("INT64", -(2**63) + 1, "-9223372036854775808"),
        ("UINT64", 2**64 - 1, "18446744073709551616"),
        ("FP64", 123_456_789.0, "123456792"),
    ],
)
def test_bytes_of_whole_numbers_that_would_be_rounded_are_named(
    datatype: str, value: float, becomes: str
) -> None:
    x = np.full((3, 2), 2**24, NUMPY[datatype])
    x[2, 0] = value
    text = refused(*request(x.tobytes(), datatype))
    assert f"number 4 of the binary data, {value}, would become {becomes}" in text


@pytest.mark.parametrize("value", [2.0**24 + 1.5, 0.1, 2.0**80])
def test_bytes_of_64_bit_fractions_are_taken_as_near_as_they_come(value: float) -> None:
    x = np.full((3, 2), value)
    np.testing.assert_array_equal(parse(*request(x.tobytes(), "FP64")).x, x.astype(np.float32))


def test_bytes_of_the_largest_power_are_held() -> None:
    x = np.full((3, 2), 2**63, np.uint64)
    assert parse(*request(x.tobytes(), "UINT64")).x[0, 0] == 2.0**63


def tensor(**more: Any) -> bytes:
    whole = {"name": "input", "shape": [1, 2], "datatype": "FP32", **more}
    return json.dumps({"inputs": [whole]}).encode()


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (tensor(), "must have either 'data' or 'binary_data_size'"),
        (tensor(data=[1, 2], parameters={"binary_data_size": 8}), "must have either"),
        (tensor(data=[1, 2], parameters=[]), "'parameters' must be an object, not a list"),
        (
            tensor(parameters={"shared_memory_region": "a"}),
            "'shared_memory_region' of 'input' is not",
        ),
        (b'{"parameters": 1, "inputs": [{}]}', "'parameters' must be an object, not a number"),
        (b'{"parameters": {"timeout": -1}, "inputs": [{}]}', "whole number of microseconds"),
        (b'{"parameters": {"timeout": 1.5}, "inputs": [{}]}', "whole number of microseconds"),
        (b'{"parameters": {"binary_data_output": 1}, "inputs": [{}]}', "must be true or false"),
        (
            b'{"inputs": [{}],'
            b' "outputs": [{"name": "label", "parameters": {"classification": 1}}]}',
            "the parameter 'classification' of 'label' is not served here",
        ),
        (
            b'{"outputs": [{"name": "label", "parameters": {"binary_data": 1}}], "inputs": [{}]}',
            "'binary_data' must be true or false; got 1",
        ),
    ],
)
def test_parameters_that_mean_nothing_here_are_refused(body: bytes, text: str) -> None:
    assert text in refused(body, None)


def test_parameters_of_other_servers_are_let_pass() -> None:
    assert parse(*request(RAW, parameters={"priority": 3, "mine": "x"})).timeout_s is None


def test_timeout_is_in_microseconds_and_zero_is_none() -> None:
    assert parse(*request(RAW, parameters={"timeout": 2500})).timeout_s == 0.0025
    assert parse(*request(RAW, parameters={"timeout": 0})).timeout_s is None
    assert parse(*request(RAW, parameters={"timeout": 10**400})).timeout_s is not None


def answer(**more: Any) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the JSON of an answer, and the bytes of its binary outputs by name."""
    content, length = encode_infer(parse(*request(RAW, **more)), OUTPUT, SPEC, 4, "cafe")
    head, rest = json.loads(content[:length]), content[length:]
    blobs = {}
    for output in head["outputs"]:
        if "parameters" in output:
            size = output["parameters"]["binary_data_size"]
            blobs[output["name"]], rest = rest[:size], rest[size:]
    assert rest == b""
    return head, blobs


def test_all_outputs_come_as_bytes_on_request() -> None:
    head, blobs = answer(parameters={"binary_data_output": True})
    assert [(o["name"], o["shape"], o["datatype"]) for o in head["outputs"]] == [
        ("probabilities", [3, 2], "FP32"),
        ("label", [3], "INT64"),
        ("class", [3], "BYTES"),
    ]
    assert all("data" not in output for output in head["outputs"])
    np.testing.assert_array_equal(np.frombuffer(blobs["probabilities"], "<f4"), OUTPUT.ravel())
    assert np.frombuffer(blobs["label"], "<i8").tolist() == [1, 0, 1]
    assert blobs["class"] == b"\3\0\0\0yes\3\0\0\0n\xc3\xb6\3\0\0\0yes"


def test_binary_and_json_outputs_mix() -> None:
    wanted = [
        {"name": "class"},
        {"name": "label", "parameters": {"binary_data": True}},
    ]
    head, blobs = answer(outputs=wanted)
    assert head["outputs"][0]["data"] == ["yes", "nö", "yes"]
    assert list(blobs) == ["label"]


def test_an_outputs_own_wish_counts_more_than_the_requests() -> None:
    wanted = [{"name": "label", "parameters": {"binary_data": False}}, {"name": "class"}]
    head, blobs = answer(outputs=wanted, parameters={"binary_data_output": True})
    assert head["outputs"][0]["data"] == [1, 0, 1]
    assert list(blobs) == ["class"]


def test_damaged_binary_requests_are_refused_and_nothing_worse() -> None:
    rng = np.random.default_rng(0)
    whole, length = request(RAW)
    outcomes = []
    for _ in range(2_000):
        damaged = bytearray(whole)
        for at in rng.integers(0, len(damaged), rng.integers(1, 5)):
            damaged[at] = rng.integers(256)
        cut = bytes(damaged[: rng.integers(1, len(damaged) + 20)])
        try:
            parse(cut, str(max(0, int(length) + rng.integers(-1, 2))))
            outcomes.append(200)
        except RequestError as error:
            outcomes.append(error.status)
    assert set(outcomes) <= {200, 400, 413}
    assert outcomes.count(400) > 1_000
