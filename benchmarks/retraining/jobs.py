"""The runs to make. Each gives one JSON file, and is made again only when its code changes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.retraining import rivals
from benchmarks.retraining.runs import run_one
from benchmarks.retraining.sources import source_digest

Settings = tuple[tuple[str, float | bool], ...]


@dataclass(frozen=True, slots=True)
class Job:
    """One run.

    Attributes:
        task: A key of ``TASKS``.
        method: A method of the product, ``scratch``, or one of ``rivals.METHODS``.
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

    def path(self, out: Path) -> Path:
        """Return where its result is kept."""
        parts = [self.method, f"{self.share:g}", str(self.seed)]
        if self.settings:
            parts.append(hashlib.sha256(repr(self.settings).encode()).hexdigest()[:8])
        return out / "runs" / self.task / ("_".join(parts).replace(" ", "-") + ".json")

    def made_by(self) -> str:
        """Return a digest of what its result depends on."""
        text = repr(asdict(self)) + source_digest("rival" if self.is_rival else "product")
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def is_done(self, out: Path) -> bool:
        """Tell whether its result is there and was made by the present code."""
        path = self.path(out)
        if not path.exists():
            return False
        return bool(json.loads(path.read_text(encoding="utf-8"))["made_by"] == self.made_by())

    def read(self, out: Path) -> dict[str, Any]:
        """Return its result."""
        kept = json.loads(self.path(out).read_text(encoding="utf-8"))
        result: dict[str, Any] = kept["result"]
        return result

    def keep(self, result: dict[str, Any], out: Path) -> None:
        """Keep its result."""
        path = self.path(out)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        kept = {"made_by": self.made_by(), "result": result}
        partial.write_text(json.dumps(kept), encoding="utf-8")
        partial.replace(path)


def units(jobs: Iterable[Job]) -> list[list[Job]]:
    """Return jobs in groups that share their rows, base model and interpreter."""

    def key(job: Job) -> tuple[int, str, bool]:
        return job.seed, job.task, job.is_rival

    return [list(group) for _, group in groupby(sorted(jobs, key=key), key=key)]


def execute(unit: Sequence[Job], data_dir: Path, out: Path) -> int:
    """Make those runs of a unit that are due, keep the results, and return their number."""
    due = [job for job in unit if not job.is_done(out)]
    if due and due[0].is_rival:
        asked = [
            {"method": job.method, "share": job.share, "settings": dict(job.settings)}
            for job in due
        ]
        results = rivals.run(due[0].task, due[0].seed, asked, data_dir, out)
        for job in due:
            job.keep(next(r for r in results if _answers(r, job)), out)
        return len(due)
    for job in due:
        settings = dict(job.settings)
        result = run_one(
            job.task, job.method, job.share, job.seed, settings, data_dir=data_dir, out=out
        )
        job.keep(result, out)
    return len(due)


def _answers(result: dict[str, Any], job: Job) -> bool:
    same = result["method"] == job.method and result["share"] == job.share
    return same and result["settings"] == dict(job.settings)
