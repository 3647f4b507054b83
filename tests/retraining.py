"""A small world for retraining tests: two classes in the plane whose border turns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from undrift.events import DriftKind
from undrift.records import Labels, Predictions, Reference
from undrift.train.plan import RetrainPlan
from undrift.train.pool import Pool
from undrift.train.scoring import score
from undrift.train.settings import TrainSettings

SETTINGS = TrainSettings(steps=150, batch_size=32, learning_rate=1e-2)
CHANGE = 200


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2)
    )


def rows(n: int, *, turned: bool, seed: int) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(seed).normal(size=(n, 2)).astype(np.float32)
    return x, (x[:, 1 if turned else 0] > 0).astype(np.int64)


def predictions(x: np.ndarray, first_row: int = 0) -> Predictions:
    n = len(x)
    return Predictions(
        ids=tuple(f"id{i}" for i in range(n)),
        row=np.arange(first_row, first_row + n),
        at=np.arange(n, dtype=float),
        version=np.ones(n, dtype=np.int64),
        x=x,
        embedding=np.zeros((n, 16), np.float32),
        output=np.full((n, 2), 0.5, np.float32),
    )


def labels(y: np.ndarray) -> Labels:
    return Labels(tuple(f"id{i}" for i in range(len(y))), y, np.zeros(len(y)))


def reference_of(model: nn.Module, x: np.ndarray, y: np.ndarray) -> Reference:
    output, embedding = score(model, x)
    return Reference(x, y, embedding, output, np.ones(len(y), dtype=bool))


@dataclass(frozen=True)
class World:
    """A model trained on the old border, and a stream whose border turned at row 200."""

    model: nn.Module
    state: dict[str, torch.Tensor]
    pool: Pool
    reference: Reference

    def accuracy(self, state: dict[str, torch.Tensor], *, turned: bool) -> float:
        self.model.load_state_dict(state)
        x, y = rows(1000, turned=turned, seed=99)
        return float((score(self.model, x)[0].argmax(axis=1) == y).mean())


def world() -> World:
    model = network()
    x, y = rows(1000, turned=False, seed=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(torch.as_tensor(x)), torch.as_tensor(y)).backward()
        optimizer.step()
    reference = reference_of(model, *rows(200, turned=False, seed=2))
    calm, calm_y = rows(CHANGE, turned=False, seed=3)
    new, new_y = rows(500, turned=True, seed=4)
    stream, truth = np.concatenate([calm, new]), np.concatenate([calm_y, new_y])
    pool = Pool.build(predictions(stream), labels(truth), reference, 20_000)
    state = {name: t.clone() for name, t in model.state_dict().items()}
    return World(model, state, pool, reference)


def plan(method: str = "bandit", kind: DriftKind = DriftKind.CONCEPT, seed: int = 5) -> RetrainPlan:
    return RetrainPlan(
        run_id="r1",
        base_version=1,
        method=method,
        steps=SETTINGS.steps,
        seed=seed,
        kind=kind,
        regime_start=CHANGE,
        until_row=700,
    )
