"""When to retrain: the product's whole loop beside clocks, a drift detector and an online head.

    python -m benchmarks.schedules --data-dir DIR [--seeds 3]

Every player starts with the same first model, trained on the first fifth of a file, answers the
same rows in order, gets the same labels as late, and pays the same time for a training: what is
trained goes live so many rows later. Accuracy is over the last three fifths of the file.

| player | |
|---|---|
| frozen | the first model, left as it was |
| clock W | the same network trained anew every 500 rows on the newest W labelled rows |
| ADWIN | River's detector on the errors; after an alarm, trained anew on the window it keeps |
| ridge | least squares on input and embedding of the first model, memory of 1,000 rows |
| worse | the loop with lifecycle.retrain_when = worse: retrain on every drift |
| better | retrain when a challenger shows that it pays; serve.answer = model |
| mixture | the loop as it is delivered: the same, and heads that follow the labels answer too |

Regret is the best clock in hindsight less the mixture, in points of accuracy. Settings were chosen
on Electricity, INSECTS, RT and STAGGER; the others are reported as they came. A result that is
there is kept until the code behind it changes.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import gzip
import hashlib
import itertools
import json
import lzma
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

import undrift.records
from undrift.model.heads import RidgeHeads
from undrift.monitor.challengers.inputs import Standard
from undrift.records import IntArray
from undrift.replay.loop import Pace, simulate
from undrift.replay.sources import first_model
from undrift.replay.training import Shelf, Trainer
from undrift.streams.project import predict, train_first
from undrift.streams.stream import Rows, Stream

ROWS_PER_S, TRAINING_S = 150.0, 1.5
DELAY = round(ROWS_PER_S * TRAINING_S)
EVERY, BLOCK = 500, 64
DEVELOPMENT = ("Electricity", "INSECTS gradual", "RT gradual", "STAGGER abrupt")


@dataclass(frozen=True)
class File:
    path: str
    label: str
    lag: int
    rows: int = 20_000


LOBO = "lobo_synthetic"
FILES = {
    "Electricity": File("elec2/elec.csv.gz", "class", 100),
    "INSECTS gradual": File("insects_gradual/gradual_balanced_24150.csv.xz", "-1", 500),
    "Luxembourg": File("luxembourg/LUdata.csv.gz", "-1", 50),
    "phishing": File("phishing/phishing.csv.xz", "-1", 200),
    "SEA abrupt": File(f"{LOBO}/sea_0123_abrupto_noise_0.2.csv.xz", "class", 200),
    "RT gradual": File(f"{LOBO}/rt_2563789698568873_gradual.csv.xz", "class", 200),
    "STAGGER abrupt": File(f"{LOBO}/stagger_0120_abrupto.csv.xz", "class", 200),
    "sine gradual": File(f"{LOBO}/sine_0123_gradual.csv.xz", "class", 200),
    "mixed abrupt": File(f"{LOBO}/mixed_0101_abrupto.csv.xz", "class", 200),
}


class Player:
    """What every player knows: the stream, which labels have come, and the price of a training."""

    def __init__(self, stream: Stream, shelf: Shelf, seed: int) -> None:
        self.stream, self.shelf, self.seed = stream, shelf, seed
        self.x = np.concatenate([stream.train.x, stream.live.x])
        self.y = np.concatenate([stream.train.y, stream.live.y])
        self.first = len(stream.train.y)
        self.lag = int(stream.label_at[0]) - 1
        self.trained = self.retrainings = 0

    def labelled(self, row: int) -> int:
        """Return how many rows of ``x`` have their label when live row ``row`` is answered."""
        return self.first + max(0, row - self.lag)

    def anew(self, stop: int, window: int) -> IntArray:
        """Train from the start on ``window`` rows before ``stop``; return all its answers."""
        start = max(0, stop - window)
        self.trained += stop - start
        self.retrainings += 1
        model = self.shelf.trainee.model
        torch.manual_seed(self.seed + self.retrainings)
        for layer in model.modules():
            if hasattr(layer, "reset_parameters"):
                layer.reset_parameters()
        train_first(model, Rows(self.x[start:stop], self.y[start:stop]), seed=self.seed)
        self.shelf._scored = None
        return predict(model, self.stream.live.x)


def frozen(p: Player) -> IntArray:
    p.shelf.trainee.load(p.shelf.weights(1))
    return predict(p.shelf.trainee.model, p.stream.live.x)


def clock(p: Player, window: int) -> IntArray:
    answers = frozen(p)
    for row in range(EVERY, len(answers), EVERY):
        answers[row + DELAY :] = p.anew(p.labelled(row), window)[row + DELAY :]
    return answers


def adwin(p: Player) -> IntArray:
    from river.drift import ADWIN

    answers, detector, told, busy = frozen(p), ADWIN(), 0, 0
    for row in range(len(answers)):
        for i in range(told, max(0, row - p.lag)):
            detector.update(float(answers[i] != p.stream.live.y[i]))
            if detector.drift_detected and row >= busy:
                window = max(300, int(detector.width))
                answers[row + DELAY :] = p.anew(p.labelled(row), window)[row + DELAY :]
                busy = row + DELAY
        told = max(0, row - p.lag)
    return answers


def ridge(p: Player) -> IntArray:
    p.shelf.trainee.load(p.shelf.weights(1))
    embedding = p.shelf.trainee.score(p.x)[1]
    parts = []
    for data in (embedding, p.x):
        standard = Standard()
        standard.fit(data[: p.first])
        parts.append(standard(data, np.arange(len(data))))
    known = np.hstack([np.ones((len(p.x), 1)), *parts])
    target = (p.y[:, None] == np.arange(p.stream.classes)) - 1.0 / p.stream.classes
    heads = RidgeHeads(known.shape[1], known.shape[1], p.stream.classes, (1000,))
    answers, learnt = frozen(p), 0
    for row in range(0, len(answers), BLOCK):
        while learnt + BLOCK <= p.labelled(row):
            heads.add(known[learnt : learnt + BLOCK], target[learnt : learnt + BLOCK])
            learnt += BLOCK
        scores = known[p.first + row : p.first + row + BLOCK] @ heads.weights
        answers[row : row + BLOCK] = scores[:, : p.stream.classes].argmax(axis=1)
    return answers


PLAYERS: dict[str, Callable[[Player], IntArray]] = {
    "frozen": frozen,
    "clock 500": lambda p: clock(p, 500),
    "clock 2000": lambda p: clock(p, 2000),
    "clock all": lambda p: clock(p, 10**9),
    "ADWIN": adwin,
    "ridge": ridge,
}
OURS = {
    "worse": ("lifecycle.retrain_when=worse", "serve.answer=model"),
    "better": ("lifecycle.retrain_when=better", "serve.answer=model"),
    "mixture": ("lifecycle.retrain_when=better", "serve.answer=mixture"),
}


def play(folder: Path, name: str, player: str, seed: int) -> dict[str, Any]:
    """Let one player play one file."""
    torch.set_num_threads(1)
    file, begun = FILES[name], time.perf_counter()
    changes = OURS.get(player, ())
    with tempfile.TemporaryDirectory() as scratch:
        head = first_rows(folder / file.path, Path(scratch), file.rows)
        stream, shelf, config = first_model(head, file.label, file.lag, seed, changes)
    if player in OURS:
        loop = simulate(
            stream,
            shelf,
            Trainer(shelf, config.train, config.monitor.min_reference_rows),
            monitor=config.monitor,
            lifecycle=config.lifecycle,
            train=config.train,
            pace=Pace(ROWS_PER_S, TRAINING_S),
            mixes=config.serve.mixes,
        )
        answers, retrainings, trained = loop.predicted, loop.retrainings, loop.rows_trained_on
    else:
        p = Player(stream, shelf, seed)
        answers = PLAYERS[player](p)
        retrainings, trained = p.retrainings, p.trained
    late = max(0, 2 * (stream.rows_before + len(stream)) // 5 - stream.rows_before)
    right = answers == stream.live.y
    return {
        "accuracy": float(right[late:].mean()),
        "retrainings": retrainings,
        "rows": trained,
        "seconds": time.perf_counter() - begun,
    }


def first_rows(path: Path, folder: Path, rows: int) -> Path:
    """Write the first rows of a compressed CSV file, names included, and return the new file."""
    opened = lzma.open if path.suffix == ".xz" else gzip.open
    head = folder / path.name.removesuffix(path.suffix)
    with opened(path, "rt") as lines, head.open("w") as out:
        out.writelines(itertools.islice(lines, rows + 1))
    return head


def digest(player: str) -> str:
    """Return a digest of the code behind a result."""
    root = Path(str(undrift.records.__file__)).parent
    parts = ("monitor", "control", "train", "replay", "streams", "model") if player in OURS else ()
    code = [sorted((root / part).rglob("*.py")) for part in parts]
    assert all(code), f"no code in {root}"
    files = [Path(__file__), *itertools.chain.from_iterable(code)]
    return hashlib.sha256(b"".join(p.read_bytes() for p in files)).hexdigest()[:16]


def kept(out: Path, job: tuple[str, str, int]) -> Path:
    name, player, seed = job
    return out / f"{name}-{player}-{seed}-{digest(player)}.json".replace(" ", "_")


def jobs(names: list[str], seeds: int) -> Iterator[tuple[str, str, int]]:
    for seed in range(seeds):
        for name in names:
            for player in (*PLAYERS, *OURS):
                yield name, player, seed


def page(out: Path, names: list[str], seeds: int) -> str:
    """Return the tables."""

    def cell(name: str, player: str, key: str) -> float:
        runs = [json.loads(kept(out, (name, player, s)).read_text())[key] for s in range(seeds)]
        return statistics.median(runs)

    players = [*PLAYERS, *OURS]
    head = f"| stream | {' | '.join(players)} | regret, points | rows of the best clock |\n"
    lines = [head, f"|---|{'---|' * (len(players) + 2)}\n"]
    for name in names:
        found = {p: cell(name, p, "accuracy") for p in players}
        best = max((p for p in players if p.startswith("clock")), key=lambda p: found[p])
        regret = 100 * (found[best] - found["mixture"])
        share = cell(name, "mixture", "rows") / max(cell(name, best, "rows"), 1)
        mark = " (development)" if name in DEVELOPMENT else ""
        cells = " | ".join(f"{found[p]:.3f}" for p in players)
        lines.append(f"| {name}{mark} | {cells} | {regret:+.1f} | {share:.0%} |\n")
    lines += [
        "\nRetrainings, and rows trained on:\n\n",
        f"| stream | {' | '.join(players[1:])} |\n",
    ]
    lines += [f"|---|{'---|' * (len(players) - 1)}\n"]
    for name in names:
        told = (
            f"{cell(name, p, 'retrainings'):.0f} ({cell(name, p, 'rows') / 1000:.0f}k)"
            for p in players[1:]
        )
        lines.append(f"| {name} | {' | '.join(told)} |\n")
    return "".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("build/schedules"))
    parser.add_argument("--table", type=Path, default=Path("docs/schedules.md"))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="", help="part of a stream's name; writes no page")
    options = parser.parse_args()
    names = [name for name in FILES if options.only.lower() in name.lower()]
    options.out.mkdir(parents=True, exist_ok=True)
    todo = [j for j in jobs(names, options.seeds) if not kept(options.out, j).exists()]
    print(f"{len(todo)} runs to do", flush=True)
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        pending = {pool.submit(play, options.data_dir, *job): job for job in todo}
        for count, future in enumerate(as_completed(pending), 1):
            job, result = pending[future], future.result()
            kept(options.out, job).write_text(json.dumps(result), encoding="utf-8")
            told = f"{result['accuracy']:.3f}, {result['retrainings']} retrainings"
            print(f"{count}/{len(todo)} {job}: {told}, {result['seconds']:.0f} s", flush=True)
    text = page(options.out, names, options.seeds)
    print(text)
    if not options.only:
        head = (__doc__ or "").partition("\n\n")[2]
        options.table.write_text(f"# When to retrain\n\n{head}\n{text}", encoding="utf-8")


if __name__ == "__main__":
    main()
