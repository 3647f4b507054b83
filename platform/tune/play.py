"""One play: a history under one setting of the configuration, counted before and after the split.

A play is the same whenever and wherever it is played, but for the seconds of training; so it is
kept on disk under a name made of all that it depends on, and a search that was stopped goes on.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from undrift.config import Config, load_config
from undrift.errors import UndriftError
from undrift.records import IntArray
from undrift.replay.loop import simulate
from undrift.replay.timeline import Entry
from undrift.replay.training import Outcome, Shelf, Trainer
from undrift.store.files import write_file
from undrift.train.plan import RetrainPlan
from undrift.train.pool import Pool
from undrift.train.settings import TrainSettings
from undrift.tune.history import History
from undrift.tune.space import SECTIONS

_BLOCK = 4096  # rows scored at once


@dataclass(frozen=True, slots=True)
class Tally:
    """What happened in one part of a history.

    Attributes:
        labelled: Rows that count.
        right: Those answered as their label says.
        warnings: Rises to warning.
        drifts: Rises to drift.
        retrainings: Retrainings begun.
        promotions: New versions that went live.
        rollbacks: New versions that were taken back.
        training_s: Wall time of the retrainings.
    """

    labelled: int
    right: int
    warnings: int = 0
    drifts: int = 0
    retrainings: int = 0
    promotions: int = 0
    rollbacks: int = 0
    training_s: float = 0.0

    @property
    def accuracy(self) -> float:
        """Share of rows answered right, each by the version that was live then."""
        return self.right / self.labelled

    def score(self, price: float) -> float:
        """Return the accuracy, less ``price`` right answers for each second of training."""
        return (self.right - price * self.training_s) / self.labelled


@dataclass(frozen=True, slots=True)
class Play:
    """What came of one play.

    Attributes:
        search: The part before the split.
        held_out: The part after it, None if it was not played.
        error: Why there is nothing else.
    """

    search: Tally | None = None
    held_out: Tally | None = None
    error: str = ""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return what `dataclasses.asdict` made a dictionary of."""
        search, held_out = (part and Tally(**part) for part in (data["search"], data["held_out"]))
        return cls(search, held_out, data["error"])


class _Paid(Trainer):
    """Retrains under a seed, and writes down when and for how long."""

    def __init__(self, shelf: Shelf, settings: TrainSettings, rows: int, seed: int) -> None:
        super().__init__(shelf, settings, rows)
        self.seed = seed
        self.bills: list[tuple[int, float]] = []

    def __call__(self, pool: Pool, plan: RetrainPlan, later: Pool) -> Outcome:
        before = self.seconds
        try:
            return super().__call__(pool, replace(plan, seed=plan.seed + self.seed), later)
        finally:
            self.bills.append((plan.until_row, self.seconds - before))


@dataclass(frozen=True, slots=True)
class Take:
    """What to play a history with.

    Attributes:
        settings: What to set in the configuration, by ``section.key``.
        seed: Changes the seeds of trainings and signals; 0 leaves them as in `undrift replay`.
        whole: Whether to play on after the split.
    """

    settings: Mapping[str, str]
    seed: int = 0
    whole: bool = False

    def configured(self, path: Path) -> Config:
        """Return the configuration with these settings."""
        return load_config(path, [f"{key}={value}" for key, value in self.settings.items()])


def play(history: History, take: Take, progress: Callable[[int], None] | None = None) -> Play:
    """Play a history; settings that cannot be played come back as an error.

    Args:
        history: What to play.
        take: What to play it with.
        progress: Called with the rows played.
    """
    try:
        return _played(history, take, take.configured(history.config), progress)
    except UndriftError as error:
        return Play(error=str(error))


def _played(
    history: History, take: Take, config: Config, progress: Callable[[int], None] | None
) -> Play:
    torch.set_num_threads(1)  # one process a core
    # The first optimizer in a process imports for seconds, which are no price of any setting.
    torch.optim.AdamW([torch.zeros(1)])
    stream, monitor = (history.stream if take.whole else history.searched()), config.monitor
    shelf = history.shelf(config)
    trainer = _Paid(shelf, config.train, monitor.min_reference_rows, take.seed)
    found = simulate(
        stream,
        shelf,
        trainer,
        monitor=monitor.model_copy(update={"seed": monitor.seed + take.seed}),
        lifecycle=config.lifecycle.model_copy(update={"mode": "auto"}),
        train=config.train,
        pace=history.pace,
        mixes=config.serve.mixes,
        progress=progress,
    )
    right = np.zeros(len(history.stream), dtype=np.bool_)
    right[: len(stream)] = found.predicted == stream.live.y
    entries, bills = found.timeline.entries, trainer.bills
    held_out = _tally(history, right, entries, bills, held_out=True) if take.whole else None
    return Play(_tally(history, right, entries, bills, held_out=False), held_out)


def _tally(
    history: History,
    right: NDArray[np.bool_],
    entries: tuple[Entry, ...],
    bills: list[tuple[int, float]],
    *,
    held_out: bool,
) -> Tally:
    known = history.known(held_out=held_out)
    count = Counter(entry.kind for entry in entries if (entry.row > history.split) == held_out)
    paid = [seconds for row, seconds in bills if (row > history.split) == held_out]
    return Tally(
        labelled=int(known.sum()),
        right=int((right & known).sum()),
        warnings=count["warning"],
        drifts=count["drift"],
        retrainings=len(paid),
        promotions=count["promoted"],
        rollbacks=count["rolled_back"],
        training_s=sum(paid),
    )


def frozen_tally(history: History) -> Tally:
    """Return the held-out part as the first version would have answered it."""
    x, y = history.stream.live.x, history.stream.live.y
    shelf = history.shelf(load_config(history.config))
    starts = range(history.split, len(x), _BLOCK)
    parts: list[IntArray] = [
        shelf.answers(1, x, a, min(a + _BLOCK, len(x)))[0].argmax(axis=1) for a in starts
    ]
    known = history.known(held_out=True)[history.split :]
    right = (np.concatenate(parts) == y[history.split :]) & known
    return Tally(int(known.sum()), int(right.sum()))


class Memory:
    """Plays on disk, one file each; what was played to its end is not played again.

    Args:
        folder: Where they are; made if missing.
        history: What is played.
    """

    def __init__(self, folder: Path, history: History) -> None:
        self.folder, self.history = folder, history
        self._digest = history.digest()
        folder.mkdir(parents=True, exist_ok=True)

    def play(self, take: Take, progress: Callable[[int], None] | None = None) -> Play:
        """Return what is remembered, or play it."""
        try:
            path = self._path(take)
        except UndriftError as error:
            return Play(error=str(error))
        if path.exists():
            return Play.from_dict(json.loads(path.read_bytes())["play"])
        found = play(self.history, take, progress)
        told = {"settings": dict(take.settings), "seed": take.seed, "play": asdict(found)}
        write_file(path, json.dumps(told, indent=2).encode())
        return found

    def _path(self, take: Take) -> Path:
        config = take.configured(self.history.config)
        parts = [getattr(config, name).model_dump_json() for name in SECTIONS]
        known = [self._digest, installed_version("undrift"), parts, take.seed, take.whole]
        return self.folder / f"{hashlib.sha256(json.dumps(known).encode()).hexdigest()[:24]}.json"
