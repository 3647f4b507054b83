"""Avalanche's own strategies on the same rows, base models and compute.

    python -m benchmarks.retraining.avalanche_runs WORLD.npz JOBS.json RESULTS.json

Runs in an environment of its own, which `rivals.py` makes. The loop, the penalties and the buffers
are Avalanche's, with its own weights for DER++; learning-rate schedule, optimizer, clipping and
budget are those of the product, so that only the method differs.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import runpy
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import library, nn

# PyPI's torchvision is built for CUDA and does not load its operators beside a CPU-only torch; it
# wants them declared. Avalanche uses none of them here.
_TYPES = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
for _name in ("nms", "qnms"):
    library.define(f"torchvision::{_name}", _TYPES)

from avalanche.benchmarks.scenarios.dataset_scenario import benchmark_from_datasets  # noqa: E402
from avalanche.benchmarks.utils.classification_dataset import (  # noqa: E402
    _make_taskaware_tensor_classification_dataset as tensor_dataset,
)
from avalanche.core import SupervisedPlugin  # noqa: E402
from avalanche.training.plugins import (  # noqa: E402
    EvaluationPlugin,
    EWCPlugin,
    MASPlugin,
)
from avalanche.training.supervised import DER, EWC, MAS  # noqa: E402

from benchmarks.retraining.figures import Figures  # noqa: E402
from benchmarks.retraining.memory import PeakMemory  # noqa: E402

WARM_UP, MAX_NORM = 0.1, 1.0  # as in the product
MANY = 1_000_000  # epochs; the allowance ends the training
# What a strategy does with each row of the regime before, in passes of a training step.
SET_UP = {"ewc": 1.0, "mas": 1.0, "der++": 1.0 / 3.0}


class Allowance(SupervisedPlugin):  # type: ignore[misc]
    """Sets the learning rate, clips gradients, and ends the training when the steps are made."""

    def __init__(self, peak: float, steps: int) -> None:
        super().__init__()
        self._peak, self.steps, self.done = peak, steps, 0

    def before_update(self, strategy: Any, **_: Any) -> None:
        nn.utils.clip_grad_norm_(strategy.model.parameters(), MAX_NORM)
        done = self.done / max(self.steps, 1)
        for group in strategy.optimizer.param_groups:
            group["lr"] = self._peak * min(1.0, (done + 1e-3) / WARM_UP) * (1.0 - done)

    def after_training_iteration(self, strategy: Any, **_: Any) -> None:
        self.done += 1
        if self.done >= self.steps:
            strategy.stop_training()


class Loss(nn.CrossEntropyLoss):
    """Cross-entropy that is never exactly 0, which Avalanche's MAS takes for no loss at all."""

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return super().forward(output, target) + 1e-12


def make(method: str, model: nn.Module, memory: int, batch: int) -> Any:
    """Return a strategy that has seen nothing yet.

    Args:
        method: A key of ``METHODS`` in `rivals.py`, without its prefix.
        model: The network.
        memory: Rows that a buffer may hold.
        batch: Rows of a step; where there is a buffer, half of them come from it.
    """
    common: dict[str, Any] = {
        "model": model,
        "optimizer": torch.optim.AdamW(model.parameters(), weight_decay=0.0),
        "criterion": Loss(),
        "train_epochs": 0,
        "evaluator": EvaluationPlugin(),
    }
    if method == "ewc":
        online = {"mode": "online", "decay_factor": 1.0}
        return EWC(ewc_lambda=1.0, train_mb_size=batch, **online, **common)
    if method == "mas":
        return MAS(lambda_reg=1.0, train_mb_size=batch, **common)
    half = batch // 2
    return DER(mem_size=memory, train_mb_size=half, batch_size_mem=half, **common)


class World:
    """What one file of `rivals.export` holds."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as file:
            self._arrays = {name: file[name] for name in file.files}
        self.meta: dict[str, Any] = json.loads(str(self._arrays["meta"]))

    def rows(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return inputs and labels."""
        x, y = (torch.from_numpy(self._arrays[f"{name}/{part}"]) for part in "xy")
        return x, y

    def model(self) -> nn.Module:
        """Return a network with the weights of the base model."""
        file, name = self.meta["net"]
        model: nn.Module = runpy.run_path(file)[name]()
        state = {
            name.removeprefix("state/"): torch.from_numpy(array)
            for name, array in self._arrays.items()
            if name.startswith("state/")
        }
        model.load_state_dict(state)
        return model

    def experiences(self) -> list[Any]:
        """Return the old rows and the new rows of each step as Avalanche's experiences."""
        names = ["old", *(f"new{i}" for i in range(1, self.meta["steps"] + 1))]
        return as_experiences([self.rows(name) for name in names])


def as_experiences(parts: list[tuple[torch.Tensor, torch.Tensor]]) -> list[Any]:
    """Return sets of rows as one stream of experiences."""
    sets = [tensor_dataset(x, y, task_labels=0) for x, y in parts]
    return list(benchmark_from_datasets(train=sets).train_stream)


def begun(world: World, method: str, batch: int) -> Any:
    """Return a strategy that knows the old rows, and has the base model.

    An experience of no epochs fills buffers and measures importance.
    """
    strategy = make(method, world.model(), world.meta["memory"], batch)
    strategy.train(world.experiences()[0], eval_streams=[])
    return strategy


def allowed(strategy: Any, experience: Any, rate: float, steps: int) -> None:
    """Train on an experience for so many steps."""
    allowance = Allowance(rate, steps)
    strategy.plugins.insert(0, allowance)
    strategy.train_epochs = MANY
    strategy.train(experience, eval_streams=[], reset_optimizer_state=True)
    strategy.plugins.remove(allowance)


def run(world: World, strategy: Any, set_up_s: float, job: dict[str, Any]) -> dict[str, Any]:
    """Do one job and return its figures.

    Args:
        world: Rows and budget.
        strategy: What `begun` returned; it is used up.
        set_up_s: Seconds that this took.
        job: ``method``, ``share``, ``seed``, ``settings``.
    """
    meta, settings, method = world.meta, job["settings"], job["method"]
    batch = settings["batch_size"]
    torch.manual_seed(job["seed"])
    if "strength" in settings:
        weigh(strategy, settings["strength"])
    experiences = world.experiences()
    figures = Figures(accuracy(strategy.model, world.rows("test0")))
    for number in range(1, meta["steps"] + 1):
        full, row = meta["full_flops"][number - 1], meta["row_flops"]
        set_up = SET_UP.get(method, 0.0) * len(experiences[number - 1].dataset) * row
        steps = int((job["share"] * full - set_up) / (batch * row))
        with PeakMemory() as memory:
            started, cpu = time.perf_counter(), time.process_time()
            if steps > 0:
                allowed(strategy, experiences[number], settings["learning_rate"], steps)
            seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        early = set_up_s if number == 1 else 0.0
        tests = [accuracy(strategy.model, world.rows(f"test{i}")) for i in range(number + 1)]
        figures.learnt(tests, accuracy(strategy.model, world.rows(f"ahead{number}")))
        figures.spent(
            memory.mb, flops=set_up + max(steps, 0) * batch * row, full_flops=full,
            seconds=seconds + early, cpu_s=cpu + early, steps=max(steps, 0), refused=steps <= 0,
        )  # fmt: skip
    return {**job, "task": meta["task"], **figures.plain()}


def weigh(strategy: Any, strength: float) -> None:
    """Set the weight of a strategy's penalty."""
    for plugin in strategy.plugins:
        if isinstance(plugin, EWCPlugin):
            plugin.ewc_lambda = strength
        elif isinstance(plugin, MASPlugin):
            plugin._lambda = strength


@torch.inference_mode()
def accuracy(model: nn.Module, rows: tuple[torch.Tensor, torch.Tensor]) -> float:
    """Return the share of rows whose class the model names."""
    model.eval()
    said = torch.cat([model(part).argmax(dim=1) for part in rows[0].split(1_024)])
    return float((said == rows[1]).float().mean())


def main(world_path: Path, jobs_path: Path, results: Path) -> None:
    torch.set_num_threads(1)
    world = World(world_path)
    jobs = json.loads(jobs_path.read_text(encoding="utf-8"))
    done = []
    kinds = [(job["method"], job["settings"]["batch_size"]) for job in jobs]
    for kind in dict.fromkeys(kinds):
        cpu = time.process_time()
        strategy = begun(world, *kind)
        cpu = time.process_time() - cpu
        mine = [job for job, its in zip(jobs, kinds, strict=True) if its == kind]
        done += [run(world, copy.deepcopy(strategy), cpu, job) for job in mine]
    results.write_text(json.dumps(done), encoding="utf-8")


if __name__ == "__main__":
    with contextlib.redirect_stdout(io.StringIO()):  # Avalanche tells of every epoch
        main(*map(Path, sys.argv[1:]))
