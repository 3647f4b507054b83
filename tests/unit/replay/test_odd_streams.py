"""Streams of many classes, few rows, or few labels: nothing breaks, and noise is not learnt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from undrift.control.settings import LifecycleSettings
from undrift.monitor.settings import MonitorSettings
from undrift.replay.loop import Pace, Simulation, simulate
from undrift.replay.training import Shelf, Trainer
from undrift.streams.stream import UNKNOWN, Rows, Stream, fixed_lag
from undrift.train.settings import TrainSettings

MONITOR = MonitorSettings()
LAG = 50


@dataclass(frozen=True)
class World:
    """Classes round centres of their own, some close to each other; a linear model knows them."""

    classes: int
    live: int
    labelled: float = 1.0
    first: int = 800
    turned_at: int | None = None  # the row from which class k is called k + 1

    def play(self, seed: int) -> Simulation:
        """Return what the whole loop makes of it."""
        rng = np.random.default_rng(seed)
        centres, first, live = self._made(rng)
        y = np.where(rng.random(self.live) < self.labelled, self.truth(seed), UNKNOWN)
        stream = Stream(
            name="m",
            title="",
            task="",
            input_shape=(8,),
            class_names=tuple(str(k) for k in range(self.classes)),
            train=first.take(slice(0, 0)),
            reference=first,
            live=Rows(live.x, y),
            label_at=fixed_lag(y, LAG),
        )
        weights = {
            "0.weight": torch.tensor(centres, dtype=torch.float32),
            "0.bias": torch.tensor(-0.5 * (centres**2).sum(axis=1), dtype=torch.float32),
        }
        shelf = Shelf(nn.Sequential(nn.Linear(8, self.classes)), weights, first.x, first.y)
        train = TrainSettings(method="finetune", steps=50, batch_size=32)
        return simulate(
            stream,
            shelf,
            Trainer(shelf, train, MONITOR.min_reference_rows),
            monitor=MONITOR,
            lifecycle=LifecycleSettings(cooldown_s=0.0),
            train=train,
            pace=Pace(rows_per_s=200.0, training_s=1.0),
            mixes=True,
        )

    def truth(self, seed: int) -> np.ndarray:
        """Return the (live,) true classes."""
        y = self._made(np.random.default_rng(seed))[2].y
        turned = self.turned_at is not None and np.arange(self.live) >= self.turned_at
        return np.where(turned, (y + 1) % self.classes, y)

    def _made(self, rng: np.random.Generator) -> tuple[np.ndarray, Rows, Rows]:
        centres = rng.normal(size=(self.classes, 8)) * 2.0
        return centres, self._rows(rng, centres, self.first), self._rows(rng, centres, self.live)

    @staticmethod
    def _rows(rng: np.random.Generator, centres: np.ndarray, n: int) -> Rows:
        y = rng.integers(len(centres), size=n)
        return Rows((centres[y] + rng.normal(size=(n, 8))).astype(np.float32), y)


@pytest.mark.parametrize(
    "world",
    [
        World(classes=40, live=3_000),
        World(classes=40, live=2_000, first=60),
        World(classes=3, live=300, first=100),
        World(classes=3, live=8_000, labelled=0.01),
    ],
    ids=["40 classes", "40 classes, 60 first rows", "300 rows", "1 % labels"],
)
def test_noise_is_not_retrained_on(world: World) -> None:
    for seed in range(2):
        found = world.play(seed)
        assert found.retrainings == 0
        assert found.timeline.last.rows == world.live
        assert len(found.predicted) == world.live


@pytest.mark.parametrize(
    ("world", "mended"),
    [
        (World(classes=40, live=3_000, turned_at=1_000), 0.4),
        (World(classes=3, live=400, first=100, turned_at=100), 0.8),
        pytest.param(
            World(classes=3, live=20_000, labelled=0.01, turned_at=2_000),
            0.8,
            marks=pytest.mark.slow,
        ),
    ],
    ids=["40 classes", "400 rows", "1 % labels"],
)
def test_change_of_all_labels_is_told_and_mended_from_some_hundred_labels_on(
    world: World, mended: float
) -> None:
    found = world.play(0)
    assert "drift" in {entry.kind for entry in found.timeline.entries}
    newest = slice(-world.live // 8, None)
    assert (found.predicted[newest] == world.truth(0)[newest]).mean() >= mended
