"""The figures behind tables and plots."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.retraining.design import (
    FULL,
    SHARES,
    Tuned,
    ablation_jobs,
    settings_for,
)
from benchmarks.retraining.jobs import Job
from benchmarks.retraining.scoring import mean_ranks

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Results:
    """Everything that was measured.

    Attributes:
        out: Folder of the results.
        tasks: Keys of ``TASKS``.
        methods: Methods of the frontier, ours first.
        seeds: Runs of each kind.
        tuned: Settings of each task and method.
        ablations: Whether the ingredients were switched on and off.
    """

    out: Path
    tasks: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: int
    tuned: Tuned
    ablations: bool

    def runs(self, task: str, method: str, share: float) -> list[dict[str, Any]]:
        """Return the runs of one cell, one a seed."""
        return self._kept.setdefault((task, method, share), self._read(task, method, share))

    def values(self, task: str, method: str, share: float, name: str) -> Values:
        """Return one figure of the runs of a cell."""
        return np.array([run[name] for run in self.runs(task, method, share)])

    def median(self, task: str, method: str, share: float, name: str) -> float:
        """Return the median of a figure over seeds."""
        return float(np.median(self.values(task, method, share, name)))

    def ratio(self, task: str, method: str, share: float, name: str) -> float:
        """Return the median, over seeds, of a figure over that of a full retrain."""
        whole = self.values(task, FULL, 1.0, name)
        return float(np.median(self.values(task, method, share, name) / whole))

    def ranks(self, shares: tuple[float, ...] = SHARES) -> dict[str, float]:
        """Return each method's mean rank over tasks and shares, by median accuracy."""
        cells = [
            {method: self.median(task, method, share, "mean") for method in self.methods}
            for task in self.tasks
            for share in shares
        ]
        return mean_ranks(cells)

    def ablation(self, task: str) -> dict[tuple[bool, ...], list[dict[str, Any]]]:
        """Return the runs with every combination of ingredients."""
        jobs = ablation_jobs(task, self.seeds, self.tuned)
        return {on: [job.read(self.out) for job in some] for on, some in jobs.items()}

    @cached_property
    def _kept(self) -> dict[tuple[str, str, float], list[dict[str, Any]]]:
        return {}

    def _read(self, task: str, method: str, share: float) -> list[dict[str, Any]]:
        settings = settings_for(self.tuned, task, method)
        jobs = [Job(task, method, share, seed, settings) for seed in range(self.seeds)]
        return [job.read(self.out) for job in jobs]
