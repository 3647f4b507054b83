"""A task for one seed: its rows, its base model, and what each step may train on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch

from benchmarks.retraining.base import base_state, reference, reference_rows, signalled
from benchmarks.retraining.data import cifar10
from benchmarks.retraining.nets import LARGE
from benchmarks.retraining.place import Place
from benchmarks.retraining.task import Regime, Rows, Source, Task
from benchmarks.retraining.tasks import TASKS
from undrift.evidence import DriftKind
from undrift.train.blocks import Blocks
from undrift.train.pool import REFERENCE_ROW, Pool, held_out

_NEWEST = 1_000
_KNOWN = 200  # held-out rows by which each later regime is known
State = Mapping[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Step:
    """One drift.

    Attributes:
        pool: Known rows first, as in the platform; then the memory; then the new regime.
        start: First row of the new regime.
        known: What the model that is retrained is known by: rows of all earlier regimes.
        full_flops: Operations of a full retrain: some passes over every row of the pool.
        row_flops: Operations of a training step, per row.
    """

    pool: Pool
    start: int
    known: Rows
    full_flops: float
    row_flops: float

    def candidates(self) -> tuple[Rows, Rows]:
        """Return the rows, old and new, that may be trained on."""
        free, new = ~held_out(self.pool), self.pool.row >= self.start
        old, fresh = ((self.pool.x[i], self.pool.y[i]) for i in (free & ~new, free & new))
        return Rows(*old), Rows(*fresh)


@dataclass(frozen=True, slots=True)
class World:
    """A task for one seed, with the base model that all methods start from.

    Attributes:
        task: The task.
        seed: Of everything.
        regimes: In order; the known rows are taken out of the first one's test rows.
        known: Reference rows of the base model.
        state: Weights of the base model.
        kind: What the product's monitor says has changed at the first step.
    """

    task: Task
    seed: int
    regimes: tuple[Regime, ...]
    known: Rows
    state: State
    kind: DriftKind

    def step(self, number: int) -> Step:
        """Return a drift; the first is number 1. It is the same for all methods."""
        first = np.cumsum([0, *(len(regime.train) for regime in self.regimes)])
        start, stop = int(first[number]), int(first[number + 1])
        x, y = (
            np.concatenate([getattr(regime.train, name) for regime in self.regimes[: number + 1]])
            for name in ("x", "y")
        )
        rng = np.random.default_rng([self.seed, number])
        memory = np.sort(rng.choice(start, min(self.task.memory, start), replace=False))
        row = np.concatenate([memory, np.arange(start, stop)]).astype(np.int64)
        known = self._known(number)
        pool = Pool(
            x=np.concatenate([known.x, x[row]]),
            y=np.concatenate([known.y, y[row]]),
            row=np.concatenate([np.full(len(known), REFERENCE_ROW, dtype=np.int64), row]),
            at=np.concatenate([np.zeros(len(known)), row.astype(np.float64)]),
            newest=x[row][-_NEWEST:],
            newest_row=row[-_NEWEST:],
        )
        row_flops = Blocks(self.task.net(), torch.as_tensor(pool.x[:2])).step_flops(0)
        rows = int((~held_out(pool)).sum())
        return Step(pool, start, known, self.task.epochs * rows * row_flops, row_flops)

    def _known(self, number: int) -> Rows:
        """Return the base model's reference rows, and held-out rows of each regime since."""
        first = np.cumsum([0, *(len(regime.train) for regime in self.regimes)])
        parts = [(self.known.x, self.known.y)]
        for regime, start in list(zip(self.regimes, first, strict=False))[1:number]:
            row = start + np.arange(len(regime.train))
            some = np.flatnonzero((row // 10) % 5 == 4)[-_KNOWN:]  # as `held_out` has it
            parts.append((regime.train.x[some], regime.train.y[some]))
        return Rows(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def unpack(place: Place, tasks: Sequence[str]) -> None:
    """Unpack what several processes would otherwise unpack at once."""
    if any(name.startswith("cifar") for name in tasks):
        cifar10(place.data, "test", place.out)


@lru_cache(maxsize=2)
def world(name: str, seed: int, place: Place) -> World:
    """Return the world of a task and a seed; its base model is trained once and kept."""
    task = TASKS[name]
    if place.large:
        task = replace(task, net=LARGE.get(task.net, task.net))
    regimes = task.build(Source(place.data, place.out, name, seed))
    known, test = reference_rows(regimes[0])
    ahead = test if regimes[0].ahead is regimes[0].test else regimes[0].ahead
    regimes = (Regime(regimes[0].train, test, ahead), *regimes[1:])
    if task.spoil is not None:
        rng = np.random.default_rng([seed, 7])
        known = task.spoil(known, rng)
        regimes = tuple(replace(r, train=task.spoil(r.train, rng)) for r in regimes)
    path = place.kept / "base" / f"{name}-{seed}.safetensors"
    state = base_state(task, regimes[0].train, seed, path, place.device)
    model = task.net()
    model.load_state_dict(state)
    kind = signalled(model, reference(model, known), regimes[0].test, regimes[1].train)
    return World(task, seed, regimes, known, state, kind)
