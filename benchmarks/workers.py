"""What more training workers save: the same retraining by one, two and four.

    python -m benchmarks.workers [--runs 3] [--steps 200]

A real platform, whose model is a convolutional network on images of 3 x 32 x 32, is given 1,500
labelled rows and told to retrain, with batches of 128 over all workers, which wait already
(`train.keep_staged`). A run is told by its checkpoint, gradients go by gloo over loopback, and each
worker has one thread. *Seconds* is the time from the order until the candidate is judged and
stored: the pool is read, what is known of its rows is found out, and the gate judges, too, which
more workers do not make faster. Medians of the runs, with the lowest and the highest in brackets.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from tests.helpers.support import eventually
from tests.ray.running import Running, free_port, project, undrift
from undrift.model.network import load_factory

WORKERS, ROWS, CLASSES = (1, 2, 4), 1_500, 5
FILE = """\
from torch import nn


def build():
    return nn.Sequential(
        nn.Conv2d(3, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(24, 48, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(48, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
        nn.Flatten(), nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 5),
    )
"""


def images(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return n noisy images of five patterns, and which one each shows."""
    patterns = np.random.default_rng(0).normal(size=(CLASSES, 3, 32, 32))
    rng = np.random.default_rng(seed)
    y = rng.integers(0, CLASSES, n)
    return (patterns[y] + 3 * rng.normal(size=(n, 3, 32, 32))).astype(np.float32), y


def starter(folder: Path) -> Path:
    """Write the project, with weights that know nothing yet."""
    path = folder / "starter"
    assert undrift("init", str(path), cwd=folder).returncode == 0
    (path / "model.py").write_text(FILE, encoding="utf-8")
    torch.manual_seed(0)
    save_file(load_factory("model:build", path)().state_dict(), path / "weights.safetensors")
    x, y = images(300, 1)
    np.savez(path / "reference.npz", x=x, y=y)
    return path


def measure(running: Running, runs: int, steps: int) -> list[float]:
    """Return the seconds of each run."""
    client, (x, y) = running.await_ready().client, images(ROWS, 2)
    for start in range(0, ROWS, 50):
        part = slice(start, start + 50)
        answer = client.infer(x[part], f"row-{start}")
        assert client.feedback(answer.ids, y[part].tolist())["rejected"] == []
    eventually(lambda: client.drift().labelled, until=lambda seen: seen >= ROWS)
    eventually(lambda: len(running.processes("ray::RayTrainWorker")) > 0)
    took = []
    for number in range(runs + 1):
        before = len(running.store.versions())
        began = time.monotonic()
        client.retrain(method="finetune", steps=steps)
        eventually(lambda: len(running.store.versions()), until=lambda n: n > before)  # noqa: B023
        took.append(time.monotonic() - began)
        print(f"run {number}: {took[-1]:.1f} s", flush=True)
        eventually(lambda: client.status().phase != "retraining")
    return took[1:]  # the first one waits for workers


def table(found: dict[int, list[float]]) -> str:
    """Return the page's table."""
    lines = ["| workers | runs | seconds | against one |", "|---|---|---|---|"]
    alone = statistics.median(found[WORKERS[0]])
    for workers, took in found.items():
        middle = statistics.median(took)
        spread = f"{middle:.1f} ({min(took):.1f} to {max(took):.1f})"
        lines.append(f"| {workers} | {len(took)} | {spread} | {middle / alone:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--table", type=Path, default=Path("docs/workers.md"))
    asked = parser.parse_args()
    found, load = {}, os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as scratch:
        made = starter(Path(scratch))
        for workers in WORKERS:
            path = project(
                made,
                Path(scratch) / f"run-{workers}",
                serve={"port": free_port()},
                model={"input_shape": [3, 32, 32], "classes": CLASSES},
                lifecycle={"mode": "off"},
                train={"workers": workers, "keep_staged": True, "batch_size": 128},
            )
            running = Running(path)
            try:
                found[workers] = measure(running, asked.runs, asked.steps)
            finally:
                running.kill_all()
    head = (__doc__ or "").partition("\n\n")[2]
    cores = f"The machine has {os.cpu_count()} cores; its load average was {load:.1f} before.\n"
    text = f"# More training workers\n\n{head}\n{cores}\n{table(found)}\n"
    print(text, flush=True)
    asked.table.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
