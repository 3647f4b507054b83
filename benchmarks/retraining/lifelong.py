"""Ten tasks in a row through the product's own loop, beside a full retraining at every task.

Monitor, lifecycle, pool, gate, choice of a start and probation are those of `undrift replay`; what
a retraining may spend is a share of ten passes over its pool.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from benchmarks.detection.data import rotated
from benchmarks.retraining import nets
from benchmarks.retraining.base import fit
from benchmarks.retraining.data import digits
from benchmarks.retraining.place import Place
from benchmarks.retraining.task import Deck, Rows, Source
from undrift.control.settings import LifecycleSettings
from undrift.monitor.settings import MonitorSettings
from undrift.records import FloatArray, IntArray
from undrift.replay.loop import Pace, simulate
from undrift.replay.training import Outcome, Shelf, Trainer
from undrift.streams.project import quick_sections
from undrift.streams.stream import Rows as LiveRows
from undrift.streams.stream import Stream, fixed_lag
from undrift.train.blocks import Blocks
from undrift.train.plan import RetrainPlan
from undrift.train.pool import Pool, held_out
from undrift.train.settings import TrainSettings

TASKS, ROWS, TEST = 10, 1_000, 500
LAG = 50  # rows between an answer and its label
EPOCHS = 10  # of a full retraining
BASE, BASE_EPOCHS, REFERENCE = 3_000, 8, 500
THIRD = 1 / 3
# Players of the loop, and what each retraining may spend of a full one.
LOOP = {"bandit": THIRD, "full": 1.0, "finetune": THIRD}
ANEW, FROZEN = "anew", "frozen"

Part = tuple[Rows, Rows]  # one task: live rows, and test rows


def _turned(angles: Sequence[float]) -> Callable[[Deck, Deck], list[Part]]:
    def build(train: Deck, test: Deck) -> list[Part]:
        def turned(rows: Rows, angle: float) -> Rows:
            return Rows(rotated(rows.x, np.full(len(rows), angle)), rows.y)

        return [(turned(train.deal(ROWS), a), turned(test.deal(TEST), a)) for a in angles]

    return build


def _pairs(train: Deck, test: Deck) -> list[Part]:
    pairs = [(2 * (k % 5), 2 * (k % 5) + 1) for k in range(TASKS)]
    tests = [test.deal(TEST, pair) for pair in pairs[:5]]
    return [(train.deal(ROWS, pair), tests[k % 5]) for k, pair in enumerate(pairs)]


# The first task of each is the world of the first model.
SEQUENCES: dict[str, Callable[[Deck, Deck], list[Part]]] = {
    "lifelong-turned": _turned([15.0 * k for k in range(TASKS)]),
    "lifelong-pairs": _pairs,
    "lifelong-recurring": _turned([60.0 * (k % 3) for k in range(TASKS)]),
}
TITLES = {
    "lifelong-turned": "MNIST, turned by 15 degrees more each time",
    "lifelong-pairs": "MNIST, five pairs of classes, twice",
    "lifelong-recurring": "MNIST, turned by 0, 60 and 120 degrees, over and over",
}


class Watched(Shelf):
    """A shelf that knows which version answers.

    Attributes:
        live: That version.
    """

    live, _start = 1, -1

    def answers(
        self, version: int, x: FloatArray, start: int, stop: int
    ) -> tuple[FloatArray, FloatArray]:
        """Return answers; of several for the same rows, the first is given."""
        if start != self._start:
            self._start, self.live = start, version
        return super().answers(version, x, start, stop)


class Budgeted(Trainer):
    """A trainer that gives each retraining a share of ten passes over its pool.

    Attributes:
        flops: Operations that were given.
        cpu_s: CPU time of all retrainings.
        accepted: Candidates that the gate took.
    """

    def __init__(self, shelf: Shelf, settings: TrainSettings, reference: int, share: float) -> None:
        super().__init__(shelf, settings, reference)
        self.share, self.flops, self.cpu_s, self.accepted = share, 0.0, 0.0, 0

    def __call__(self, pool: Pool, plan: RetrainPlan, later: Pool) -> Outcome:
        rows = int((~held_out(pool)).sum())
        given = self.share * EPOCHS * rows * row_flops(self.shelf.trainee.model, pool.x)
        self.flops += given
        begun = time.process_time()
        try:
            done = super().__call__(pool, replace(plan, budget=f"{given:.0f}FLOP"), later)
        finally:
            self.cpu_s += time.process_time() - begun
        self.accepted += done.accepted
        return done


def row_flops(model: torch.nn.Module, x: FloatArray) -> float:
    """Return the operations of a training step, per row."""
    return Blocks(model, torch.as_tensor(x[:2])).step_flops(0)


def play(name: str, player: str, share: float, seed: int, place: Place) -> dict[str, Any]:
    """Play a sequence.

    Args:
        name: A key of ``SEQUENCES``.
        player: A key of ``LOOP``: the loop with that method; ``anew``: trained on everything so
            far at the end of every task; ``frozen``.
        share: What a retraining may spend of ten passes over its pool.
        seed: Of rows, first model and retrainings.
        place: Where the data are.

    Returns:
        ``accuracy`` (row: task, column: accuracy on each task so far), ``flops`` and ``cpu_s`` of
        retraining up to the end of each task, ``retrainings``, ``accepted``.
    """
    torch.set_num_threads(1)
    source = Source(place.data, place.out, name, seed)
    train = Deck(digits(place.data, "mnist", "train"), source)
    test = Deck(digits(place.data, "mnist", "t10k"), source)
    classes = (0, 1) if name == "lifelong-pairs" else range(10)
    base, reference = train.deal(BASE, classes), train.deal(REFERENCE, classes)
    parts = SEQUENCES[name](train, test)
    torch.manual_seed(seed)
    model = nets.digits_mlp()
    fit(model, base, BASE_EPOCHS, seed)
    if player in LOOP:
        return looped(model, reference, parts, player, share, seed)
    return anew(model, reference, parts, player == ANEW, seed)


def looped(
    model: torch.nn.Module,
    reference: Rows,
    parts: Sequence[Part],
    method: str,
    share: float,
    seed: int,
) -> dict[str, Any]:
    """Play tasks through the loop, with one method of retraining."""
    live = _joined([rows for rows, _ in parts])
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    shelf = Watched(model, weights, reference.x, reference.y)
    demo = quick_sections(1)
    monitor = MonitorSettings(**demo["monitor"])
    train = TrainSettings(method=method)  # type: ignore[arg-type]
    trainer = Budgeted(shelf, train, monitor.min_reference_rows, share)
    story = _Story()

    def look(sent: int) -> None:
        if sent < ROWS * (len(story.accuracy) + 1):
            return
        shelf.trainee.load(shelf.weights(shelf.live))
        tests = [rows for _, rows in parts[: len(story.accuracy) + 1]]
        found = [_right(shelf.trainee.score(rows.x)[0].argmax(axis=1), rows) for rows in tests]
        story.add(found, trainer.flops, trainer.cpu_s)

    stream = _stream(reference, live)
    done = simulate(
        stream,
        shelf,
        trainer,
        monitor=monitor,
        lifecycle=LifecycleSettings(**demo["lifecycle"]),
        train=train,
        pace=Pace(),
        progress=look,
    )
    return story.plain(done.retrainings, trainer.accepted) | {"method": method, "seed": seed}


def anew(
    model: torch.nn.Module, reference: Rows, parts: Sequence[Part], trains: bool, seed: int
) -> dict[str, Any]:
    """Train on everything so far when a task is over, from the weights that there are."""
    story, flops, cpu_s = _Story(), 0.0, 0.0
    for number in range(len(parts)):
        if trains and number:
            rows = _joined([reference, *(some for some, _ in parts[: number + 1])])
            flops += EPOCHS * len(rows) * row_flops(model, rows.x)
            begun = time.process_time()
            fit(model, rows, EPOCHS, seed + number)
            cpu_s += time.process_time() - begun
        with torch.inference_mode():
            tests = [rows for _, rows in parts[: number + 1]]
            found = [
                _right(model(torch.from_numpy(rows.x)).argmax(dim=1).numpy(), rows)
                for rows in tests
            ]
        story.add(found, flops, cpu_s)
    retrainings = (len(parts) - 1) * trains
    return story.plain(retrainings, retrainings) | {"method": ANEW, "seed": seed}


class _Story:
    """What was known, and spent, at the end of each task."""

    def __init__(self) -> None:
        self.accuracy: list[list[float]] = []
        self._flops: list[float] = []
        self._cpu_s: list[float] = []

    def add(self, accuracy: list[float], flops: float, cpu_s: float) -> None:
        self.accuracy.append(accuracy)
        self._flops.append(flops)
        self._cpu_s.append(cpu_s)

    def plain(self, retrainings: int, accepted: int) -> dict[str, Any]:
        return {
            "accuracy": self.accuracy, "flops": self._flops, "cpu_s": self._cpu_s,
            "retrainings": retrainings, "accepted": accepted,
        }  # fmt: skip


def _right(said: IntArray, rows: Rows) -> float:
    return float((said == rows.y).mean())


def _joined(parts: Sequence[Rows]) -> Rows:
    return Rows(np.concatenate([p.x for p in parts]), np.concatenate([p.y for p in parts]))


def _stream(reference: Rows, live: Rows) -> Stream:
    held = LiveRows(reference.x, reference.y)
    return Stream(
        name="lifelong",
        title="lifelong",
        task="",
        input_shape=live.x.shape[1:],
        class_names=tuple(map(str, range(10))),
        train=held,
        reference=held,
        live=LiveRows(live.x, live.y),
        label_at=fixed_lag(live.y, LAG),
    )
