"""Small worlds for retraining tests: in the plane, where what matters turns by a right angle."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import nn

from tests.helpers import rows as by_hand
from undrift.evidence import DriftKind
from undrift.records import Labels, Predictions, Reference
from undrift.train.objective import objective_for
from undrift.train.plan import RetrainPlan
from undrift.train.pool import Pool
from undrift.train.scoring import score
from undrift.train.settings import TrainSettings

SETTINGS = TrainSettings(
    steps=150, batch_size=32, learning_rate=1e-2, block_selection=True, synapse_strength=0.02
)  # every part on
CHANGE = 200


def network(seed: int = 0, outputs: int = 2) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, outputs)
    )


def rows(
    n: int, *, turned: bool, seed: int, numbers: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(seed).normal(size=(n, 2)).astype(np.float32)
    told = x[:, 1 if turned else 0]
    return x, told if numbers else (told > 0).astype(np.int64)


def predictions(x: np.ndarray, first_row: int = 0) -> Predictions:
    n = len(x)
    ids, at = [f"id{i}" for i in range(n)], np.arange(n, dtype=float)
    return by_hand.predictions(
        x, first=first_row, ids=ids, at=at, embedding=np.zeros((n, 16), np.float32)
    )


def labels(y: np.ndarray) -> Labels:
    return Labels(tuple(f"id{i}" for i in range(len(y))), y, np.zeros(len(y)))


def reference_of(model: nn.Module, x: np.ndarray, y: np.ndarray) -> Reference:
    output, embedding = score(model, x, objective=objective_for(y))
    return Reference(x, y, embedding, output, np.ones(len(y), dtype=bool))


@dataclass(frozen=True)
class World:
    """A model trained on the old world, and a stream whose world turned at row 200."""

    model: nn.Module
    state: dict[str, torch.Tensor]
    pool: Pool
    reference: Reference
    numbers: bool = False

    def accuracy(self, state: dict[str, torch.Tensor], *, turned: bool) -> float:
        """Accuracy, or R2 where targets are numbers."""
        self.model.load_state_dict(state)
        x, y = rows(1000, turned=turned, seed=99, numbers=self.numbers)
        objective = objective_for(y)
        return objective.quality(score(self.model, x, objective=objective)[0], y)


def world(*, numbers: bool = False) -> World:
    model = network(outputs=1 if numbers else 2)
    draw = partial(rows, numbers=numbers)
    x, y = draw(1000, turned=False, seed=1)
    losses = objective_for(y).losses
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        losses(model(torch.as_tensor(x)), torch.as_tensor(y)).mean().backward()
        optimizer.step()
    reference = reference_of(model, *draw(200, turned=False, seed=2))
    calm, calm_y = draw(CHANGE, turned=False, seed=3)
    new, new_y = draw(500, turned=True, seed=4)
    stream, truth = np.concatenate([calm, new]), np.concatenate([calm_y, new_y])
    pool = Pool.build(predictions(stream), labels(truth), reference, 20_000)
    state = {name: t.clone() for name, t in model.state_dict().items()}
    return World(model, state, pool, reference, numbers)


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
