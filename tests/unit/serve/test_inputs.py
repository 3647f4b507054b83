"""Requests to a model of several named inputs, in JSON and in bytes."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import numpy as np
import pytest

from undrift.errors import RequestError
from undrift.model.layout import Layout
from undrift.model.settings import InputSettings
from undrift.serve.openapi import document
from undrift.serve.protocol import InferRequest, ModelSpec, model_metadata, parse_infer
from undrift.serve.settings import ServeSettings

LAYOUT = Layout(
    (
        InputSettings(name="tokens", shape=(3,), datatype="INT64"),
        InputSettings(name="numeric", shape=(2, 1)),
        InputSettings(name="flag", datatype="BOOL"),
    )
)
SPEC = ModelSpec("m", (LAYOUT.width,), n_classes=2, layout=LAYOUT)
SETTINGS = ServeSettings(max_rows_per_request=10)
TOKENS = np.array([[1, 2**53 + 1, -(2**63)], [2**24 + 1, 0, 2**63 - 1]])
NUMERIC = np.array([[[0.5], [1.5]], [[2.5], [-3.5]]], np.float32)
FLAG = np.array([True, False])
ROWS = LAYOUT.pack({"tokens": TOKENS, "numeric": NUMERIC, "flag": FLAG})
DATATYPES = {"tokens": "INT64", "numeric": "FP32", "flag": "BOOL"}
ARRAYS = {"tokens": TOKENS, "numeric": NUMERIC, "flag": FLAG}


def tensor(name: str, /, **changed: Any) -> dict[str, Any]:
    values = ARRAYS[name]
    whole = {
        "name": name,
        "shape": list(values.shape),
        "datatype": DATATYPES[name],
        "data": values.tolist(),
        **changed,
    }
    return {key: value for key, value in whole.items() if value is not ...}


def all_but(name: str, *instead: Any) -> list[Any]:
    return [tensor(n) for n in ARRAYS if n != name] + list(instead)


def binary(*names: str) -> tuple[bytes, str]:
    """Return a body with these inputs as bytes, in this order, and its header."""
    sizes = {n: {"binary_data_size": ARRAYS[n].nbytes} for n in names}
    inputs = [tensor(n, data=..., parameters=sizes[n]) for n in names]
    inputs += [tensor(n) for n in ARRAYS if n not in names]
    head = json.dumps({"inputs": inputs}).encode()
    return head + b"".join(ARRAYS[n].tobytes() for n in names), str(len(head))


def parse(inputs: Any) -> InferRequest:
    return parse_infer(json.dumps({"inputs": inputs}).encode(), "application/json", SPEC, SETTINGS)


def refused(inputs: Any, status: int = 400) -> str:
    with pytest.raises(RequestError) as caught:
        parse(inputs)
    assert caught.value.status == status
    return str(caught.value)


def test_inputs_are_taken_by_name_in_any_order() -> None:
    inputs = [tensor(name) for name in ARRAYS]
    for order in (inputs, inputs[::-1]):
        np.testing.assert_array_equal(parse(order).x, ROWS)
    flat = [tensor(name, data=ARRAYS[name].ravel().tolist()) for name in ARRAYS]
    np.testing.assert_array_equal(parse(flat).x, ROWS)
    assert len(parse(inputs).row_ids) == 2


@pytest.mark.parametrize(
    "names", [("tokens", "numeric", "flag"), ("flag", "numeric", "tokens"), ("numeric",), ()]
)
def test_bytes_follow_in_the_order_of_the_request(names: tuple[str, ...]) -> None:
    body, length = binary(*names)
    found = parse_infer(body, "application/octet-stream", SPEC, SETTINGS, length)
    np.testing.assert_array_equal(found.x, ROWS)


def test_whole_numbers_of_another_type_that_fit_are_taken() -> None:
    small = np.array([[1, 2, 3], [4, 5, 6]])
    for datatype in ("UINT8", "INT32", "UINT64"):
        found = parse(all_but("tokens", tensor("tokens", data=small.tolist(), datatype=datatype)))
        assert found.x[:, :3].tolist() == small.tolist()


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (all_but("numeric"), "'tokens', 'numeric', 'flag'; 'numeric' is not among them"),
        ([], "'tokens' is not among them"),
        (None, "'inputs' must be a list of the tensors 'tokens', 'numeric', 'flag', each of them"),
        (all_but("flag", tensor("flag", name="flags")), "each of them once; got 'flags'"),
        ([*all_but("flag"), tensor("tokens")], "each of them once; got 'tokens'"),
        (all_but("flag", 7), "each of them once; got 7"),
        (all_but("flag", tensor("flag", name=["flag"])), "each of them once; got ['flag']"),
        (all_but("flag", tensor("flag", shape=...)), "input 'flag': the input has no 'shape'"),
        (
            all_but("tokens", tensor("tokens", shape=[2, 4])),
            "input 'tokens': 'shape' must be [rows, 3]; got [2, 4]",
        ),
        (all_but("flag", tensor("flag", shape=[])), "input 'flag': 'shape' must be [rows]; got []"),
        (
            all_but("flag", tensor("flag", shape=[1], data=[1])),
            "same number of rows; they have 'tokens' 2, 'numeric' 2, 'flag' 1",
        ),
        (
            all_but("tokens", tensor("tokens", datatype="FP32")),
            "input 'tokens': 'datatype' must be one of BOOL, UINT8",
        ),
        (
            all_but("tokens", tensor("tokens", data=[1, 2, 3, 4, 5.0, 6])),
            "input 'tokens': number 4 of 'data', 5.0, is not INT64",
        ),
        (
            all_but("tokens", tensor("tokens", data=[1, 2, 3, 2**63, 5, 6])),
            "input 'tokens': number 3 of 'data', 9223372036854775808, is not INT64",
        ),
        (
            all_but("tokens", tensor("tokens", data=[1, 2, 3, 4, 5, 300], datatype="INT8")),
            "number 5 of 'data', 300, is not INT8",
        ),
        (all_but("flag", tensor("flag", data=[0, 2])), "number 1 of 'data', 2, is not BOOL"),
        (
            all_but("flag", tensor("flag", data=[0, 2], datatype="INT8")),
            "number 1 of 'data', 2, is not BOOL",
        ),
        (
            all_but("tokens", tensor("tokens", data=[1, 2])),
            "input 'tokens': 'data' has 2 numbers; shape [2, 3] needs 6",
        ),
        (
            all_but("numeric", tensor("numeric", data=[1, 2, 3, None])),
            "input 'numeric': 'data' must hold numbers; number 3 is None",
        ),
        (
            all_but("flag", tensor("flag", data=..., parameters={"binary_data_size": 2})),
            "input 'flag': 0 bytes are left; 'binary_data_size' says 2",
        ),
        (
            all_but("flag", tensor("flag", data=..., parameters={"binary_data_size": -1})),
            "'binary_data_size' says -1",
        ),
    ],
)
def test_request_that_does_not_fit_is_refused_in_one_sentence(inputs: Any, said: str) -> None:
    assert said in refused(inputs)


def test_too_many_rows_are_413() -> None:
    assert "input 'flag': 11 rows" in refused([tensor("flag", shape=[11])], 413)


def test_bytes_that_nobody_asked_for_are_refused() -> None:
    body, length = binary("numeric")
    with pytest.raises(RequestError, match="3 bytes follow those of the inputs"):
        parse_infer(body + b"abc", "", SPEC, SETTINGS, length)


def test_unsigned_number_beyond_the_models_type_is_refused_as_bytes() -> None:
    raw = np.array([[1, 2, 3], [4, 5, 2**63]], np.uint64).tobytes()
    head = tensor("tokens", data=..., datatype="UINT64", parameters={"binary_data_size": len(raw)})
    text = json.dumps({"inputs": [head, tensor("numeric"), tensor("flag")]}).encode()
    with pytest.raises(RequestError, match="number 5 of the binary data, 9223372036854775808, is"):
        parse_infer(text + raw, "", SPEC, SETTINGS, str(len(text)))


def test_metadata_and_document_show_the_inputs() -> None:
    assert model_metadata(SPEC, [1])["inputs"] == [
        {"name": "tokens", "datatype": "INT64", "shape": [-1, 3]},
        {"name": "numeric", "datatype": "FP32", "shape": [-1, 2, 1]},
        {"name": "flag", "datatype": "BOOL", "shape": [-1]},
    ]
    schemas = document(SPEC, SETTINGS, "1")["components"]["schemas"]
    check = jsonschema.Draft202012Validator(
        {**schemas["InferRequest"], "components": {"schemas": schemas}}
    )
    assert check.is_valid({"inputs": [tensor(name) for name in ARRAYS]})
    for wrong in (
        all_but("flag"),
        all_but("flag", tensor("flag", name="flags")),
        all_but("tokens", tensor("tokens", shape=[2, 4])),
        all_but("tokens", tensor("tokens", datatype="FP32")),
    ):
        assert not check.is_valid({"inputs": wrong})
