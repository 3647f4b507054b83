"""What a retraining keeps until it has ended, so that an interrupted one goes on where it was."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pickle import UnpicklingError
from typing import Any

from undrift.errors import StoreError
from undrift.store.files import explained
from undrift.store.place import Place, Where, place, read_json

TRAINING = "training"
PLAN = "plan.json"
JOB, PROGRESS, OUTCOME = "job.json", "progress.json", "outcome.json"
"""What a run that another cluster trains has beside its plan."""
JOBS = "undrift-"
"""How the names of its jobs begin, and of what Ray Train keeps for them."""
_EVERY_S = 1.0
_DEAR = 20.0  # a checkpoint is written after this many times the time that the last one took


class TrainingFolder:
    """The folder of one retraining: its plan, and a checkpoint for each time that it trains.

    Args:
        state: State directory.
        run_id: Run that it belongs to.
    """

    def __init__(self, state: Where, run_id: str) -> None:
        self._path = place(state) / TRAINING / run_id

    def plan(self, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the plan that the run was begun with; if it is new, make it and keep it.

        Raises:
            StoreError: The disk refuses, or the file is damaged.
        """
        path = self._path / PLAN
        if path.exists():
            return read_json(path)
        plan = make()
        with explained("write", path):
            path.write(json.dumps(plan).encode())
        return plan

    def is_kept(self) -> bool:
        """Tell whether the run goes on: its plan is there, seen from here.

        Raises:
            OSError: The place does not say.
        """
        return (self._path / PLAN).exists()

    def tell(self, name: str, values: dict[str, Any]) -> None:
        """Keep plain values beside the plan, unless the run is forgotten.

        Raises:
            StoreError: The disk refuses.
        """
        path = self._path / name
        with explained("write", path):
            if self.is_kept():
                path.write(json.dumps(values).encode())

    def told(self, name: str) -> dict[str, Any] | None:
        """Return what was kept beside the plan, or the plan itself; None if nothing was.

        Raises:
            StoreError: The place does not say, or the file is damaged.
        """
        path = self._path / name
        with explained("read", path):
            there = path.exists()
        return read_json(path) if there else None

    def seen(self, name: str) -> dict[str, Any] | None:
        """Return what `told` does, and None, too, if it cannot be read now."""
        with suppress(StoreError):
            return self.told(name)
        return None

    def checkpoint(self, number: int, task: dict[str, Any], *, writes: bool) -> Checkpoint:
        """Return where the training of this number, counted from 0, is kept."""
        return Checkpoint(self._path, f"{number}.pt", {**task, "number": number}, writes=writes)

    def remove(self) -> None:
        """Forget the run; whoever still trains it finds its plan gone and gives up."""
        with suppress(OSError):
            (self._path / PLAN).remove()
            self._path.remove()

    @staticmethod
    def remove_others(state: Where, keep: Collection[str]) -> None:
        """Forget every run but those of these ids, as one that was cancelled during a kill.

        Also what a job has written that heard too late of its end.
        """
        folder = place(state) / TRAINING
        for name in set(folder.names()) - set(keep):
            found = folder / name
            if (found / PLAN).exists() or any(n.startswith(JOBS) for n in found.names()):
                TrainingFolder(state, name).remove()


class Checkpoint:
    """The newest state of one training, in one file that a crash leaves old or new.

    It is written at most once a second, and seldom enough to cost less than a twentieth of the
    time. `undrift.train.retrain.Checkpoints` is the protocol.

    Args:
        folder: That of the run.
        name: Name of the file.
        task: What is trained, as plain values; the state of another task is never taken up.
        writes: Whether this worker writes; all of them read.
    """

    def __init__(self, folder: Place, name: str, task: dict[str, Any], *, writes: bool) -> None:
        self._plan, self._path = folder / PLAN, folder / name
        self._task, self._writes = task, writes
        self._due = time.monotonic() + _EVERY_S

    def load(self) -> dict[str, Any] | None:
        """Return the newest state, the same on every worker; None if there is none.

        Raises:
            StoreError: The file is damaged.
        """
        if not self._path.exists():
            return None
        import torch

        with explained("read", self._path):
            try:
                stored = io.BytesIO(self._path.read())
                found = torch.load(stored, map_location="cpu", weights_only=True)
            except (RuntimeError, UnpicklingError, EOFError, ValueError) as error:
                raise StoreError(f"{self._path} is damaged: {error}") from error
        state: dict[str, Any] = found["state"]
        return state if found["task"] == self._task else None

    def offer(self, state: Callable[[], dict[str, Any]]) -> None:
        """Keep the state, unless the last one is recent enough."""
        begun = time.monotonic()
        if not self._writes or begun < self._due:
            return
        import torch

        buffer = io.BytesIO()
        torch.save({"task": self._task, "state": state()}, buffer)
        with suppress(OSError):  # a worker that gave up alone would leave the others waiting
            if self._plan.exists():  # else the run is forgotten
                self._path.write(buffer.getvalue())
        ended = time.monotonic()
        self._due = ended + max(_EVERY_S, _DEAR * (ended - begun))
