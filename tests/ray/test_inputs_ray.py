"""A model of tokens and numbers that answers a dict: served, watched, retrained and swapped."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import tritonclient.http as triton
import yaml
from safetensors.torch import save_model
from tritonclient.utils import InferenceServerException

from tests.helpers.support import eventually
from tests.ray.running import MODEL, Running, free_port, settled
from undrift.model.layout import Layout
from undrift.model.network import load_factory

pytestmark = [pytest.mark.ray, pytest.mark.slow]

CODE = """\
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.body, self.head = nn.Embedding(50, 8), nn.Linear(3, 8), nn.Linear(8, 2)

    def forward(self, numeric, tokens):
        assert tokens.dtype == torch.int64
        known = torch.relu(self.embed(tokens % 50).mean(dim=1) + self.body(numeric))
        return {"logits": self.head(known), "known": known}


def build():
    return Net()
"""
INPUTS = [
    {"name": "tokens", "shape": [4], "datatype": "INT64"},
    {"name": "numeric", "shape": [3]},
]


def rows(n: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "tokens": rng.integers(-(2**62), 2**62, (n, 4)) // 50 * 50 + rng.integers(0, 50, (n, 4)),
        "numeric": rng.normal(size=(n, 3)).astype(np.float32),
    }


def truth(x: dict[str, np.ndarray]) -> np.ndarray:
    return (x["numeric"][:, 0] > 0).astype(np.int64)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "tokens_model.py").write_text(CODE, encoding="utf-8")
    save_model(load_factory("tokens_model:build", folder)(), str(folder / "w.safetensors"))
    sys.path.remove(str(folder))
    sys.modules.pop("tokens_model")
    importlib.invalidate_caches()
    x = rows(300, 0)
    np.savez(folder / "reference.npz", allow_pickle=False, y=truth(x), **x)
    model = {"name": MODEL, "factory": "tokens_model:build", "weights": "w.safetensors"}
    config = {
        "model": {**model, "inputs": INPUTS, "classes": 2},
        "reference": "reference.npz",
        "serve": {"port": free_port(), "answer": "model"},
        "monitor": {"commit_ms": 20.0},
        "train": {"steps": 400, "method": "full", "learning_rate": 0.02},
        "lifecycle": {"mode": "off"},
    }
    (folder / "undrift.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    running = Running(folder / "undrift.yaml")
    try:
        yield running.await_ready()
    finally:
        running.kill_all()


@pytest.fixture
def client(running: Running) -> Iterator[triton.InferenceServerClient]:
    url = running.url.removeprefix("http://")
    with triton.InferenceServerClient(url, network_timeout=60) as client:
        yield client


def given(x: dict[str, np.ndarray], binary: tuple[bool, bool]) -> list[triton.InferInput]:
    tensors = []
    for (name, values), as_bytes in zip(x.items(), binary, strict=True):
        datatype = "INT64" if name == "tokens" else "FP32"
        tensors.append(triton.InferInput(name, list(values.shape), datatype))
        tensors[-1].set_data_from_numpy(values, binary_data=as_bytes)
    return tensors


def test_inputs_in_bytes_in_json_and_mixed_are_the_same(
    client: triton.InferenceServerClient,
) -> None:
    told = client.get_model_metadata(MODEL)["inputs"]
    assert [(t["name"], t["datatype"], t["shape"]) for t in told] == [
        ("tokens", "INT64", [-1, 4]),
        ("numeric", "FP32", [-1, 3]),
    ]
    x = rows(5, 1)
    ways = [(True, True), (True, False), (False, True), (False, False)]
    answers = [client.infer(MODEL, given(x, way)).as_numpy("probabilities") for way in ways]
    backwards = client.infer(MODEL, given(x, (True, True))[::-1])
    for answer in (*answers[1:], backwards.as_numpy("probabilities")):
        np.testing.assert_allclose(answer, answers[0], atol=1e-6)
    small = {**x, "tokens": x["tokens"] % 50}
    np.testing.assert_allclose(
        client.infer(MODEL, given(small, (True, True))).as_numpy("probabilities"),
        answers[0],
        atol=1e-6,
    )


def test_refusals_name_the_input(client: triton.InferenceServerClient) -> None:
    x = rows(5, 1)

    def refused(inputs: list[triton.InferInput]) -> str:
        with pytest.raises(InferenceServerException) as caught:
            client.infer(MODEL, inputs)
        assert caught.value.status() == "400"
        return str(caught.value.message())

    both = (True, True)
    assert "'numeric' is not among them" in refused(given(x, both)[:1])
    narrow = {**x, "tokens": x["tokens"][:, :3]}
    assert "input 'tokens': 'shape' must be [rows, 4]" in refused(given(narrow, both))
    assert "must have the same number of rows" in refused(
        given({**x, "numeric": x["numeric"][:2]}, both)
    )


def test_rows_are_stored_as_they_came_and_a_retraining_learns_from_them(running: Running) -> None:
    layout, x = Layout(running.config.model.inputs), rows(600, 2)
    answer = running.client.infer({k: v[:5] for k, v in x.items()}, request_id="first")
    ids = list(answer.ids)
    for start in range(5, 600, 119):
        ids += running.client.infer({k: v[start : start + 119] for k, v in x.items()}).ids
    running.client.feedback(ids, truth(x).tolist())

    def stored() -> bool:
        there = set(running.store.predictions().ids)
        return there.issuperset(ids) and len(running.store.labels()) == 600

    eventually(stored)
    found = running.store.predictions()
    place = {name: i for i, name in enumerate(found.ids)}
    np.testing.assert_array_equal(found.x[[place[i] for i in ids]], layout.pack(x))
    eventually(lambda: running.client.drift().labelled, until=lambda seen: seen >= 600)
    running.client.retrain()
    eventually(lambda: 2 in [v.version for v in running.client.versions()], timeout_s=120)
    running.client.promote(2)
    eventually(settled(running, 2), timeout_s=60)
    after = running.client.infer(x)
    assert after.version == 2
    assert (after.label == truth(x)).mean() > 0.8
