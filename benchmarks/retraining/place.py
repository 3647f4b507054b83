"""Where a benchmark's rows come from and its results go, and tasks that a user brings."""

from __future__ import annotations

import runpy
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.retraining import record
from benchmarks.retraining.task import Task
from benchmarks.retraining.tasks import TASKS

# Raised by hand when rows, base models or figures change: everything is then made again.
VERSION = 3
OUT = Path("build/retraining")


@dataclass(frozen=True, slots=True)
class Place:
    """What every process of a benchmark must know.

    Attributes:
        data: Folder of the data sets.
        out: Folder of all that is kept.
        tasks: Python file with more tasks.
        large: Whether networks are the large ones, on a GPU where there is one.
        record: File of runs that were made before, elsewhere perhaps.
    """

    data: Path
    out: Path = OUT
    tasks: Path | None = None
    large: bool = False
    record: Path | None = None

    @property
    def kept(self) -> Path:
        """Folder of base models and results of this version and size."""
        return self.out / f"v{VERSION}{'-large' * self.large}"

    @property
    def recorded(self) -> record.Runs:
        """The runs of the record by the name of their result."""
        return record.recorded(self.record, VERSION) if self.record else {}

    @property
    def device(self) -> str:
        """Where networks are trained."""
        return "cuda" if self.large and torch.cuda.is_available() else "cpu"

    def add_tasks(self) -> list[str]:
        """Enter the file's tasks into ``TASKS``, and return their names; [] without a file.

        Raises:
            ValueError: The file defines no tasks, or one of a name that is taken.
        """
        if self.tasks is None:
            return []
        found = runpy.run_path(str(self.tasks)).get("TASKS")
        if not isinstance(found, dict) or not found:
            raise ValueError(f"{self.tasks} has no dict TASKS of names to Task")
        for name, task in found.items():
            if not isinstance(task, Task):
                raise ValueError(f"{self.tasks}: {name!r} is a {type(task).__name__}, no Task")
            if name in TASKS and name not in _ADDED:
                raise ValueError(f"{self.tasks}: there is a task called {name!r} already")
        TASKS.update(found)
        _ADDED.update(found)
        return list(found)


_ADDED: set[str] = set()
