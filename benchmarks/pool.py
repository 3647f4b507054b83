"""What a training worker takes in memory and time before its first step, as the store grows.

    python -m benchmarks.pool FOLDER     # half an hour and 12 GB; half a minute with what is there

Stores of labelled rows (20 features, an embedding of 16, 5 classes) are made in FOLDER, and stay
there. At each size a process of its own does what a worker does with a plan: it reads the pool,
chooses rows and a start, and makes one step. MB are those of its peak above what it has before.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.late import BEGUN_MS, STEP_MS, names
from undrift.evidence import DriftKind
from undrift.model.network import forward_with_embedding
from undrift.records import Labels, Predictions, Reference
from undrift.store.store import Store
from undrift.train.attempt import attempt, settled
from undrift.train.comm import SingleProcess
from undrift.train.plan import RetrainPlan
from undrift.train.settings import TrainSettings
from undrift.train.stored import read_pool
from undrift.train.trainee import Trainee

FEATURES, EMBEDDING, CLASSES = 20, 16, 5
PART, REFERENCE_ROWS = 50_000, 1000
PAGE = Path(__file__).parents[1] / "docs" / "pool.md"
CASES = ((1_000_000, 20_000), (5_000_000, 20_000), (20_000_000, 20_000), (20_000_000, 200_000))
END = """\
A retraining considers the newest `train.max_pool_rows` labelled rows, however many there are. A
worker finds them by the ids, times and row numbers of `4 * max_pool_rows` predictions and by the
labels of those ids, then reads the inputs of the chosen rows alone, in pieces into one array. So
memory follows `max_pool_rows` and the size of an input, not the store; each worker holds that pool
once, and reads it itself. One process with one thread, on two cores that did other work too.

Before, the whole span of predictions was read until rows were chosen, and the newest labels were
looked for in 256 commits, here of 50,000 labels, as bulk files come: at 20,000,000 rows a worker
took 3,060 MB and 31 s.
"""


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(FEATURES, EMBEDDING), nn.ReLU(), nn.Linear(EMBEDDING, CLASSES))


def answers(network: nn.Sequential, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings and probabilities."""
    with torch.inference_mode():
        logits, embedding = forward_with_embedding(network, network[2], torch.as_tensor(x))
        return embedding.numpy(), logits.softmax(1).numpy()


def truth(x: np.ndarray) -> np.ndarray:
    classes: np.ndarray = x[:, :CLASSES].argmax(axis=1)
    return classes


def prepare(store: Store) -> None:
    """Store a first version."""
    if store.version_numbers():
        return
    network, x = model(), np.random.default_rng(1).normal(size=(REFERENCE_ROWS, FEATURES))
    x = x.astype(np.float32)
    embedding, output = answers(network, x)
    whole = Reference(x, truth(x), embedding, output, np.ones(REFERENCE_ROWS, np.bool_))
    store.add_version(network.state_dict(), parent=None, reference=whole, metrics={}, plan=None)


def filled(folder: Path, rows: int) -> Path:
    """Return a state with so many labelled rows, made from a smaller one if it is not there yet."""
    state = folder / str(rows)
    smaller = [int(path.name) for path in folder.glob("*") if int(path.name) < rows]
    if not state.exists() and smaller:
        shutil.copytree(folder / str(max(smaller)), state)
    store = Store(state)
    prepare(store)
    fill(store, rows)
    return state


def fill(store: Store, rows: int) -> None:
    """Store predictions and their labels up to so many rows."""
    network = model()
    for part in range(max(store.as_of()["labels"], 0), rows // PART):
        row = np.arange(part * PART, (part + 1) * PART, dtype=np.uint64)
        x = np.random.default_rng(part).normal(size=(PART, FEATURES)).astype(np.float32)
        ids = tuple(names(row))
        at = (BEGUN_MS + row * np.uint64(STEP_MS)).astype(np.float64) / 1000
        embedding, output = answers(network, x)
        version = np.ones(PART, np.int64)
        found = Predictions(ids, row.astype(np.int64), at, version, x, embedding, output)
        store.append_predictions(part + 1, found)
        store.append_labels(part + 1, Labels(ids, truth(x), at + 1.0))
    store.compact()


class FirstStepError(Exception):
    """One step is made."""


class Alone(SingleProcess):
    """A world of one that ends when gradients are to be averaged."""

    def mean_(self, _: Iterable[torch.Tensor]) -> None:
        raise FirstStepError


def measure(folder: Path, rows: int, most: int) -> None:
    """Do what a worker does until its first step, and print seconds and MB."""
    torch.set_num_threads(1)
    store, settings = Store(folder), TrainSettings(max_pool_rows=most)
    plan = RetrainPlan(
        run_id="run-1",
        base_version=1,
        method=settings.method,
        steps=settings.steps,
        seed=0,
        kind=DriftKind.CONCEPT,
        regime_start=rows - 5000,
        until_row=rows,
        as_of=store.as_of(),
    )
    torch.optim.AdamW(model().parameters())  # imports
    before, begun = rss(), time.perf_counter()
    reference = store.reference(1)
    pool = read_pool(store, plan, reference, most)
    read = time.perf_counter() - begun
    trainee, given = Trainee(model(), comm=Alone()), (store.state_dict, pool, reference)
    try:
        attempt(
            trainee, [1], *given, settled(plan, pool, 250), settings=settings, reference_rows=250
        )
    except FirstStepError:
        seconds = time.perf_counter() - begun
    figures = {"read": read, "seconds": seconds, "mb": rss() - before, "pool": len(pool)}
    print(json.dumps(figures))


def rss() -> float:
    """Return the most memory that this process has had, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--measure", type=int, nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        measure(asked.folder, *asked.measure)
        return
    lines = [
        "| labelled rows in the store | `max_pool_rows` | pool read, s | first step, s | MB more |",
        "|---|---|---|---|---|",
    ]
    for rows, most in CASES:
        state = filled(asked.folder, rows)
        command = [sys.executable, "-m", "benchmarks.pool", str(state)]
        done = subprocess.run(
            [*command, "--measure", str(rows), str(most)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
        f = json.loads(done.stdout)
        lines.append(
            f"| {rows:,} | {most:,} | {f['read']:.2f} | {f['seconds']:.2f} | {f['mb']:.0f} |"
        )
        print(lines[-1], flush=True)
    head = (__doc__ or "").partition("\n\n")[2]
    title = "# What a training worker reads\n\n"
    PAGE.write_text(title + head + "\n" + "\n".join([*lines, "", END]), encoding="utf-8")


if __name__ == "__main__":
    main()
