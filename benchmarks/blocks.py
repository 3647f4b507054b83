"""Does it pay to let the lower blocks of a deep model rest?

    python -m benchmarks.blocks --data-dir DIR [--seeds 3] [--minutes 20]

A residual network of 20 layers and a Transformer of six are retrained after two kinds of drift, at
a quarter of the operations of a full retrain (10 passes over the pool, all blocks) and at all of
them. Every row is `bandit` with the same rows and its own choice of what trains:

- *all*: every block, as by default;
- *bandit*: `train.block_selection`, all blocks in the first half of the run, then as a bandit says;
- *upper two thirds*, *upper half*: the blocks below rest, and are run forward all the same;
- *upper half, cached*: what the lower half makes of a row is computed once, kept, and trained on;
- *head*: the last layer alone, as `last_layer` does.

What resting saves is spent on more steps, so that all have the same operations. *Passes* is how
often a row of the pool was drawn on average. Medians over the seeds; *less all* is the median, with
the lowest and the highest, of the points that a run has more than that of *all* of its seed. Runs
are kept beside the page, in `docs/retraining/blocks.jsonl`, and no run is made twice.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from torch import nn

from benchmarks.retraining.base import reference
from benchmarks.retraining.memory import PeakMemory
from benchmarks.retraining.nets import Residual
from benchmarks.retraining.place import Place
from benchmarks.retraining.runs import accuracy, answered
from benchmarks.retraining.tasks import TASKS
from benchmarks.retraining.worlds import World, world
from undrift.train.blocks import Blocks
from undrift.train.methods.block_selection import BlockSelector
from undrift.train.methods.protection import Protection
from undrift.train.methods.registry import METHODS, Method
from undrift.train.methods.sample_bandit import DoubtSampler
from undrift.train.plan import RetrainPlan
from undrift.train.pool import Pool
from undrift.train.retrain import retrain
from undrift.train.settings import TrainSettings
from undrift.train.setup import Setup
from undrift.train.trainee import Trainee

OUT, KEPT = Path("build/blocks"), Path("docs/retraining/blocks.jsonl")
EVERYTHING, HALF = "all", "upper half, cached"
RESTING = {"upper two thirds": 1 / 3, "upper half": 1 / 2, "head": 1.0}
CHOICES = (EVERYTHING, "bandit", *RESTING, HALF)
FULL = (EVERYTHING, "upper half", HALF)  # what is also run at all operations
_PASSES = 10


def resnet20() -> nn.Module:
    """He et al.'s ResNet-20 for 32 x 32 images, with half the channels, the first with stride 2."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        Residual(8, 8, 1), Residual(8, 8, 1), Residual(8, 8, 1),
        Residual(8, 16, 2), Residual(16, 16, 1), Residual(16, 16, 1),
        Residual(16, 32, 2), Residual(32, 32, 1), Residual(32, 32, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


class _Lines(nn.Module):
    """An image's lines as a sequence, with learnt positions."""

    def __init__(self, lines: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Linear(lines, width)
        self.position = nn.Parameter(0.02 * torch.randn(lines, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.embed(x[:, 0]) + self.position
        return out


class _Mean(nn.Module):
    """The mean over a sequence."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=1)


def transformer(layers: int = 6, width: int = 48) -> nn.Module:
    """A Transformer encoder that reads an image line by line; pre-norm, no dropout."""
    return nn.Sequential(
        _Lines(28, width),
        *(
            nn.TransformerEncoderLayer(
                width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True
            )
            for _ in range(layers)
        ),
        nn.LayerNorm(width), _Mean(), nn.Linear(width, 10),
    )  # fmt: skip


_RESNET = partial(replace, net=resnet20, base_epochs=6, epochs=_PASSES)
_TRANSFORMER = partial(replace, net=transformer, base_epochs=4, epochs=_PASSES)
DEEP = {
    "deep-cifar-moved": _RESNET(TASKS["cifar-moved"]),
    "deep-cifar-classes": _RESNET(TASKS["cifar-classes"]),
    "deep-usps": _TRANSFORMER(TASKS["mnist-usps"]),
    "deep-mnist-classes": _TRANSFORMER(TASKS["mnist-classes"]),
}
TITLES = {
    "deep-cifar-moved": "ResNet-20, CIFAR-10, images moved",
    "deep-cifar-classes": "ResNet-20, CIFAR-10 0-4, then 5-9",
    "deep-usps": "Transformer, MNIST to USPS",
    "deep-mnist-classes": "Transformer, MNIST 0-4, then 5-9",
}
TASKS.update(DEEP)


class _Upper(BlockSelector):
    """Lets the same upper blocks train in every round."""

    def __init__(self, setup: Setup, share: float) -> None:
        super().__init__(setup)
        self._lowest = min(len(setup.blocks) - 1, round(share * len(setup.blocks)))

    def choose(self, share: float) -> int:  # noqa: ARG002
        return self._lowest


def _resting(share: float) -> Method:
    return Method(DoubtSampler, partial(_Upper, share=share), Protection, paced=True)


METHODS.update({name: lambda _, share=share: _resting(share) for name, share in RESTING.items()})


def run(it: World, choice: str, share: float) -> dict[str, Any]:
    """Retrain once and return accuracy and cost."""
    torch.set_num_threads(1)
    model = it.task.net()
    model.load_state_dict(it.state)
    told = answered(model, it.regimes[0].train, 0).and_(answered(model, it.regimes[1].train, 1))
    step = it.step(1).answered(told, answered(model, it.step(1).known, -1))
    known, pool, budget = reference(model, step.known), step.pool, share * step.full_flops
    own = choice if choice in RESTING else "bandit"
    settings = TrainSettings(block_selection=choice == "bandit")
    with PeakMemory() as memory:
        started, cpu = time.perf_counter(), time.process_time()
        trained = model
        if choice == HALF:
            below, trained = _halves(model)
            spent = len(pool) * Blocks(model, torch.as_tensor(pool.x[:2])).forward_flops
            spent -= len(pool) * Blocks(trained, below(torch.as_tensor(pool.x[:2]))).forward_flops
            budget -= spent
            pool = _of_features(below, pool)
            known = replace(known, x=_features(below, known.x))
        plan = RetrainPlan(
            run_id="run", base_version=1, method=own, steps=1, seed=1_000 * it.seed + 1,
            kind=it.kind, regime_start=step.start, until_row=int(pool.row[-1]) + 1,
            budget=f"{budget:.0f}FLOP",
        )  # fmt: skip
        state = {name: value.clone() for name, value in trained.state_dict().items()}
        result = retrain(Trainee(trained), state, pool, known, plan, settings=settings)
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    trained.load_state_dict(result.state_dict)
    new, old = accuracy(model, it.regimes[1].test), accuracy(model, it.regimes[0].test)
    drawn = result.steps * result.metrics["batch_size"]
    return {
        "new": new, "old": old, "mean": (new + old) / 2, "seconds": seconds, "cpu_s": cpu,
        "peak_mb": memory.mb, "steps": result.steps,
        "passes": drawn / result.metrics["candidates"],
    }  # fmt: skip


def _halves(model: nn.Module) -> tuple[nn.Sequential, nn.Sequential]:
    """Cut where `upper half` does: as many blocks below."""
    assert isinstance(model, nn.Sequential)
    shape = (1, 3, 32, 32) if isinstance(model[0], nn.Conv2d) else (1, 1, 28, 28)
    blocks = Blocks(model, torch.zeros(shape)).all
    first = blocks[round(len(blocks) / 2)].modules[0]
    cut = next(i for i, part in enumerate(model) if first in set(part.modules()))
    return model[:cut].eval(), model[cut:]


def _features(below: nn.Module, x: Any) -> Any:
    with torch.no_grad():
        return np.concatenate([below(part).numpy() for part in torch.as_tensor(x).split(256)])


def _of_features(below: nn.Module, pool: Pool) -> Pool:
    return replace(pool, x=_features(below, pool.x), newest=_features(below, pool.newest))


def page(found: Iterable[dict[str, Any]]) -> str:
    """Return the page of all runs."""
    runs: dict[tuple[str, float, str], list[dict[str, Any]]] = {}
    for r in found:
        runs.setdefault((r["task"], r["share"], r["choice"]), []).append(r)
    head = (__doc__ or "").partition("\n\n")[2]
    parts = [f"# Which blocks train\n\n{head}"]
    columns = ("mean", "new", "old", "passes", "cpu_s", "peak_mb")
    for task in DEEP:
        for share in (0.25, 1.0):
            here = {c: runs[task, share, c] for c in CHOICES if (task, share, c) in runs}
            if not here:
                continue
            seeds = max(map(len, here.values()))
            parts.append(f"\n## {TITLES[task]}, {share:.0%} of the operations, {seeds} seeds\n")
            parts.append("| what trains | mean | less *all* | new | old | passes | CPU s | MiB |")
            parts.append("|---|---|---|---|---|---|---|---|")
            for choice, rows in here.items():
                mean, new, old, passes, cpu, mb = (median(r[c] for r in rows) for c in columns)
                less = [
                    100 * (r["mean"] - q["mean"])
                    for r in rows for q in here.get(EVERYTHING, [])
                    if r["seed"] == q["seed"]
                ]  # fmt: skip
                gain = f"{median(less):+.1f} ({min(less):+.1f} to {max(less):+.1f})" if less else ""
                parts.append(
                    f"| {choice} | {100 * mean:.1f} | {gain} | {100 * new:.1f} | {100 * old:.1f} "
                    f"| {passes:.1f} | {cpu:.1f} | {mb:.0f} |"
                )
    return "\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--page", type=Path, default=Path("docs/blocks.md"))
    options = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * options.minutes
    lines = KEPT.read_text(encoding="utf-8").splitlines() if KEPT.exists() else []
    found = [json.loads(line) for line in lines]
    done = {(r["task"], r["share"], r["choice"], r["seed"]) for r in found}
    place = Place(options.data_dir, OUT)
    for seed in range(options.seeds):
        for task in DEEP:
            todo = [(0.25, c) for c in CHOICES] + [(1.0, c) for c in FULL]
            for share, choice in todo:
                if (task, share, choice, seed) in done or time.monotonic() > end:
                    continue
                got = run(world(task, seed, place), choice, share)
                found.append({"task": task, "share": share, "choice": choice, "seed": seed, **got})
                with KEPT.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(found[-1]) + "\n")
                print(task, share, choice, seed, f"{got['mean']:.3f}", flush=True)
    options.page.write_text(page(found), encoding="utf-8")


if __name__ == "__main__":
    main()
