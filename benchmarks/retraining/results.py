"""The figures behind tables and plots, of whatever runs are there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.retraining.design import (
    DEVELOPMENT_TASKS,
    FULL,
    HEADLINE,
    OURS,
    SHARES,
    Tuned,
    lifelong_jobs,
    settings_for,
    stages,
)
from benchmarks.retraining.jobs import Job, Settings
from benchmarks.retraining.place import Place
from benchmarks.retraining.scoring import mean_ranks

Values = NDArray[np.float64]
Runs = dict[int, dict[str, Any]]  # by seed


@dataclass(frozen=True)
class Results:
    """Everything that was measured.

    Attributes:
        place: Where it is kept.
        tasks: Keys of ``TASKS``.
        methods: Methods of the frontier, ours first.
        seeds: Runs of each kind, at most.
        sequences: Keys of ``lifelong.SEQUENCES``.
        tuned: Settings of each method.
    """

    place: Place
    tasks: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: int
    sequences: tuple[str, ...]
    tuned: Tuned

    @property
    def reported(self) -> tuple[str, ...]:
        """The tasks on which nothing was chosen; all, if there is no other."""
        apart = tuple(task for task in self.tasks if task not in DEVELOPMENT_TASKS)
        return apart or self.tasks

    @property
    def planned(self) -> list[list[Job]]:
        """All runs, stage by stage."""
        return stages(self.tasks, self.methods, self.seeds, self.sequences, self.tuned)

    @property
    def made(self) -> str:
        """How many of all runs are there."""
        done = [job.is_done(self.place) for some in self.planned for job in some]
        return f"{sum(done):,} of {len(done):,} runs"

    def runs(self, task: str, method: str, share: float, settings: Settings | None = None) -> Runs:
        """Return the runs of one cell by seed."""
        if settings is None:
            settings = settings_for(self.tuned, method)
        key = task, method, share, settings
        if key not in self._kept:
            jobs = {seed: Job(task, method, share, seed, settings) for seed in range(self.seeds)}
            found = {seed: job.read(self.place) for seed, job in jobs.items()}
            self._kept[key] = {seed: run for seed, run in found.items() if run}
        return self._kept[key]

    def played(self, sequence: str, player: str) -> Runs:
        """Return the runs of a player on a sequence by seed."""
        jobs = [job for job in lifelong_jobs([sequence], self.seeds) if job.method == player]
        return {job.seed: run for job in jobs if (run := job.read(self.place))}

    def values(self, task: str, method: str, share: float, name: str) -> Values:
        """Return one figure of the runs of a cell."""
        return np.array([run[name] for run in self.runs(task, method, share).values()])

    def median(self, task: str, method: str, share: float, name: str) -> float:
        """Return the median of a figure over seeds; NaN without runs."""
        values = self.values(task, method, share, name)
        return float(np.median(values)) if len(values) else float("nan")

    def ratios(self, task: str, method: str, share: float, name: str) -> Values:
        """Return a figure over that of the full retrain of the same seed."""
        return _paired(self.runs(task, method, share), self.runs(task, FULL, 1.0), name, np.divide)

    def gains(self, task: str, method: str, share: float, name: str = "mean") -> Values:
        """Return a figure of ours at the headline share less that of another, seed by seed."""
        ours = self.runs(task, OURS, HEADLINE)
        return _paired(ours, self.runs(task, method, share), name, np.subtract)

    def parts(self, task: str, settings: Settings, name: str = "mean") -> Values:
        """Return a figure of ours less that of ours with other settings, seed by seed."""
        other = self.runs(task, OURS, HEADLINE, settings)
        return _paired(self.runs(task, OURS, HEADLINE), other, name, np.subtract)

    def ranks(self, shares: tuple[float, ...] = SHARES) -> tuple[dict[str, float], int]:
        """Return each method's mean rank over the cells in which all were run, and their number."""
        cells = [
            {method: self.median(task, method, share, "mean") for method in self.methods}
            for task in self.reported
            for share in shares
        ]
        whole = [cell for cell in cells if not np.isnan(list(cell.values())).any()]
        return (mean_ranks(whole) if whole else {}), len(whole)

    @cached_property
    def _kept(self) -> dict[tuple[str, str, float, Settings], Runs]:
        return {}


def _paired(one: Runs, other: Runs, name: str, operation: Any) -> Values:
    seeds = sorted(set(one) & set(other))
    values = [np.array([runs[seed][name] for seed in seeds]) for runs in (one, other)]
    return np.asarray(operation(*values))
