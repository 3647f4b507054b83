"""Where the workers of a job in another cluster get their plan; the state is all that it knows."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from undrift.errors import StoreError
from undrift.store.place import Root
from undrift.store.runs import JOB, OUTCOME, PLAN, PROGRESS, TrainingFolder

ORDER_FILE = "undrift-job.json"
"""In the job's working directory: what it has to know beside the plan."""
TELL_S = 1.0


class Desk:
    """Where the workers of a job get their one plan, and tell how far they are.

    What it knows is in the state, so that one that is started anew goes on.

    Args:
        state: The model's folder of the state.
        run_id: The run.
        job: The job, of which it may have one alone.
    """

    def __init__(self, state: Root, run_id: str, job: str) -> None:
        self._folder, self._job = TrainingFolder(state, run_id), job
        self._due = 0.0

    def join(self, session: str, placement_group: str) -> None:
        """Take no note of what a session has reserved: Ray frees it with the job."""

    def next_plan(self, _session: str, done: int) -> dict[str, Any] | None:
        """Return the plan; None once it has an outcome, or is given up."""
        plan = self._folder.told(PLAN)
        if done or plan is None or self._folder.told(OUTCOME) is not None:
            return None
        return {**plan, "index": 0}

    def note(self, run_id: str, progress: dict[str, Any]) -> bool:
        """Take note of how far the run is, and return whether it has been given up."""
        if self.cancelled(run_id):
            return True
        if time.monotonic() >= self._due:
            with suppress(StoreError):  # the next one will do
                self._folder.tell(PROGRESS, progress)
            self._due = time.monotonic() + TELL_S
        return False

    def cancelled(self, _run_id: str) -> bool:
        """Return whether the run has been given up."""
        return not goes_on(self._folder, self._job)

    def finish(self, _index: int, outcome: dict[str, Any]) -> None:
        """Take the outcome of the run: the verdict, or ``{"error": text}``.

        That of a job that was given up counts for nothing: another may have the run now.
        """
        conclude(self._folder, self._job, outcome)


def goes_on(folder: TrainingFolder, job: str) -> bool:
    """Tell whether a run is still wanted, and of this job; what cannot be read now is no answer."""
    try:
        kept = folder.is_kept()
    except OSError:
        return True
    return kept and (folder.seen(JOB) or {"job": job})["job"] == job


def conclude(folder: TrainingFolder, job: str, outcome: dict[str, Any]) -> None:
    """Keep the outcome of a run, if it is still that of this job.

    Raises:
        StoreError: The disk refuses.
    """
    if goes_on(folder, job):
        folder.tell(OUTCOME, outcome)
