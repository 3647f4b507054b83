"""Does the gate predict? What it saw of each candidate, and what the next 500 rows say.

    python -m benchmarks.gate --data-dir DIR [--seeds 2]

The product's loop offline over the streams of `benchmarks.schedules`. For every candidate, refused
or not: the gain in accuracy that the gate measured on held-out rows, and the gain on the 500 rows
that follow its verdict, candidate against the version that served, each alone. A row is a stream;
rho is the correlation of the two over its candidates, and the last line has all of them together.
What was refused may well have gained, alone: heads that follow the labels had gained it before.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from benchmarks.schedules import FILES, OURS, ROWS_PER_S, TRAINING_S, first_rows
from undrift.replay.loop import Pace, simulate
from undrift.replay.sources import first_model
from undrift.replay.training import Outcome, Shelf, Trainer
from undrift.streams.stream import Stream
from undrift.train.plan import RetrainPlan
from undrift.train.pool import Pool
from undrift.train.settings import TrainSettings

NEXT = 500
Gains = list[tuple[float, float, bool]]  # predicted, realised, accepted


class Watched(Trainer):
    """A trainer that notes what each candidate was said to gain, and what it would have gained."""

    def __init__(self, shelf: Shelf, settings: TrainSettings, rows: int, stream: Stream) -> None:
        super().__init__(shelf, settings, rows)
        self.stream = stream
        self.gains: Gains = []

    def __call__(self, pool: Pool, plan: RetrainPlan, later: Pool) -> Outcome:
        done = super().__call__(pool, plan, later)
        begin = int(later.newest_row[-1]) + 1
        live = self.stream.live
        x, y = live.x[begin : begin + NEXT], live.y[begin : begin + NEXT]
        if len(y) == NEXT:
            old, new = (self._right(v, x, y) for v in (plan.base_version, done.version))
            seen = self.figures["validation_accuracy_new"] - self.figures["validation_accuracy_old"]
            self.gains.append((seen, new - old, done.accepted))
        return done

    def _right(self, version: int, x: np.ndarray, y: np.ndarray) -> float:
        self.shelf.trainee.load(self.shelf.weights(version))
        return float((self.shelf.trainee.score(x)[0].argmax(axis=1) == y).mean())


def play(folder: Path, name: str, seed: int) -> Gains:
    """Play one file with a mixture."""
    torch.set_num_threads(1)
    file = FILES[name]
    with TemporaryDirectory() as scratch:
        head = first_rows(folder / file.path, Path(scratch), file.rows)
        stream, shelf, config = first_model(head, file.label, file.lag, seed, OURS["mixture"])
    trainer = Watched(shelf, config.train, config.monitor.min_reference_rows, stream)
    simulate(
        stream,
        shelf,
        trainer,
        monitor=config.monitor,
        lifecycle=config.lifecycle,
        train=config.train,
        pace=Pace(ROWS_PER_S, TRAINING_S),
        mixes=True,
    )
    return trainer.gains


def line(name: str, gains: Gains) -> str:
    """Return one row of the table."""
    predicted, realised, taken = np.array(gains, dtype=float).T if gains else np.zeros((3, 0))
    enough = len(gains) > 2 and predicted.std() > 0 and realised.std() > 0
    rho = f"{np.corrcoef(predicted, realised)[0, 1]:.2f}" if enough else ""

    def median(values: np.ndarray) -> str:
        return f"{100 * np.median(values):+.1f}" if len(values) else ""

    kept = taken > 0
    cells = (len(gains), int(kept.sum()), rho, median(predicted[kept]), median(realised[kept]))
    return f"| {name} | {' | '.join(map(str, cells))} | {median(realised[~kept])} |\n"


def table(found: Iterable[tuple[str, Gains]]) -> str:
    """Return the table."""
    found = list(found)
    head = (
        "| stream | candidates | accepted | rho | accepted: points seen by the gate | "
        "points after it | refused: points after it |\n|---|---|---|---|---|---|---|\n"
    )
    everything = [gain for _, gains in found for gain in gains]
    return head + "".join(line(*one) for one in found) + line("all", everything)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("build/gate"))
    parser.add_argument("--table", type=Path, default=Path("docs/gate.md"))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    jobs = [(name, seed) for seed in range(options.seeds) for name in FILES]
    kept = {job: options.out / f"{job[0]}-{job[1]}.json".replace(" ", "_") for job in jobs}
    todo = [job for job in jobs if not kept[job].exists()]
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        pending = {pool.submit(play, options.data_dir, *job): job for job in todo}
        for count, future in enumerate(as_completed(pending), 1):
            job = pending[future]
            kept[job].write_text(json.dumps(future.result()), encoding="utf-8")
            print(f"{count}/{len(todo)} {job}: {len(future.result())} candidates", flush=True)
    found: dict[str, Gains] = {name: [] for name in FILES}
    for (name, _), path in kept.items():
        found[name] += [tuple(gain) for gain in json.loads(path.read_text(encoding="utf-8"))]
    text = table(found.items())
    print(text)
    head = (__doc__ or "").partition("\n\n")[2]
    options.table.write_text(f"# Does the gate predict?\n\n{head}\n{text}", encoding="utf-8")


if __name__ == "__main__":
    main()
