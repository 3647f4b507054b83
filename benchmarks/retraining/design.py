"""What is compared with what: methods, shares of compute, ablations; how settings are chosen."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np

from benchmarks.retraining import rivals
from benchmarks.retraining.jobs import Job, Settings
from benchmarks.retraining.runs import SCRATCH
from benchmarks.retraining.sources import HERE
from benchmarks.retraining.tasks import DEVELOPMENT
from undrift.train.settings import MethodName, TrainSettings

OURS, FULL = "bandit", "full"
SHARES = (0.05, 0.1, 0.25, 0.5)
HEADLINE = 0.25
METHODS = tuple(name for name in get_args(MethodName) if name != FULL)
RATES = (1e-3, 2e-3, 4e-3, 8e-3)
STRENGTHS = {
    rivals.PREFIX + "ewc": (1e2, 1e3, 1e4, 1e5),
    rivals.PREFIX + "mas": (0.1, 1.0, 10.0),
    rivals.PREFIX + "si": (1e2, 1e4, 1e6),
}
TUNED = HERE / "tuned.json"
DEVELOPMENT_SEEDS = (DEVELOPMENT, DEVELOPMENT + 1)
INGREDIENTS = ("samples", "weights", "synapse", "neuron")
_SWITCH = {"samples": "sample_selection", "weights": "block_selection"}
_STRENGTH = 0.02  # of an importance term that is off by default

Tuned = Mapping[str, Mapping[str, Mapping[str, float]]]


def compared(without_avalanche: bool) -> tuple[str, ...]:
    """Return the methods of the frontier, ours first."""
    others = tuple(name for name in METHODS if name != OURS)
    return (OURS, *others, *(() if without_avalanche else rivals.METHODS))


def read_tuned() -> Tuned:
    """Return the settings chosen on development seeds, by task and method."""
    tuned: Tuned = json.loads(TUNED.read_text(encoding="utf-8")) if TUNED.exists() else {}
    return tuned


def settings_for(tuned: Tuned, task: str, method: str) -> Settings:
    """Return what was chosen for a method; defaults for what was never tuned."""
    found = dict(tuned.get(task, {}).get(FULL if method == SCRATCH else method, {}))
    if method in rivals.METHODS and not found:
        found = first_guess(method, TrainSettings().learning_rate)
    return tuple(sorted(found.items()))


def first_guess(method: str, rate: float) -> dict[str, float]:
    """Return a learning rate and, where there is a penalty, the second of its strengths."""
    strengths = STRENGTHS.get(method)
    return {"learning_rate": rate} | ({"strength": strengths[1]} if strengths else {})


def frontier_jobs(
    task: str, methods: Iterable[str], seeds: int, tuned: Tuned, shares: Sequence[float] = SHARES
) -> list[Job]:
    """Return the runs of every method at every share, and of full retrains."""
    cells = [(method, share) for method in methods for share in shares]
    cells += [(FULL, 1.0), (SCRATCH, 1.0)]
    return [
        Job(task, method, share, seed, settings_for(tuned, task, method))
        for method, share in cells
        for seed in range(seeds)
    ]


def ablated(on: Sequence[bool]) -> dict[str, float | bool]:
    """Return the settings with some ingredients on and the others off.

    Args:
        on: One value for each of ``INGREDIENTS``.
    """
    defaults, found = TrainSettings(), dict[str, float | bool]()
    for name, wanted in zip(INGREDIENTS, on, strict=True):
        if name in _SWITCH:
            found[_SWITCH[name]] = wanted
            continue
        default: float = getattr(defaults, f"{name}_strength")
        found[f"{name}_strength"] = (default or _STRENGTH) if wanted else 0.0
    return found


def ablation_jobs(task: str, seeds: int, tuned: Tuned) -> dict[tuple[bool, ...], list[Job]]:
    """Return the runs of ours with every combination of ingredients, one a seed."""
    rate = dict(settings_for(tuned, task, OURS))
    return {
        on: [
            Job(task, OURS, HEADLINE, seed, tuple(sorted((rate | ablated(on)).items())))
            for seed in range(seeds)
        ]
        for on in product((False, True), repeat=len(INGREDIENTS))
    }


def rate_jobs(task: str, method: str) -> dict[float, list[Job]]:
    """Return the development runs of a method by learning rate."""
    share = 1.0 if method == FULL else HEADLINE
    found = {}
    for rate in RATES:
        values = {"learning_rate": rate}
        if method in rivals.METHODS:
            values = first_guess(method, rate)
        settings = tuple(sorted(values.items()))
        found[rate] = [Job(task, method, share, seed, settings) for seed in DEVELOPMENT_SEEDS]
    return found


def strength_jobs(task: str, method: str, rate: float) -> dict[float, list[Job]]:
    """Return the development runs of a rival by the strength of its penalty."""
    return {
        strength: [
            Job(task, method, HEADLINE, seed, (("learning_rate", rate), ("strength", strength)))
            for seed in DEVELOPMENT_SEEDS
        ]
        for strength in STRENGTHS.get(method, ())
    }


def best(runs: Mapping[float, Sequence[Job]], out: Path) -> float:
    """Return the setting whose runs have the best accuracy, as a mean of new and old rows."""
    means = {
        value: float(np.mean([job.read(out)["mean"] for job in jobs]))
        for value, jobs in runs.items()
    }
    return max(means, key=lambda value: means[value])


def write_tuned(chosen: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    """Keep what was chosen, beside the code; what is not in it stays as it was."""
    kept = {task: {**read_tuned().get(task, {}), **chosen.get(task, {})} for task in chosen}
    TUNED.write_text(
        json.dumps({**read_tuned(), **kept}, indent=1, sort_keys=True) + "\n", encoding="utf-8"
    )
