"""The first model of a demo, written to disk as a user would write it."""

from __future__ import annotations

import importlib.util
import math
import socket
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from undrift.errors import ModelError
from undrift.model.door import door_of
from undrift.model.network import ask
from undrift.records import FloatArray, TargetArray
from undrift.streams.stream import Rows, Stream

STEPS, BATCH, LEARNING_RATE = 1000, 64, 2e-3

_TABLE = '''"""The model of the {name} demo: a table row in, one logit per class out."""

from torch import nn


def build() -> nn.Module:
    return nn.Sequential(
        nn.Linear({features}, 128),
        nn.ReLU(),
        nn.Linear(128, 64),
        nn.ReLU(),
        nn.Linear(64, {classes}),
    )
'''

_IMAGE = '''"""The model of the {name} demo: an image in, one logit per class out."""

from torch import nn


def build() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d({channels}, 16, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear({flat}, 64),
        nn.ReLU(),
        nn.Linear(64, {classes}),
    )
'''


def model_source(stream: Stream) -> str:
    """Return the text of a model module for ``stream``: a small network for its kind of input."""
    shape, classes = stream.input_shape, stream.classes
    if len(shape) == 3:
        flat = 16 * (shape[1] // 2) * (shape[2] // 2)
        return _IMAGE.format(name=stream.name, channels=shape[0], flat=flat, classes=classes)
    return _TABLE.format(name=stream.name, features=math.prod(shape), classes=classes)


def load_model(path: Path) -> nn.Module:
    """Build the model of the module at ``path``, without entering it into ``sys.modules``."""
    spec = importlib.util.spec_from_file_location("undrift_demo_model", path)
    if spec is None or spec.loader is None:
        raise ModelError(f"{path} is not a Python module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model: nn.Module = module.build()
    return model


def train_first(model: nn.Module, rows: Rows, steps: int = STEPS, seed: int = 0) -> None:
    """Train the first model in place.

    Args:
        model: Freshly built.
        rows: What to learn from.
        steps: Batches.
        seed: Seed of the order of the rows.
    """
    rng = np.random.default_rng(seed)
    x, y = torch.from_numpy(rows.x), torch.from_numpy(rows.y)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    model.train()
    for _ in range(steps):
        batch = torch.from_numpy(rng.integers(0, len(rows), BATCH))
        loss = F.cross_entropy(model(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()


@torch.inference_mode()
def predict(model: nn.Module, x: FloatArray) -> TargetArray:
    """Return the (n,) predicted class of (n, *input_shape) rows, or (n,) or (n, c) numbers."""
    parts = [ask(model, part).float() for part in torch.from_numpy(x).split(4096)]
    output = torch.cat(parts)
    if door_of(model).numbers:
        return np.asarray((output if output.shape[1] > 1 else output[:, 0]).numpy(), np.float32)
    return np.asarray(output.argmax(dim=1).numpy(), np.int64)


def write_project(
    stream: Stream, directory: Path, *, steps: int = STEPS, seed: int = 0, **sections: Any
) -> tuple[dict[str, Any], nn.Module]:
    """Train the first model of ``stream`` and write what a user would bring.

    Writes ``model.py``, ``weights.safetensors`` and ``reference.npz``.

    Args:
        stream: What the model is for.
        directory: Created if missing.
        steps: Batches of the first training.
        seed: Seed of the initial weights and of the training.
        **sections: Further sections of the configuration.

    Returns:
        The values of an ``undrift.yaml`` in ``directory``, and the trained model.
    """
    directory.mkdir(parents=True, exist_ok=True)
    module = directory / "model.py"
    module.write_text(model_source(stream))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = load_model(module)
    train_first(model, stream.train, steps, seed)
    save_file(model.state_dict(), directory / "weights.safetensors")
    arrays: dict[str, Any] = {"x": stream.reference.x, "y": stream.reference.y}
    if stream.reference_row is not None:
        arrays["row"] = stream.reference_row
    np.savez(directory / "reference.npz", allow_pickle=False, **arrays)
    numbered = stream.class_names == tuple(str(i) for i in range(stream.classes))
    values = {
        "model": {
            "name": stream.name,
            "factory": "model:build",
            "weights": "weights.safetensors",
            "input_shape": list(stream.input_shape),
            "classes": stream.classes if numbered else list(stream.class_names),
        },
        "reference": "reference.npz",
        **sections,
    }
    if stream.features:
        values["monitor"] = {"features": list(stream.features)} | values.get("monitor", {})
    return values, model


def quick_sections(workers: int) -> dict[str, Any]:
    """Return the configuration of a demo: defaults, but for a world that moves within minutes."""
    return {
        "serve": {"port": _free_port(), "replicas": 2, "answer": "mixture"},
        "monitor": {
            "rows_per_false_drift": 20_000,
            "probation_labels": 150,
            "probation_alpha": 0.01,
            "probation_tolerance": 0.1,
        },
        "train": {"workers": workers, "keep_staged": True},
        "lifecycle": {"cooldown_s": 0.0, "backoff_s": 1.0, "backoff_max_s": 60.0},
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
