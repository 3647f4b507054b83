"""Serving a model that answers numbers."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from undrift.errors import RequestError
from undrift.model.door import Door
from undrift.model.network import width
from undrift.model.receipt import Receipt
from undrift.serve.openapi import document
from undrift.serve.protocol import (
    InferRequest,
    ModelSpec,
    encode_infer,
    model_metadata,
    parse_infer,
)
from undrift.serve.settings import ServeSettings
from undrift.serve.slots import DoubleBuffer

TENSOR = {"name": "input", "shape": [2, 3], "datatype": "FP32", "data": [1, 2, 3, 4, 5, 6]}


def parse(spec: ModelSpec, **more: Any) -> InferRequest:
    body = json.dumps({"inputs": [TENSOR], **more}).encode()
    return parse_infer(body, "application/json", spec, ServeSettings())


@pytest.mark.parametrize(("targets", "shape"), [(1, [2]), (2, [2, 2])])
def test_answer_is_one_tensor_of_numbers(targets: int, shape: list[int]) -> None:
    spec = ModelSpec("m", (3,), n_classes=0, targets=targets)
    output = np.array([[0.5, 7.0], [-1e6, 2.0]], np.float32)[:, :targets]
    (value,) = json.loads(encode_infer(parse(spec), output, spec, 4, "cafe")[0])["outputs"]
    data = output.ravel().tolist()
    assert value == {"name": "value", "shape": shape, "datatype": "FP32", "data": data}
    assert model_metadata(spec, [1])["outputs"] == [
        {"name": "value", "datatype": "FP32", "shape": [-1, *shape[1:]]}
    ]
    with pytest.raises(RequestError, match="out of value"):
        parse(spec, outputs=[{"name": "probabilities"}])


@pytest.mark.parametrize("targets", [1, 2])
def test_document_says_what_a_label_is(targets: int) -> None:
    spec = ModelSpec("m", (3,), n_classes=0, targets=targets)
    label = document(spec, ServeSettings(), "1")["components"]["schemas"]["Label"]
    one = label["properties"]["label"]["anyOf"][0]
    assert one["type"] == ("number" if targets == 1 else "array")


class Flat(nn.Module):
    """One number to a row, without a dimension of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x)[:, 0]


@pytest.mark.parametrize(("build", "outputs"), [(Flat, 1), (lambda: nn.Linear(3, 2), 2)])
def test_numbers_are_served_as_the_model_answers_them(build: Any, outputs: int) -> None:
    def made() -> nn.Module:
        return Door(numbers=True).mark(build())

    torch.manual_seed(0)
    models = DoubleBuffer(made, max_slowdown=1e9)
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    assert width(made(), torch.from_numpy(x)) == outputs
    states = [made().state_dict() for _ in range(2)]
    alone = []
    for state in states:
        model = build()
        model.load_state_dict(state)
        alone.append(model(torch.from_numpy(x)).detach().reshape(5, outputs).numpy())
    models.load(1, "1", states[0], x[:2])
    np.testing.assert_allclose(models.predict(x).output, alone[0], rtol=1e-6)
    models.heed(Receipt(watched=1, against=0, mixture=None))
    models.prepare(2, "2", states[1], x[:2])
    models.commit(2)
    np.testing.assert_allclose(models.predict(x).output, alone[1], rtol=1e-6)
    former = models.former(x, 2)
    assert former is not None
    np.testing.assert_allclose(former, alone[0], rtol=1e-6)
