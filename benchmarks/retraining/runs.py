"""One run: a method retrains a base model through all regimes of a task, at a share of compute."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.retraining.base import reference
from benchmarks.retraining.figures import Figures
from benchmarks.retraining.memory import PeakMemory
from benchmarks.retraining.place import OUT, Place
from benchmarks.retraining.task import Rows
from benchmarks.retraining.worlds import State, Step, world
from undrift.errors import TrainingError
from undrift.evidence import DriftKind
from undrift.train.plan import RetrainPlan
from undrift.train.retrain import retrain
from undrift.train.scoring import score
from undrift.train.settings import TrainSettings
from undrift.train.trainee import Trainee

SCRATCH = "scratch"  # full, from random weights


def run_one(
    task: str,
    method: str,
    budget_share: float,
    seed: int,
    overrides: Mapping[str, Any] | None = None,
    *,
    data_dir: Path | None = None,
    out: Path = OUT,
    place: Place | None = None,
) -> dict[str, Any]:
    """Retrain through all steps of a task with one method and return what came of it.

    A step whose training is refused, as when the budget does not cover a method's set-up, leaves
    the model as it was and counts in ``refused``.

    Args:
        task: A key of ``TASKS``.
        method: A method of the product, or ``scratch``: full, from random weights.
        budget_share: Share of the operations of a full retrain that every step may spend.
        seed: Of rows, base model and retraining; 100 and above for development.
        overrides: Fields of ``TrainSettings``; ``kind`` overrides what the monitor says.
        data_dir: Folder of the data sets.
        out: Folder for base models and unpacked data.
        place: Both, and which networks; instead of ``data_dir`` and ``out``.

    Returns:
        Plain JSON values: ``new``, ``old``, ``mean``, ``forgetting`` (fractions), ``flops``,
        ``full_flops``, ``seconds``, ``cpu_s``, ``peak_mb``, ``steps``, ``refused``, the matrix
        ``accuracy`` (row: step, column: regime) and ``ahead``, the accuracy after each step on
        what came next.
    """
    torch.set_num_threads(1)
    place = place or Place(data_dir or Path(), out)
    it = world(task, seed, place)
    values = dict(overrides or {})
    kind = DriftKind(values.pop("kind", it.kind))
    settings = TrainSettings(**values)
    model = it.task.net()
    model.load_state_dict(it.state)
    figures = Figures(accuracy(model, it.regimes[0].test))
    for number in range(1, len(it.regimes)):
        step = it.step(number)
        plan = RetrainPlan(
            run_id=f"{task}-{number}",
            base_version=number,
            method="full" if method == SCRATCH else method,
            steps=1,
            seed=1_000 * seed + number,
            kind=kind,
            regime_start=step.start,
            until_row=int(step.pool.row[-1]) + 1,
            budget=f"{budget_share * step.full_flops:.0f}FLOP",
        )
        if method == SCRATCH:
            torch.manual_seed(plan.seed)
            model = it.task.net()
        _retrain(Trainee(model, device=place.device), step, plan, settings, figures)
        tests = [regime.test for regime in it.regimes[: number + 1]]
        figures.learnt(
            [accuracy(model, rows) for rows in tests], accuracy(model, it.regimes[number].ahead)
        )
    head = {"task": task, "method": method, "share": budget_share, "seed": seed}
    return {**head, "kind": kind.value, **figures.plain()}


def _retrain(
    trainee: Trainee, step: Step, plan: RetrainPlan, settings: TrainSettings, figures: Figures
) -> None:
    """Retrain a model in place and note the cost."""
    model = trainee.model
    state: State = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    known = reference(model, step.known)
    with PeakMemory() as memory:
        started, cpu = time.perf_counter(), time.process_time()
        try:
            result = retrain(trainee, state, step.pool, known, plan, settings=settings)
            state, flops, steps, refused = result.state_dict, result.flops, result.steps, 0
        except TrainingError:
            flops, steps, refused = 0.0, 0, 1
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    model.cpu().load_state_dict(state)
    figures.spent(
        memory.mb, flops=flops, full_flops=step.full_flops, seconds=seconds, cpu_s=cpu,
        steps=steps, refused=refused,
    )  # fmt: skip


def accuracy(model: nn.Module, rows: Rows) -> float:
    """Return the share of rows whose class the model names."""
    return float((score(model, rows.x)[0].argmax(axis=1) == rows.y).mean())
