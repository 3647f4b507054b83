"""One run: a method retrains a base model through all regimes of a task, at a share of compute."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.retraining.base import base_state, reference, reference_rows, signalled
from benchmarks.retraining.memory import PeakMemory
from benchmarks.retraining.tasks import TASKS, Regime, Rows, Source, Task
from undrift.events import DriftKind
from undrift.records import Reference
from undrift.train.blocks import Blocks
from undrift.train.candidate import build_reference
from undrift.train.plan import RetrainPlan
from undrift.train.pool import REFERENCE_ROW, Pool, held_out
from undrift.train.retrain import retrain
from undrift.train.scoring import score
from undrift.train.settings import TrainSettings

OUT = Path("build/retraining")
SCRATCH = "scratch"  # full, from random weights
_NEWEST = 1_000
State = Mapping[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class World:
    """A task for one seed, with the base model that all methods start from.

    Attributes:
        task: The task.
        seed: Of everything.
        regimes: In order; the reference rows are taken out of the first one's test rows.
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

    def pool(self, step: int, known: Reference) -> tuple[Pool, int]:
        """Return what may be trained on at a step, and the first row of its new regime.

        Args:
            step: 1 for the first drift.
            known: Reference of the model as it is; its rows come first, as in the platform.
        """
        sizes = [len(regime.train) for regime in self.regimes]
        first = np.concatenate([[0], np.cumsum(sizes)])
        earlier = int(first[step])
        rng = np.random.default_rng([self.seed, step])
        kept = np.sort(rng.choice(earlier, min(self.task.memory, earlier), replace=False))
        row = np.concatenate([kept, np.arange(earlier, first[step + 1])])
        x, y = (
            np.concatenate([getattr(regime.train, name) for regime in self.regimes[: step + 1]])
            for name in ("x", "y")
        )
        pool = Pool(
            x=np.concatenate([known.x, x[row]]),
            y=np.concatenate([known.y, y[row]]),
            row=np.concatenate([np.full(len(known), REFERENCE_ROW), row]).astype(np.int64),
            at=np.concatenate([np.zeros(len(known)), row.astype(np.float64)]),
            newest=x[row][-_NEWEST:],
            newest_row=row[-_NEWEST:].astype(np.int64),
        )
        return pool, earlier

    def full_flops(self, model: nn.Module, pool: Pool) -> float:
        """Return the operations of a full retrain: some passes over every row of the pool."""
        rows = int((~held_out(pool)).sum())
        blocks = Blocks(model, torch.as_tensor(pool.x[:2]))
        return self.task.epochs * rows * blocks.step_flops(0)


@lru_cache(maxsize=2)
def world(name: str, seed: int, data_dir: Path, out: Path = OUT) -> World:
    """Return the world of a task and a seed; its base model is trained once and kept in ``out``."""
    task = TASKS[name]
    regimes = task.regimes(Source(data_dir, out, name, seed))
    known, test = reference_rows(regimes[0])
    ahead = test if regimes[0].ahead is regimes[0].test else regimes[0].ahead
    regimes = (Regime(regimes[0].train, test, ahead), *regimes[1:])
    state = base_state(task, regimes[0].train, seed, out / "base" / f"{name}-{seed}.safetensors")
    model = task.net()
    model.load_state_dict(state)
    kind = signalled(model, reference(model, known), regimes[0].test, regimes[1].train)
    return World(task, seed, regimes, known, state, kind)


def run_one(
    task: str,
    method: str,
    budget_share: float,
    seed: int,
    overrides: Mapping[str, Any] | None = None,
    *,
    data_dir: Path,
    out: Path = OUT,
) -> dict[str, Any]:
    """Retrain through all steps of a task with one method and return what came of it.

    Args:
        task: A key of ``TASKS``.
        method: A method of the product, or ``scratch``: full, from random weights.
        budget_share: Share of the operations of a full retrain that every step may spend.
        seed: Of rows, base model and retraining; 100 and above for development.
        overrides: Fields of ``TrainSettings``; ``kind`` overrides what the monitor says.
        data_dir: Folder of the data sets.
        out: Folder for base models and unpacked data.

    Returns:
        Plain JSON values: ``new``, ``old``, ``mean``, ``forgetting`` (fractions), ``flops``,
        ``full_flops``, ``seconds``, ``cpu_s``, ``peak_mb``, ``steps``, the matrix ``accuracy``
        (row: step, column: regime) and ``ahead``, the accuracy after each step on what came next.
    """
    it = world(task, seed, data_dir, out)
    values = dict(overrides or {})
    kind = DriftKind(values.pop("kind", it.kind))
    settings = TrainSettings(**values)
    model = it.task.net()
    state, known = it.state, _reference_of(model, it)
    found = Figures([accuracies(model, it.regimes[:1])])
    for step in range(1, len(it.regimes)):
        pool, start = it.pool(step, known)
        full = it.full_flops(model, pool)
        plan = RetrainPlan(
            run_id=f"{task}-{step}",
            base_version=step,
            method="full" if method == SCRATCH else method,
            steps=1,
            seed=1_000 * seed + step,
            kind=kind,
            regime_start=start,
            until_row=int(pool.row[-1]) + 1,
            budget=f"{budget_share * full:.0f}FLOP",
        )
        if method == SCRATCH:
            torch.manual_seed(plan.seed)
            state = {k: v.clone() for k, v in it.task.net().state_dict().items()}
        with PeakMemory() as memory:
            cpu = time.process_time()
            result = retrain(model, state, pool, known, plan, settings=settings)
            cpu = time.process_time() - cpu
        state = result.state_dict
        model.load_state_dict(state)
        known = build_reference(model, pool, result.chosen, seed=plan.seed)
        found.accuracy.append(accuracies(model, it.regimes[: step + 1]))
        found.ahead.append(accuracy(model, it.regimes[step].ahead))
        found.spent(result.flops, full, result.seconds, cpu, memory.mb, result.steps)
    head = {"task": task, "method": method, "share": budget_share, "seed": seed}
    return {**head, "kind": kind.value, **found.plain()}


class Figures:
    """What a run is judged by, collected step by step."""

    def __init__(self, accuracy: list[list[float]]) -> None:
        self.accuracy = accuracy
        self.ahead: list[float] = []
        self._sums = np.zeros(5)
        self._peak_mb = 0.0

    def spent(
        self, flops: float, full: float, seconds: float, cpu_s: float, peak_mb: float, steps: int
    ) -> None:
        """Add what one step cost."""
        self._sums += [flops, full, seconds, cpu_s, steps]
        self._peak_mb = max(self._peak_mb, peak_mb)

    def plain(self) -> dict[str, Any]:
        """Return all figures as plain JSON values."""
        last = len(self.accuracy) - 1
        new, old = float(np.mean(self.ahead)), float(np.mean(self.accuracy[last][:last]))
        flops, full, seconds, cpu_s, steps = self._sums.tolist()
        return {
            "new": new,
            "old": old,
            "mean": (new + old) / 2,
            "forgetting": forgetting(self.accuracy),
            "flops": flops,
            "full_flops": full,
            "seconds": seconds,
            "cpu_s": cpu_s,
            "peak_mb": self._peak_mb,
            "steps": int(steps),
            "accuracy": self.accuracy,
            "ahead": self.ahead,
        }


def forgetting(accuracy: list[list[float]]) -> float:
    """Return how much accuracy on a regime falls from when it was learnt to the end, on average.

    It is the backward transfer with its sign reversed.

    Args:
        accuracy: Row t: accuracy after step t on the regimes up to t.

    Reference:
        Lopez-Paz, Ranzato: Gradient episodic memory for continual learning. NeurIPS 2017.

    Example:
        >>> round(forgetting([[0.9], [0.7, 0.8], [0.6, 0.9, 0.8]]), 3)
        0.1
    """
    last = len(accuracy) - 1
    return float(np.mean([accuracy[i][i] - accuracy[last][i] for i in range(last)]))


def accuracies(model: nn.Module, regimes: tuple[Regime, ...]) -> list[float]:
    """Return the accuracy on the test rows of each regime."""
    return [accuracy(model, regime.test) for regime in regimes]


def accuracy(model: nn.Module, rows: Rows) -> float:
    """Return the share of rows whose class the model names."""
    return float((score(model, rows.x)[0].argmax(axis=1) == rows.y).mean())


def _reference_of(model: nn.Module, it: World) -> Reference:
    model.load_state_dict(it.state)
    return reference(model, it.known)
