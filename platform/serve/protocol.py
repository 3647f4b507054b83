"""The Open Inference Protocol, V2, in JSON and with its binary tensor data extension.

Reference: https://github.com/kserve/open-inference-protocol, specification/protocol.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json

from undrift.errors import ConfigError, RequestError
from undrift.ids import new_id, row_ids
from undrift.model.layout import Layout
from undrift.model.settings import InputSettings
from undrift.records import FloatArray
from undrift.serve.body import check_id, kind, parse_json, present, show
from undrift.serve.inputs import (
    BYTES,
    parameter_of,
    parameters_of,
    parse_inputs,
    parse_values,
)
from undrift.serve.settings import ServeSettings
from undrift.serve.tensors import to_bytes

JSON = "application/json"
BINARY = "application/octet-stream"
LENGTH_HEADER = "Inference-Header-Content-Length"
"""Says how many bytes of a body are JSON, where tensors follow it as bytes."""

_VALUES_AT_ONCE = 2**14
_VALUES_IN_ONE = 2**8


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What requests and answers of one model look like.

    Args:
        name: Name of the model in URLs.
        input_shape: Shape of one row.
        n_classes: Number of classes; 0 of a regression.
        classes: Their names, in order; empty if they have none.
        layout: Its named inputs; None if it takes one tensor of floats, ``input``.
        preprocessed: Requests bring one tensor of bytes, ``input``, of which rows are made.
        targets: Numbers that a regression answers to a row; 0 where it answers classes.

    Attributes:
        inputs: The input tensors.

    Raises:
        ConfigError: The number of names is not the number of classes, or a name repeats.
    """

    name: str
    input_shape: tuple[int, ...]
    n_classes: int
    classes: tuple[str, ...] = ()
    layout: Layout | None = None
    preprocessed: bool = False
    targets: int = 0
    inputs: tuple[InputSettings, ...] = field(init=False)

    def __post_init__(self) -> None:
        one = InputSettings(name="input", shape=self.input_shape)
        inputs = self.layout.inputs if self.layout else (one,)
        object.__setattr__(self, "inputs", (BYTES,) if self.preprocessed else inputs)
        if self.classes and len(self.classes) != self.n_classes:
            raise ConfigError(
                f"model {self.name!r} has {self.n_classes} classes, but {len(self.classes)} "
                f"class names are configured"
            )
        if len(set(self.classes)) != len(self.classes):
            raise ConfigError(f"model {self.name!r}: a class name is configured twice")

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the output tensors."""
        if self.targets:
            return ("value",)
        return ("probabilities", "label", "class") if self.classes else ("probabilities", "label")


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A checked inference request.

    Attributes:
        id: The caller's id, or a new UUIDv7.
        x: (n, *row_shape) input, finite; (n, 0) while it has to be made of ``values``.
        outputs: Names of the output tensors to answer with.
        binary: Those of them to send as bytes.
        timeout_s: The caller wants no answer later than this after the request; None: any time.
        values: What rows are made of, where that is for `model.preprocess` to do.
        pinned: It names the version that has to answer.
    """

    id: str
    x: FloatArray
    outputs: tuple[str, ...]
    binary: frozenset[str] = frozenset()
    timeout_s: float | None = None
    values: tuple[bytes, ...] = ()
    pinned: bool = False

    @property
    def row_ids(self) -> tuple[str, ...]:
        """Inference id of each row, by which labels come back: ``id``, or ``id:0``, ``id:1``."""
        return row_ids(self.id, len(self.x))


def parse_infer(
    body: bytes,
    content_type: str,
    spec: ModelSpec,
    settings: ServeSettings,
    json_length: str | None = None,
) -> InferRequest:
    """Check an inference request and turn it into an array.

    Args:
        body: The HTTP body.
        content_type: The header of that name; empty if absent.
        spec: The model that it is for.
        settings: Limits on bytes and rows.
        json_length: The header Inference-Header-Content-Length; None if absent.

    Raises:
        RequestError: 400, 413 or 415; the text says what was expected and what was got.

    Example:
        >>> tensor = b'{"name": "input", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}'
        >>> spec = ModelSpec("m", (2,), n_classes=3)
        >>> parse_infer(b'{"inputs": [%s]}' % tensor, "", spec, ServeSettings()).x
        array([[1., 2.]], dtype=float32)
    """
    size = len(body) if json_length is None else _json_length(json_length, len(body))
    if not content_type or (json_length is not None and content_type == BINARY):
        content_type = JSON  # Triton's client names no type
    request = parse_json(body[:size], content_type, settings)
    if not isinstance(request, dict):
        raise RequestError(f"the body must be a JSON object with 'inputs', not {kind(request)}")
    request = present(request)
    as_bytes, timeout_s = _parse_parameters(request)
    outputs = _parse_outputs(request.get("outputs", []), spec, as_bytes)
    given, raw = request.get("inputs"), memoryview(body)[size:]
    values: tuple[bytes, ...] = ()
    if spec.preprocessed:
        values = parse_values(given, raw, settings.max_rows_per_request)
        x = np.empty((len(values), 0), np.float32)
    else:
        x = parse_inputs(given, raw, spec.inputs, spec.layout, settings.max_rows_per_request)
    return InferRequest(
        id=check_id(request["id"]) if "id" in request else new_id(),
        x=x,
        values=values,
        outputs=tuple(outputs),
        binary=frozenset(name for name, wanted in outputs.items() if wanted),
        timeout_s=timeout_s,
    )


def encode_infer(
    request: InferRequest,
    output: FloatArray,
    spec: ModelSpec,
    version: int,
    weights_hash: str,
    labels: int = 0,
) -> tuple[bytes, int]:
    """Return the body that answers ``request``, and how many bytes of it are JSON.

    Args:
        request: The request.
        output: (n, c) class probabilities, or numbers, one row per row of the request.
        spec: The model.
        version: Version that answered.
        weights_hash: Hash of its weights.
        labels: Labels that the heads mixed in have learnt from; 0 where the model answers alone.

    Raises:
        RequestError: 422, the model's answer to this input is not finite.
    """
    json, blobs = list[bytes](), list[bytes]()
    for _ in encoding(request, output, spec, version, weights_hash, labels, json, blobs):
        pass
    return b"".join(json + blobs), sum(map(len, json))


def encoding(
    request: InferRequest,
    output: FloatArray,
    spec: ModelSpec,
    version: int,
    weights_hash: str,
    labels: int,
    json: list[bytes],
    blobs: list[bytes],
) -> Iterator[None]:
    """Do what `encode_infer` does in short steps: fill ``json``, and ``blobs`` that follow it."""
    finite = np.isfinite(output)
    if not finite.all():
        row = int(np.flatnonzero(~finite.all(axis=1))[0])
        raise RequestError(
            f"the model's answer to row {row} is not finite; are its values far out of range?",
            status=422,
        )
    head = {
        "model_name": spec.name,
        "model_version": str(version),
        "id": request.id,
        "parameters": {"weights_hash": weights_hash} | ({"labels": labels} if labels else {}),
    }
    if not request.binary and output.size <= _VALUES_IN_ONE:
        tensors = [_tensor(name, output, spec) for name in request.outputs]
        for tensor, values in tensors:
            tensor["data"] = values.ravel().tolist()
        json.append(to_json({**head, "outputs": [tensor for tensor, _ in tensors]}))
        return
    json.append(to_json(head)[:-1] + b',"outputs":[')
    for i, name in enumerate(request.outputs):
        tensor, values = _tensor(name, output, spec)
        json.append(b"," if i else b"")
        if name in request.binary:
            blobs.append(to_bytes(values, tensor["datatype"]))
            size = {"parameters": {"binary_data_size": len(blobs[-1])}}
            json.append(to_json({**tensor, **size}))
            continue
        json.append(to_json(tensor)[:-1] + b',"data":[')
        flat = values.ravel()
        for start in range(0, len(flat), _VALUES_AT_ONCE):
            json.append(b"," if start else b"")
            json.append(to_json(flat[start : start + _VALUES_AT_ONCE].tolist())[1:-1])
            if start + _VALUES_AT_ONCE < len(flat):
                yield
        json.append(b"]}")
    json.append(b"]}")


def encode_error(message: str) -> bytes:
    """Return the body of every answer that is not a success."""
    return to_json({"error": message})


def server_metadata(version: str) -> dict[str, Any]:
    """Return the answer to ``GET /v2``; ``version`` is that of undrift."""
    return {
        "name": "undrift",
        "version": version,
        "extensions": ["binary_tensor_data", "feedback", "drift"],
    }


def model_metadata(spec: ModelSpec, versions: Iterable[int]) -> dict[str, Any]:
    """Return the answer to ``GET /v2/models/{name}``; ``versions`` can be asked for by number."""
    kinds = {
        "probabilities": ("FP32", [-1, spec.n_classes]),
        "label": ("INT64", [-1]),
        "class": ("BYTES", [-1]),
        "value": ("FP32", [-1] if spec.targets == 1 else [-1, spec.targets]),
    }
    return {
        "name": spec.name,
        "versions": [str(v) for v in versions],
        "platform": "pytorch",
        "inputs": [
            {
                "name": one.name,
                "datatype": "BYTES" if one is BYTES else one.datatype,
                "shape": [-1, *one.shape],
            }
            for one in spec.inputs
        ],
        "outputs": [
            {"name": n, "datatype": kinds[n][0], "shape": kinds[n][1]} for n in spec.outputs
        ],
    }


def _output(name: str, output: FloatArray, spec: ModelSpec) -> tuple[str, NDArray[Any]]:
    """Return datatype and values of one output tensor."""
    if name == "probabilities":
        return "FP32", output
    if name == "value":
        return "FP32", output[:, 0] if spec.targets == 1 else output
    label = output.argmax(axis=1)
    if name == "label":
        return "INT64", label
    return "BYTES", np.array(spec.classes, dtype=object)[label]


def _tensor(name: str, output: FloatArray, spec: ModelSpec) -> tuple[dict[str, Any], NDArray[Any]]:
    """Return what is said of one output tensor, and its values."""
    datatype, values = _output(name, output, spec)
    return {"name": name, "shape": values.shape, "datatype": datatype}, values


def _json_length(header: str, body_length: int) -> int:
    if header.isascii() and header.isdecimal() and len(header) < 16 and int(header) <= body_length:
        return int(header)
    raise RequestError(
        f"{LENGTH_HEADER} must be the number of bytes of JSON, at most the {body_length} "
        f"of the body; got {show(header)}"
    )


def _parse_parameters(request: dict[str, Any]) -> tuple[bool, float | None]:
    """Return whether outputs are wanted as bytes, and the timeout."""
    parameters = parameters_of(request, "the request")
    as_bytes, timeout = parameters.get("binary_data_output", False), parameters.get("timeout", 0)
    if type(as_bytes) is not bool:
        raise RequestError(f"'binary_data_output' must be true or false; got {show(as_bytes)}")
    if type(timeout) is not int or timeout < 0:
        raise RequestError(
            f"'timeout' must be a whole number of microseconds, 0 for none; got {show(timeout)}"
        )
    return as_bytes, min(timeout, 2**53) / 1e6 or None


def _parse_outputs(wanted: Any, spec: ModelSpec, as_bytes: bool) -> dict[str, bool]:
    """Return the names of the outputs, and whether each is wanted as bytes."""
    outputs: dict[str, bool] = {}
    for item in wanted if isinstance(wanted, list) else [wanted]:
        item = present(item) if isinstance(item, dict) else item
        name = item.get("name") if isinstance(item, dict) else item
        if not isinstance(item, dict) or name not in spec.outputs or name in outputs:
            raise RequestError(
                f"'outputs' must be a list of different {{\"name\": ...}} out of "
                f"{', '.join(spec.outputs)}; got {show(item)}"
            )
        outputs[name] = parameter_of(item, "binary_data", bool, as_bytes)
    return outputs or dict.fromkeys(spec.outputs, as_bytes)
