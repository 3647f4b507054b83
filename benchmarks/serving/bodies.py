"""What is asked: the same rows in the words of each server."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from benchmarks.serving.servers.net import SHAPES

JSON, BINARY = "application/json", "application/octet-stream"
LENGTH_HEADER = "Inference-Header-Content-Length"


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the page.

    Attributes:
        name: How results are kept.
        model: Which one of ``SHAPES``.
        rows: Rows of one request.
        connections: Requests that are under way at a time.
        binary: Whether tensors travel as bytes, where a server takes them.
        title: How people are told.
    """

    name: str
    model: str
    rows: int
    connections: int
    binary: bool
    title: str


CASES = (
    Case("small-1", "small", 1, 1, False, "one row of 2 numbers, 1 connection"),
    Case("small-32", "small", 1, 32, False, "one row of 2 numbers, 32 connections"),
    Case("json-64", "wide", 64, 4, False, "64 rows of 256 numbers as JSON, 4 connections"),
    Case("binary-64", "wide", 64, 4, True, "64 rows of 256 numbers as bytes, 4 connections"),
    Case("large", "large", 1, 8, False, "one row through 25 M parameters, 8 connections"),
    Case("images", "images", 64, 2, True, "64 images of 3 x 32 x 32, 2 connections"),
)


@dataclass(frozen=True, slots=True)
class Body:
    """One request.

    Attributes:
        content: Its bytes.
        headers: Its headers.
    """

    content: bytes
    headers: dict[str, str]


def rows_of(case: Case) -> np.ndarray:
    """Return the (rows, *shape) numbers that are asked for, of 4 decimals."""
    drawn = np.random.default_rng(0).normal(size=(case.rows, *SHAPES[case.model]))
    return drawn.round(4).astype(np.float32)


def body_of(case: Case, words: str) -> Body:
    """Return the request of a case.

    Args:
        case: What is asked.
        words: ``oip``, the Open Inference Protocol with binary tensors where the case wants them;
            ``oip-json``, without; ``plain``, an object with the rows as nested lists.
    """
    x = rows_of(case)
    as_bytes = case.binary and words == "oip"
    numbers = [float(f"{value:.4f}") for value in x.ravel()]
    if words == "plain":
        nested = np.array(numbers).reshape(x.shape).tolist()
        return Body(json.dumps({"x": nested}).encode(), {"Content-Type": JSON})
    tensor: dict[str, object] = {"name": "input", "shape": list(x.shape), "datatype": "FP32"}
    if not as_bytes:
        content = json.dumps({"inputs": [{**tensor, "data": numbers}]}).encode()
        return Body(content, {"Content-Type": JSON})
    tensor["parameters"] = {"binary_data_size": x.nbytes}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    told = {"Content-Type": BINARY, LENGTH_HEADER: str(len(head))}
    return Body(head + x.tobytes(), told)


def probabilities(content: bytes, headers: dict[str, str], case: Case) -> np.ndarray:
    """Return the (rows, classes) probabilities of an answer in any of the three words."""
    length = headers.get(LENGTH_HEADER.lower())
    head = json.loads(content[: None if length is None else int(length)])
    if "probabilities" in head:
        return np.array(head["probabilities"], np.float32)
    tensor = head["outputs"][0]
    if "data" in tensor:
        flat = np.array(tensor["data"], np.float32)
    else:
        size = tensor["parameters"]["binary_data_size"]
        flat = np.frombuffer(content[int(length or 0) :][:size], np.float32)
    return flat.reshape(case.rows, -1)
