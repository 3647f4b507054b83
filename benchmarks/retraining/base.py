"""Base models, trained once per task and seed, and what the product's monitor says of the drift."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from benchmarks.retraining.task import Regime, Rows, Task
from undrift.control.settings import LifecycleSettings
from undrift.evidence import DriftKind, Level
from undrift.monitor.monitor import Monitor
from undrift.monitor.settings import MonitorSettings
from undrift.records import Labels, Predictions, Reference
from undrift.train.scoring import score

BATCH = 64
RATE = 2e-3
REFERENCE = 500
_TICK = 50
_HEALTHY = 500  # rows before the drift


def fit(model: nn.Module, rows: Rows, epochs: int, seed: int, device: str = "cpu") -> None:
    """Train a first model in place: Adam, the rate falling along a cosine."""
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.from_numpy(part).to(device) for part in (rows.x, rows.y))
    model.to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    steps = epochs * -(-len(rows) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    model.train()
    for _ in range(epochs):
        for index in torch.randperm(len(rows), generator=generator).split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(model(x[index]), y[index]).backward()
            optimizer.step()
            schedule.step()
    model.cpu().eval()


def base_state(
    task: Task, rows: Rows, seed: int, path: Path, device: str
) -> dict[str, torch.Tensor]:
    """Return the weights of a base model; they are kept at ``path``."""
    if not path.exists():
        torch.manual_seed(seed)
        model = task.net()
        fit(model, rows, task.base_epochs, seed, device)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        save_file(model.state_dict(), partial)
        partial.replace(path)
    state: dict[str, torch.Tensor] = load_file(path)
    return state


def reference_rows(regime: Regime) -> tuple[Rows, Rows]:
    """Return rows of a regime that its model was not trained on: a reference, and the others.

    The latter are what it is tested with. A third of the rows, at most 500, is the reference.
    """
    n = min(REFERENCE, len(regime.test) // 3)
    test = regime.test
    return Rows(test.x[:n], test.y[:n]), Rows(test.x[n:], test.y[n:])


def reference(model: nn.Module, rows: Rows) -> Reference:
    """Return a reference as the model sees it."""
    output, embedding = score(model, rows.x)
    return Reference(rows.x, rows.y, embedding, output, np.ones(len(rows), dtype=bool))


def signalled(model: nn.Module, known: Reference, before: Rows, after: Rows) -> DriftKind:
    """Return what the product's monitor says has changed when ``after`` follows ``before``.

    Labels come with the rows. It is asked when the platform would retrain, or at the end: at a
    drift, once its regime has enough labels.
    """
    monitor = Monitor(MonitorSettings(), known, 1)
    parts = (before.x[:_HEALTHY], after.x), (before.y[:_HEALTHY], after.y)
    x, y = (np.concatenate(part) for part in parts)
    output, embedding = score(model, x)
    n, version = len(y), np.ones(len(y), dtype=np.int64)
    ids = tuple(map(str, range(n)))
    at = np.arange(n, dtype=np.float64)
    rows = Predictions(ids, np.arange(n), at, version, x, embedding, output)
    for start in range(0, n, _TICK):
        index = np.arange(start, min(start + _TICK, n))
        labels = Labels(tuple(ids[i] for i in index), y[index], at[index])
        monitor.fold(rows.take(index), labels)
        evidence = monitor.evidence()
        regime = int(index[-1]) + 1 - (evidence.change_row or 0)
        if evidence.level is Level.DRIFT and regime >= LifecycleSettings().min_regime_rows:
            break
    return evidence.kind
