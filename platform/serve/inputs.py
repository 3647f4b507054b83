"""What a request says of its tensors: parameters, and the inputs by name, as rows."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from undrift.errors import RequestError
from undrift.model.layout import Layout
from undrift.model.settings import InputSettings
from undrift.records import FloatArray
from undrift.serve.body import kind, present, show
from undrift.serve.tensors import (
    DATATYPES,
    WHOLE,
    from_bytes,
    from_json,
    texts_from_bytes,
    texts_from_json,
    whole_from_bytes,
    whole_from_json,
)

_SHARED_MEMORY = tuple(f"shared_memory_{what}" for what in ("region", "offset", "byte_size"))
_NOT_DONE = {
    "the request": {"sequence_id": "requests are answered each for itself, without sequences"},
    "a tensor": {
        "classification": "outputs are sent as they are; sort 'probabilities' yourself",
        **dict.fromkeys(_SHARED_MEMORY, "tensors come and go in the body alone"),
    },
}
"""Parameters that would change the answer's meaning; all others that are not known are let pass."""


BYTES = InputSettings(name="input")
"""What requests bring where rows are made of it: one value a row, of shape [rows] or [rows, 1]."""


def parse_inputs(
    given: Any,
    raw: memoryview,
    wanted: tuple[InputSettings, ...],
    layout: Layout | None,
    max_rows: int,
) -> FloatArray:
    """Return the rows of a request.

    Args:
        given: The value of ``inputs``.
        raw: The bytes behind the JSON.
        wanted: The inputs of the model.
        layout: How several lie in a row; None for one tensor of floats.
        max_rows: Rows that are accepted.

    Raises:
        RequestError: 400 or 413; the text says what was expected and what was got.
    """
    if layout is not None:
        return _parse_named(given, raw, layout, max_rows)
    tensor, size = _only(given, raw, wanted[0], max_rows)
    shape, datatype = tuple(tensor["shape"]), tensor["datatype"]
    if size is None:
        return from_json(tensor["data"], shape, datatype)
    return from_bytes(raw, shape, datatype)


def parse_values(given: Any, raw: memoryview, max_rows: int) -> tuple[bytes, ...]:
    """Return the values of a request of which rows are made: those of one tensor of BYTES.

    In JSON they are strings, or base64 where the tensor's parameter `content_type` says so.

    Raises:
        RequestError: As `parse_inputs`.
    """
    tensor, size = _only(given, raw, BYTES, max_rows)
    n = tensor["shape"][0]
    if size is None:
        coded = parameter_of(tensor, "content_type", str, "") == "base64"
        return texts_from_json(tensor["data"], n, base64=coded)
    return texts_from_bytes(raw, n)


def _only(
    given: Any, raw: memoryview, one: InputSettings, max_rows: int
) -> tuple[dict[str, Any], int | None]:
    """Return the one tensor of a request, and how many bytes it is."""
    if not isinstance(given, list) or len(given) != 1 or not isinstance(given[0], dict):
        got = f"{len(given)} entries" if isinstance(given, list) else kind(given)
        raise RequestError(f"'inputs' must be a list of one tensor, {one.name!r}; got {got}")
    tensor, size = _described(given[0], one, max_rows)
    if tensor["name"] != one.name:
        raise RequestError(f"the input is named {one.name!r}; got {show(tensor['name'])}")
    if len(raw) != (size or 0):
        raise RequestError(
            f"{len(raw)} bytes follow the JSON; 'binary_data_size' says {show(size or 0)}"
        )
    return tensor, size


def _parse_named(given: Any, raw: memoryview, layout: Layout, max_rows: int) -> FloatArray:
    """Return the rows of several inputs, whose bytes follow in the order of the request."""
    known = {one.name: one for one in layout.inputs}
    listed = f"'inputs' must be a list of the tensors {', '.join(map(repr, known))}"
    arrays: dict[str, NDArray[Any]] = {}
    for tensor in given if isinstance(given, list) else [given]:
        name = tensor.get("name") if isinstance(tensor, dict) else None
        if not isinstance(name, str) or name not in known or name in arrays:
            got = tensor if name is None else name
            raise RequestError(f"{listed}, each of them once; got {show(got)}")
        try:
            arrays[name], raw = _values(tensor, raw, known[name], max_rows)
        except RequestError as error:
            raise RequestError(f"input {name!r}: {error}", error.status) from None
    absent = [name for name in known if name not in arrays]
    if absent:
        raise RequestError(f"{listed}; {absent[0]!r} is not among them")
    if len(raw):
        raise RequestError(f"{len(raw)} bytes follow those of the inputs")
    rows = {name: len(array) for name, array in arrays.items()}
    if len(set(rows.values())) > 1:
        told = ", ".join(f"{name!r} {n}" for name, n in rows.items())
        raise RequestError(f"the inputs must have the same number of rows; they have {told}")
    return layout.pack(arrays)


def _values(
    tensor: dict[str, Any], raw: memoryview, one: InputSettings, max_rows: int
) -> tuple[NDArray[Any], memoryview]:
    """Return one of several inputs, and the bytes that are left for the others."""
    tensor, size = _described(tensor, one, max_rows)
    shape, datatype = tuple(tensor["shape"]), tensor["datatype"]
    if size is None:
        if one.is_integer:
            return whole_from_json(tensor["data"], shape, datatype, one.datatype), raw
        return from_json(tensor["data"], shape, datatype), raw
    if not 0 <= size <= len(raw):
        raise RequestError(f"{len(raw)} bytes are left; 'binary_data_size' says {show(size)}")
    if one.is_integer:
        return whole_from_bytes(raw[:size], shape, datatype, one.datatype), raw[size:]
    return from_bytes(raw[:size], shape, datatype), raw[size:]


def _described(
    tensor: dict[str, Any], one: InputSettings, max_rows: int
) -> tuple[dict[str, Any], int | None]:
    """Return a tensor whose name, shape and datatype are there, and how many bytes it is."""
    tensor = present(tensor)
    for key in ("name", "shape", "datatype"):
        if key not in tensor:
            raise RequestError(f"the input has no {key!r}")
    shape, datatype = tensor["shape"], tensor["datatype"]
    if (
        not isinstance(shape, list)
        or not shape
        or any(type(size) is not int for size in shape)
        or not (tuple(shape[1:]) == one.shape or (one is BYTES and shape[1:] == [1]))
        or shape[0] < 1
    ):
        expected = ", ".join(map(str, ("rows", *one.shape)))
        raise RequestError(f"'shape' must be [{expected}]; got {show(shape)}")
    if shape[0] > max_rows:
        raise RequestError(f"{show(shape[0])} rows; at most {max_rows} are accepted", status=413)
    known = datatypes(one)
    if not isinstance(datatype, str) or datatype not in known:
        raise RequestError(f"'datatype' must be one of {', '.join(known)}; got {show(datatype)}")
    size = parameter_of(tensor, "binary_data_size", int, None)
    if ("data" in tensor) == (size is not None):
        raise RequestError("the input must have either 'data' or 'binary_data_size'")
    return tensor, size


def datatypes(one: InputSettings) -> tuple[str, ...]:
    """Return what a request may call a tensor."""
    return ("BYTES",) if one is BYTES else WHOLE if one.is_integer else DATATYPES


def parameters_of(of: dict[str, Any], what: str) -> dict[str, Any]:
    """Return the parameters of a request or tensor; RequestError if one asks for what is not done.

    They are free-form, and most are for other servers.
    """
    parameters = of.get("parameters", {})
    if not isinstance(parameters, dict):
        raise RequestError(f"'parameters' must be an object, not {kind(parameters)}")
    parameters = present(parameters)
    for name, instead in _NOT_DONE[what].items():
        if parameters.get(name):  # 0, false and "" ask for nothing
            place = f" of {show(of['name'])}" if "name" in of else ""
            raise RequestError(f"the parameter {name!r}{place} is not served here: {instead}")
    return parameters


def parameter_of(tensor: dict[str, Any], key: str, type_: type, default: Any) -> Any:
    """Return the only parameter of this kind of tensor that counts."""
    value = parameters_of(tensor, "a tensor").get(key)
    if value is not None and type(value) is not type_:
        words = {bool: "true or false", int: "a whole number", str: "a text"}
        raise RequestError(f"{key!r} must be {words[type_]}; got {show(value)}")
    return default if value is None else value
