"""A small history to tune on: labels turn round half-way, so whoever retrains does better."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import yaml
from safetensors.torch import save_file

from undrift.replay.loop import Pace
from undrift.streams.stream import Rows, Stream, fixed_lag
from undrift.tune.history import History

MODEL = """\
from torch import nn


def build():
    return nn.Sequential(nn.Linear(2, 2))
"""
TURN, ROWS, LAG, SPLIT = 600, 1_600, 50, 1_200
CONFIG = {
    "model": {
        "name": "m",
        "factory": "line_model:build",
        "weights": "weights.safetensors",
        "input_shape": [2],
        "classes": ["no", "yes"],
    },
    "reference": "reference.npz",
    "monitor": {"rows_per_false_drift": 10_000, "commit_ms": 500.0},
    "train": {"method": "finetune", "steps": 100, "batch_size": 32, "learning_rate": 0.2},
    "lifecycle": {"retrain_when": "worse", "cooldown_s": 0.0, "refine_growth": 0.0},
}


def labelled(n: int, turn: int, seed: int) -> Rows:
    """Rows whose label says whether the first number is positive, after a turn the opposite."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2)).astype(np.float32)
    wrong = (rng.random(n) < 0.05) ^ (np.arange(n) >= turn)
    return Rows(x, ((x[:, 0] > 0) ^ wrong).astype(np.int64))


def project(folder: Path) -> Path:
    """Write a configuration and what it points at; returns the YAML file."""
    (folder / "line_model.py").write_text(MODEL, encoding="utf-8")
    weights = {"0.weight": torch.tensor([[-4.0, 0.0], [4.0, 0.0]]), "0.bias": torch.zeros(2)}
    save_file(weights, folder / "weights.safetensors")
    reference = labelled(300, 300, seed=1)
    np.savez(folder / "reference.npz", x=reference.x, y=reference.y)
    path = folder / "undrift.yaml"
    path.write_text(yaml.safe_dump(CONFIG, sort_keys=False), encoding="utf-8")
    return path


def turning() -> Stream:
    """The stream."""
    live = labelled(ROWS, TURN, seed=0)
    return Stream(
        name="m",
        title="a stream",
        task="",
        input_shape=(2,),
        class_names=("no", "yes"),
        train=live.take(slice(0)),
        reference=live.take(slice(0)),
        live=live,
        label_at=fixed_lag(live.y, LAG),
    )


def history(folder: Path, rows: int = ROWS, split: int = SPLIT) -> History:
    """The first rows of the stream over the project in a folder."""
    stream = turning()
    part = slice(rows)
    stream = replace(stream, live=stream.live.take(part), label_at=stream.label_at[part])
    return History(stream, project(folder), split, Pace(rows_per_s=200.0, training_s=0.5))
