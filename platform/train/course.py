"""What is made of a job in another cluster, from what that cluster says, or that it is away."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable

from undrift.errors import TrainingError
from undrift.store.runs import JOBS

GOING = ("PENDING", "RUNNING")
"""What Ray says of a job that has not ended."""
BEGIN_S = 60.0
"""How long a cluster that is to take a job may be away, seconds; one that starts takes as long."""
AWAY_S = 300.0
"""How long it may be away while it has the job."""
SETTLE_S = 30.0
"""How long the outcome of a job that has ended may take to be seen in the state."""
LOST = 3
"""How often a job is handed in again to a cluster that has lost it by a restart."""


def job_name(state: object, model: str, run_id: str, attempt: int) -> str:
    """Return the name of a job: the same for whoever asks about the same run of the same state.

    Args:
        state: Where the state lies.
        model: The model's name.
        run_id: The run.
        attempt: Which of its jobs; one that `down` has stopped is followed by another.

    Example:
        >>> job_name("s3://bucket/shop", "digits", "run-3.5fa1c0", 1)
        'undrift-digits-run-3.5fa1c0-03f55df0-1'
    """
    digest = hashlib.sha256(str(state).encode()).hexdigest()[:8]
    return f"{JOBS}{model}-{run_id}-{digest}-{attempt}"


class Course:
    """Follows one job; tells whether to hand it in, and when there is no more hope.

    Args:
        address: The dashboard of its cluster, for messages.
        job: Its name, for messages.
        clock: The time, seconds.
    """

    def __init__(self, address: str, job: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._where, self._clock = f"job {job} at {address}", clock
        self._heard = clock()
        self._known = False
        self._lost = 0
        self._ended = 0.0

    def heard(self, status: str, said: str) -> bool:
        """Take in what the cluster says.

        Args:
            status: Ray's word for what has become of the job; empty: the cluster has none.
            said: The last line of one that failed.

        Returns:
            Whether it is to be handed in.

        Raises:
            TrainingError: Nothing will come of it.
        """
        now = self._clock()
        if not status:
            if self._known:
                self._known, self._heard, self._lost = False, now, self._lost + 1
            if self._lost > LOST:
                raise TrainingError(f"{self._where} was lost {self._lost} times")
            return True
        self._known, self._heard = True, now
        if status in GOING:
            return False
        if status == "SUCCEEDED":
            self._ended = self._ended or now
            if now - self._ended > SETTLE_S:
                raise TrainingError(
                    f"{self._where} has ended, and its outcome is not in the state; both clusters "
                    "must reach the same"
                )
            return False
        raise TrainingError(f"{self._where} {status.lower()}: {said}")

    def taken(self) -> None:
        """Take in that the cluster has taken the job."""
        self._known, self._heard = True, self._clock()

    def away(self, why: str, *, for_good: bool = False) -> None:
        """Take in that the cluster does not answer.

        Args:
            why: What came instead of an answer.
            for_good: Whether to wait is of no use, as long as it has not taken the job.

        Raises:
            TrainingError: It has been so for too long.
        """
        patience = AWAY_S if self._known else BEGIN_S
        if (for_good and not self._known) or self._clock() - self._heard > patience:
            raise TrainingError(why)
