"""What is compared with what: methods, shares of compute, ablations; how settings are chosen."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.retraining import lifelong, rivals
from benchmarks.retraining.jobs import Job, Settings
from benchmarks.retraining.place import Place
from benchmarks.retraining.runs import SCRATCH
from benchmarks.retraining.task import DEVELOPMENT
from undrift.train.settings import TrainSettings

OURS, FULL = "bandit", "full"
HEADLINE = 0.25
OTHER_SHARES = (0.1, 0.5, 0.05)  # in order of importance
SHARES = tuple(sorted((HEADLINE, *OTHER_SHARES)))
# Elastic and aware weights are Avalanche's here; the product has its own of both.
METHODS = (
    OURS, "finetune", "random", "last_layer", "replay", "der++", "rho_loss", "gradmatch",
)  # fmt: skip
DEVELOPMENT_TASKS = ("mnist-classes", "electricity")
DEVELOPMENT_SEEDS = (DEVELOPMENT,)
BATCHES = (64, 32, 16)  # the product's own first
# Of Avalanche's penalties: for MAS its default; EWC has none.
STRENGTHS = {rivals.PREFIX + "ewc": 1e3, rivals.PREFIX + "mas": 1.0}
TUNED = Path(__file__).parent / "tuned.json"
_STRENGTH = 0.02  # of an importance term that is off by default

Tuned = Mapping[str, int]


def compared(without_avalanche: bool) -> tuple[str, ...]:
    """Return the methods of the frontier, ours first."""
    return (*METHODS, *(() if without_avalanche else rivals.METHODS))


def read_tuned() -> Tuned:
    """Return the batch sizes chosen on development tasks, by method."""
    tuned: Tuned = json.loads(TUNED.read_text(encoding="utf-8")) if TUNED.exists() else {}
    return tuned


def settings_for(tuned: Tuned, method: str) -> Settings:
    """Return the settings of a method: ours and a full retrain run as they are shipped."""
    if method in (OURS, FULL, SCRATCH):
        return ()
    found: dict[str, float] = {"batch_size": tuned.get(method, BATCHES[0])}
    if method in rivals.METHODS:
        found["learning_rate"] = TrainSettings().learning_rate
    if method in STRENGTHS:
        found["strength"] = STRENGTHS[method]
    return tuple(sorted(found.items()))


def stages(
    tasks: Sequence[str],
    methods: Sequence[str],
    seeds: int,
    sequences: Iterable[str],
    tuned: Tuned,
) -> list[list[Job]]:
    """Return all runs, the most telling first: the headline, the sequences, other shares."""
    first = [(method, HEADLINE) for method in methods] + [(FULL, 1.0), (SCRATCH, 1.0)]
    headline = jobs(tasks, first, range(seeds), tuned)
    headline += [
        Job(task, OURS, HEADLINE, seed, settings)
        for task in tasks
        for settings in toggled().values()
        for seed in range(seeds)
    ]
    other = [
        jobs(tasks, [(method, share) for method in methods], range(seeds), tuned)
        for share in OTHER_SHARES
    ]
    return [headline, lifelong_jobs(sequences, seeds), *other]


def jobs(
    tasks: Iterable[str], cells: Sequence[tuple[str, float]], seeds: Iterable[int], tuned: Tuned
) -> list[Job]:
    """Return the runs of methods at shares."""
    return [
        Job(task, method, share, seed, settings_for(tuned, method))
        for task in tasks
        for method, share in cells
        for seed in seeds
    ]


def lifelong_jobs(sequences: Iterable[str], seeds: int) -> list[Job]:
    """Return the runs of every player on some sequences."""
    players = {lifelong.FROZEN: 1.0, lifelong.ANEW: 1.0, **lifelong.LOOP}
    return [
        Job(name, player, share, seed)
        for name in sequences
        for player, share in players.items()
        for seed in range(seeds)
    ]


def toggled() -> dict[str, Settings]:
    """Return settings in which one part of ours is off, or on if it is off by default."""
    defaults = TrainSettings()
    switches = {"samples": "sample_selection", "blocks": "block_selection"}
    found: dict[str, Settings] = {}
    for part, switch in switches.items():
        on = getattr(defaults, switch)
        found[f"{'without' if on else 'with'} {part}"] = ((switch, not on),)
    for part in ("synapse", "neuron"):
        name = f"{part}_strength"
        on = getattr(defaults, name) > 0
        value = 0.0 if on else _STRENGTH
        found[f"{'without' if on else 'with'} {part}"] = ((name, value),)
    return found


def trials(method: str) -> dict[int, list[Job]]:
    """Return the development runs of a rival by batch size."""
    return {
        size: jobs(DEVELOPMENT_TASKS, [(method, HEADLINE)], DEVELOPMENT_SEEDS, {method: size})
        for size in BATCHES
    }


def best(runs: Mapping[int, Sequence[Job]], place: Place) -> int:
    """Return the batch size whose runs have the best accuracy, as a mean of new and old rows."""

    def mean(some: Sequence[Job]) -> float:
        return float(np.mean([found["mean"] for job in some if (found := job.read(place))]))

    return max(runs, key=lambda size: mean(runs[size]))


def write_tuned(chosen: Tuned) -> None:
    """Keep what was chosen, beside the code; what is not in it stays as it was."""
    text = json.dumps({**read_tuned(), **chosen}, indent=1, sort_keys=True)
    TUNED.write_text(text + "\n", encoding="utf-8")
