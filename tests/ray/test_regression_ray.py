"""A model that answers two numbers to a row: served, labelled, drifted, retrained and swapped."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_model
from torch import nn

from tests.helpers.support import eventually
from tests.ray.running import MODEL, Running, free_port, one_error, undrift

pytestmark = pytest.mark.ray

CODE = """\
from torch import nn


def build():
    return nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 2))
"""


def rows(n: int, seed: int, turned: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs and two numbers, the second a thousand times as large; both turn round."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3)).astype(np.float32)
    y = np.column_stack([x[:, 0], 1000.0 * x[:, 1]]) * (-1.0 if turned else 1.0)
    return x, (y + rng.normal(size=(n, 2)) * [0.2, 200.0]).astype(np.float32)


def learnt() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 2))
    x, y = rows(2000, 1)
    unit = torch.tensor([1.0, 1000.0])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(torch.from_numpy(x)), torch.from_numpy(y) / unit).backward()
        optimizer.step()
    with torch.no_grad():
        model[2].weight *= unit[:, None]
        model[2].bias *= unit
    return model


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("regression")
    (folder / "numbers_model.py").write_text(CODE, encoding="utf-8")
    save_model(learnt(), str(folder / "w.safetensors"))
    x, y = rows(400, 2)
    np.savez(folder / "reference.npz", allow_pickle=False, x=x, y=y)
    model = {"name": MODEL, "factory": "numbers_model:build", "weights": "w.safetensors"}
    config = {
        "model": {**model, "input_shape": [3], "task": "regression"},
        "reference": "reference.npz",
        "serve": {"port": free_port()},
        "monitor": {"commit_ms": 20.0, "rows_per_false_drift": 20_000, "probation_labels": 100},
        "train": {"steps": 300, "learning_rate": 0.01},
        "lifecycle": {"cooldown_s": 0.0, "backoff_s": 0.5},
    }
    (folder / "undrift.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    running = Running(folder / "undrift.yaml")
    try:
        yield running.await_ready()
    finally:
        running.kill_all()


def test_numbers_are_answered_labelled_and_refused(running: Running) -> None:
    x, y = rows(5, 3)
    answer = running.client.infer(x, "asked")
    assert answer.numbers
    assert answer.output.shape == (5, 2)
    assert np.corrcoef(answer.output[:, 1], y[:, 1])[0, 1] > 0.9
    told = running.client.feedback([*answer.ids, "asked"], [*y.tolist(), [1.0]])
    assert (told["accepted"], len(told["rejected"])) == (5, 1)
    assert "must be a list of 2 numbers" in told["rejected"][0]["error"]
    page = httpx.get(f"{running.url}/v2/models/{MODEL}", trust_env=False).json()
    assert page["outputs"] == [{"name": "value", "datatype": "FP32", "shape": [-1, 2]}]


def test_labels_of_a_file_are_numbers(running: Running) -> None:
    x, y = rows(3, 4)
    ids = running.client.infer(x, "filed").ids
    lines = [f"{i},{a},{b}" for i, (a, b) in zip(ids, y.tolist(), strict=True)]
    path = running.path.parent / "late.csv"
    path.write_text("\n".join(["id,up,down", *lines, "filed:0,x,1"]) + "\n", encoding="utf-8")
    verb = ("labels", "import", str(path), "--label", "up,down")
    done = undrift(*verb, cwd=running.path.parent)
    assert done.returncode == 1
    assert "stored 3 labels of 4 rows" in done.stdout
    assert "must be a finite 32-bit number; got 'x'" in done.stdout


@pytest.mark.slow
def test_changed_numbers_are_drift_and_are_retrained_on(running: Running) -> None:
    sent = promoted = 0
    while not promoted and sent < 20_000:
        x, y = rows(50, 100 + sent, turned=sent >= 500)
        answer = running.client.infer(x, f"row-{sent}")
        assert running.client.feedback(answer.ids, y.tolist())["rejected"] == []
        sent += 50
        promoted = sum(e.kind == "promoted" for e in running.client.events())
    assert promoted
    drift = running.client.drift()
    assert drift.summary.accuracy.measure == "R2"
    x, y = rows(200, 5, turned=True)
    answer = eventually(lambda: running.client.infer(x))
    apart = ((answer.output - y) ** 2).mean(axis=0) / y.var(axis=0)
    assert (apart < 0.5).all()


def test_state_of_numbers_does_not_serve_classes(running: Running) -> None:
    path = running.path.parent / "classes.yaml"
    config = yaml.safe_load(running.path.read_text(encoding="utf-8"))
    del config["model"]["task"]
    config["model"]["classes"] = 2
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    done = undrift("config", "check", "--config", str(path), cwd=running.path.parent)
    assert done.returncode == 1
    one_error(done.stderr, "expected integers")
