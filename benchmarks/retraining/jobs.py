"""The runs to make. Each gives one JSON file, and is not made again while that is there."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from benchmarks.retraining import lifelong, rivals
from benchmarks.retraining.place import Place
from benchmarks.retraining.runs import run_one

Settings = tuple[tuple[str, float | bool], ...]


@dataclass(frozen=True, slots=True)
class Job:
    """One run.

    Attributes:
        task: A key of ``TASKS``, or one of ``lifelong.SEQUENCES``.
        method: A method of the product, ``scratch``, one of ``rivals.METHODS``, or a player.
        share: Share of a full retrain's operations.
        seed: Of rows, base model and retraining.
        settings: What differs from the product's defaults; for rivals, all that can be set.
    """

    task: str
    method: str
    share: float
    seed: int
    settings: Settings = ()

    @property
    def is_rival(self) -> bool:
        """Whether it runs in the rival's environment."""
        return self.method.startswith(rivals.PREFIX)

    def name(self) -> str:
        """Return the name of the file of its result, below the folder of results."""
        parts = [self.method, f"{self.share:g}", str(self.seed)]
        if self.settings:
            parts.append(hashlib.sha256(repr(self.settings).encode()).hexdigest()[:8])
        return f"{self.task}/{'_'.join(parts)}.json".replace(" ", "-")

    def is_done(self, place: Place) -> bool:
        """Tell whether its result is there."""
        return (place.kept / "runs" / self.name()).exists() or self.name() in place.recorded

    def read(self, place: Place) -> dict[str, Any] | None:
        """Return its result; None if it was not made."""
        path = place.kept / "runs" / self.name()
        if not path.exists():
            return place.recorded.get(self.name())
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return result

    def keep(self, result: dict[str, Any], place: Place) -> None:
        """Keep its result."""
        path = place.kept / "runs" / self.name()
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps(result), encoding="utf-8")
        partial.replace(path)


def units(jobs: Iterable[Job]) -> list[list[Job]]:
    """Return jobs in groups that share their rows, base model and interpreter, seed by seed."""
    jobs = list(jobs)
    tasks = list(dict.fromkeys(job.task for job in jobs))

    def key(job: Job) -> tuple[int, int, bool]:
        return job.seed, tasks.index(job.task), job.is_rival

    return [list(group) for _, group in groupby(sorted(jobs, key=key), key=key)]


def execute(unit: Sequence[Job], place: Place) -> int:
    """Make those runs of a unit that are due, keep the results, and return their number."""
    place.add_tasks()
    due = [job for job in unit if not job.is_done(place)]
    if due and due[0].is_rival:
        asked = [
            {"method": job.method, "share": job.share, "settings": dict(job.settings)}
            for job in due
        ]
        results = rivals.run(due[0].task, due[0].seed, asked, place)
        for job in due:
            job.keep(next(r for r in results if _answers(r, job)), place)
        return len(due)
    for job in due:
        job.keep(_made(job, place), place)
    return len(due)


def _made(job: Job, place: Place) -> dict[str, Any]:
    if job.task in lifelong.SEQUENCES:
        return lifelong.play(job.task, job.method, job.share, job.seed, place)
    settings = dict(job.settings)
    return run_one(job.task, job.method, job.share, job.seed, settings, place=place)


def _answers(result: dict[str, Any], job: Job) -> bool:
    same = result["method"] == job.method and result["share"] == job.share
    return same and result["settings"] == dict(job.settings)
