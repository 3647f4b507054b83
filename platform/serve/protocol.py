"""The Open Inference Protocol, V2, in JSON.

Reference: https://github.com/kserve/open-inference-protocol, specification/protocol.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from pydantic_core import to_json

from undrift.errors import ConfigError, RequestError
from undrift.records import FloatArray
from undrift.serve.body import check_id, check_keys, kind, new_id, parse_json, row_ids, show
from undrift.serve.settings import ServeSettings

_INTEGERS: dict[str, tuple[int, int]] = {
    "BOOL": (0, 1),
    **{f"UINT{b}": (0, 2**b - 1) for b in (8, 16, 32, 64)},
    **{f"INT{b}": (-(2 ** (b - 1)), 2 ** (b - 1) - 1) for b in (8, 16, 32, 64)},
}
_FLOATS = ("FP16", "FP32", "FP64")
_REQUEST_KEYS = {"id", "parameters", "inputs", "outputs"}
_INPUT_KEYS = {"name", "shape", "datatype", "parameters", "data"}


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What requests and answers of one model look like.

    Args:
        name: Name of the model in URLs.
        input_shape: Shape of one row.
        n_classes: Number of classes.
        classes: Their names, in order; empty if they have none.
        input_name: Name of the input tensor.

    Raises:
        ConfigError: The number of names is not the number of classes, or a name repeats.
    """

    name: str
    input_shape: tuple[int, ...]
    n_classes: int
    classes: tuple[str, ...] = ()
    input_name: str = "input"

    def __post_init__(self) -> None:
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
        return ("probabilities", "label", "class") if self.classes else ("probabilities", "label")


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A checked inference request.

    Attributes:
        id: The caller's id, or a new UUIDv7.
        x: (n, *input_shape) input, finite.
        outputs: Names of the output tensors to answer with.
    """

    id: str
    x: FloatArray
    outputs: tuple[str, ...]

    @property
    def row_ids(self) -> tuple[str, ...]:
        """Inference id of each row, by which labels come back: ``id``, or ``id:0``, ``id:1``."""
        return row_ids(self.id, len(self.x))


def parse_infer(
    body: bytes, content_type: str, spec: ModelSpec, settings: ServeSettings
) -> InferRequest:
    """Check an inference request and turn it into an array.

    Args:
        body: The HTTP body.
        content_type: The header of that name; empty if absent.
        spec: The model that it is for.
        settings: Limits on bytes and rows.

    Raises:
        RequestError: 400, 413 or 415; the text says what was expected and what was got.

    Example:
        >>> tensor = b'{"name": "input", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}'
        >>> spec = ModelSpec("m", (2,), n_classes=3)
        >>> parse_infer(b'{"inputs": [%s]}' % tensor, "", spec, ServeSettings()).x
        array([[1., 2.]], dtype=float32)
    """
    request = parse_json(body, content_type, settings)
    if not isinstance(request, dict):
        raise RequestError(f"the body must be a JSON object with 'inputs', not {kind(request)}")
    check_keys(request, _REQUEST_KEYS, "the request")
    inputs = request.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        got = f"{len(inputs)} entries" if isinstance(inputs, list) else kind(inputs)
        raise RequestError(f"'inputs' must be a list of one tensor, {spec.input_name!r}; got {got}")
    return InferRequest(
        id=check_id(request["id"]) if "id" in request else new_id(),
        x=_parse_tensor(inputs[0], spec, settings.max_rows_per_request),
        outputs=_parse_outputs(request["outputs"], spec) if "outputs" in request else spec.outputs,
    )


def encode_infer(
    request: InferRequest, output: FloatArray, spec: ModelSpec, version: int, weights_hash: str
) -> bytes:
    """Return the body that answers ``request``.

    Args:
        request: The request.
        output: (n, c) class probabilities, one row per row of the request.
        spec: The model.
        version: Version that answered.
        weights_hash: Hash of its weights.

    Raises:
        RequestError: 422, the model's answer to this input is not finite.
    """
    finite = np.isfinite(output)
    if not finite.all():
        row = int(np.flatnonzero(~finite.all(axis=1))[0])
        raise RequestError(
            f"the model's answer to row {row} is not finite; are its values far out of range?",
            status=422,
        )
    n = len(output)
    label = output.argmax(axis=1).tolist()
    tensors: list[dict[str, Any]] = []
    for name in request.outputs:
        if name == "probabilities":
            shape, datatype, data = [n, spec.n_classes], "FP32", output.ravel().tolist()
        elif name == "label":
            shape, datatype, data = [n], "INT64", label
        else:
            shape, datatype, data = [n], "BYTES", [spec.classes[i] for i in label]
        tensors.append({"name": name, "shape": shape, "datatype": datatype, "data": data})
    return to_json(
        {
            "model_name": spec.name,
            "model_version": str(version),
            "id": request.id,
            "parameters": {"weights_hash": weights_hash},
            "outputs": tensors,
        }
    )


def encode_error(message: str) -> bytes:
    """Return the body of every answer that is not a success."""
    return to_json({"error": message})


def server_metadata(version: str) -> dict[str, Any]:
    """Return the answer to ``GET /v2``; ``version`` is that of undrift."""
    return {"name": "undrift", "version": version, "extensions": ["feedback", "drift"]}


def model_metadata(spec: ModelSpec, versions: Iterable[int]) -> dict[str, Any]:
    """Return the answer to ``GET /v2/models/{name}``; ``versions`` can be asked for by number."""
    kinds = {
        "probabilities": ("FP32", [-1, spec.n_classes]),
        "label": ("INT64", [-1]),
        "class": ("BYTES", [-1]),
    }
    return {
        "name": spec.name,
        "versions": [str(v) for v in versions],
        "platform": "pytorch",
        "inputs": [{"name": spec.input_name, "datatype": "FP32", "shape": [-1, *spec.input_shape]}],
        "outputs": [
            {"name": n, "datatype": kinds[n][0], "shape": kinds[n][1]} for n in spec.outputs
        ],
    }


def _parse_outputs(wanted: Any, spec: ModelSpec) -> tuple[str, ...]:
    names: list[str] = []
    for item in wanted if isinstance(wanted, list) else [wanted]:
        name = item.get("name") if isinstance(item, dict) else item
        if not isinstance(item, dict) or name not in spec.outputs or name in names:
            raise RequestError(
                f"'outputs' must be a list of different {{\"name\": ...}} out of "
                f"{', '.join(spec.outputs)}; got {show(item)}"
            )
        names.append(name)
    return tuple(names) or spec.outputs


def _parse_tensor(tensor: dict[str, Any], spec: ModelSpec, max_rows: int) -> FloatArray:
    check_keys(tensor, _INPUT_KEYS, "the input")
    for key in ("name", "shape", "datatype", "data"):
        if key not in tensor:
            raise RequestError(f"the input has no {key!r}")
    if tensor["name"] != spec.input_name:
        raise RequestError(f"the input is named {spec.input_name!r}; got {show(tensor['name'])}")
    shape, datatype = tensor["shape"], tensor["datatype"]
    if (
        not isinstance(shape, list)
        or any(type(size) is not int for size in shape)
        or tuple(shape[1:]) != spec.input_shape
        or shape[0] < 1
    ):
        expected = ", ".join(map(str, ("rows", *spec.input_shape)))
        raise RequestError(f"'shape' must be [{expected}]; got {show(shape)}")
    if shape[0] > max_rows:
        raise RequestError(f"{show(shape[0])} rows; at most {max_rows} are accepted", status=413)
    if not isinstance(datatype, str) or (datatype not in _FLOATS and datatype not in _INTEGERS):
        raise RequestError(
            f"'datatype' must be one of {', '.join((*_FLOATS, *_INTEGERS))}; got {show(datatype)}"
        )
    return _to_array(tensor["data"], tuple(shape), datatype)


def _to_array(data: Any, shape: tuple[int, ...], datatype: str) -> FloatArray:
    if not isinstance(data, list):
        raise RequestError(f"'data' must be a list of numbers, not {kind(data)}")
    if data and isinstance(data[0], list):
        data = _flatten(data, shape)
    if len(data) != math.prod(shape):
        raise RequestError(
            f"'data' has {len(data)} numbers; shape {list(shape)} needs {math.prod(shape)}"
        )
    try:
        wide = np.frombuffer(array("d", data))  # strict: takes neither text nor null nor lists
    except (TypeError, OverflowError):
        i, value = next((i, v) for i, v in enumerate(data) if not _is_number(v))
        raise RequestError(f"'data' must hold numbers; number {i} is {show(value)}") from None
    with np.errstate(over="ignore"):
        x = wide.astype(np.float32)
    if not np.isfinite(x).all():
        i = int(np.flatnonzero(~np.isfinite(x))[0])
        raise RequestError(f"'data' must be finite 32-bit numbers; number {i} is {show(data[i])}")
    if datatype in _INTEGERS:
        low, high = _INTEGERS[datatype]
        bad = np.flatnonzero((wide != np.floor(wide)) | (wide < low) | (wide > high))
        if len(bad):
            i = int(bad[0])
            raise RequestError(f"number {i} of 'data', {show(data[i])}, is not {datatype}")
    return x.reshape(shape)


def _is_number(value: Any) -> bool:
    return type(value) in (float, bool) or (type(value) is int and value.bit_length() <= 1023)


def _flatten(data: list[Any], shape: tuple[int, ...]) -> list[Any]:
    if len(data) != shape[0]:
        raise RequestError(f"'data' has {len(data)} rows; shape {list(shape)} needs {shape[0]}")
    for size in shape[1:]:
        for item in data:
            if not isinstance(item, list) or len(item) != size:
                got = f"{len(item)} items" if isinstance(item, list) else kind(item)
                raise RequestError(
                    f"'data' is nested unlike shape {list(shape)}: "
                    f"expected a list of {size}, got {got}"
                )
        data = list(chain.from_iterable(data))
    return data
