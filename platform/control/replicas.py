"""The replicas as the controller knows them: long polls, the swap they take part in, metrics."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Iterator

from undrift.events import Swap, SwapFailed, Swapped
from undrift.records import Assignment
from undrift.serve.metrics import Snapshot, of_versions, total
from undrift.serve.swap import (
    Command,
    Done,
    Failed,
    Outcome,
    ReplicaStatus,
    SwapCoordinator,
    Target,
)

POLL_S, BUSY_S, BEAT_S = 1.0, 0.1, 0.5


class Replicas:
    """Answers long polls with what the swap coordinator decides.

    Args:
        swaps: The coordinator.
        settle: Called after each poll, for its outcome may be there.
    """

    def __init__(self, swaps: SwapCoordinator, settle: Callable[[], object]) -> None:
        self._swaps, self._settle = swaps, settle
        self._metrics: dict[str, Snapshot] = {}
        self._gone: Snapshot = {}
        self._wake = asyncio.Event()
        self._due = time.monotonic() + BEAT_S
        self._beats = asyncio.get_running_loop().create_task(self._beat())

    async def _beat(self) -> None:
        while True:
            self._now()
            await asyncio.sleep(BEAT_S)

    def _now(self) -> float:
        """Return the time; for as long as this process heard nobody, no lease has run."""
        now = time.monotonic()
        if now > self._due + BEAT_S:
            self._swaps.extend(now - self._due + BEAT_S)
        self._due = now + BEAT_S
        return now

    def register(self, replica_id: str) -> None:
        """Admit a starting replica: swaps wait for it from now on."""
        self._swaps.register(replica_id, self._now())

    async def poll(
        self, replica_id: str, status: ReplicaStatus, metrics: Snapshot
    ) -> Command | None:
        """Long poll of one replica: its status in, a command or nothing out.

        One that is preparing is not held for long: it has to say soon that it is ready.
        """
        self._metrics[replica_id] = metrics
        deadline = time.monotonic() + (BUSY_S if status.preparing else POLL_S)
        while True:
            decided = self._swaps.target
            command = self._swaps.poll(replica_id, status, self._now())
            if self._swaps.target != decided:
                self._wake_all()
            self._settle()
            if command is not None or time.monotonic() >= deadline:
                return command
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(deadline - time.monotonic()):
                    await self._wake.wait()

    def begin(self, run_id: str, target: Target) -> None:
        """Begin a swap, or go on with it, and tell all who poll."""
        self._swaps.begin(run_id, target, self._now())
        self._wake_all()

    def holds(self, assignment: Assignment, trial: str) -> bool:
        """Tell whether that is what replicas shall hold already."""
        target = self._swaps.target
        return (target.assignment, target.trial) == (assignment, trial)

    def hold(self, target: Target) -> None:
        """Have every replica hold what stands beside the live version."""
        self._swaps.hold(target)
        self._wake_all()

    def fault(self, trial: str) -> str:
        """Return what a replica says is wrong with the version in a rollout; empty if none does."""
        return self._swaps.fault(trial)

    def begun(self, run_id: str) -> bool:
        """Return whether the last swap is that of this run."""
        outcome = self.outcome()
        return outcome is not None and outcome.swap_id == run_id

    def verdict(self, order: Swap, at: float) -> Swapped | SwapFailed | None:
        """Return the event that ends a swap; None while it goes on.

        Args:
            order: The swap.
            at: Now, Unix seconds.
        """
        outcome = self.outcome()
        if outcome is None or outcome.swap_id != order.run_id:
            return None
        if isinstance(outcome, Failed):
            return SwapFailed(at=at, run_id=order.run_id, reason=outcome.reason)
        waived = self._swaps.undecided and self._swaps.decided == order.run_id
        if isinstance(outcome, Done) or waived:
            return Swapped(at=at, run_id=order.run_id, version=order.assignment.live)
        return None

    @contextlib.contextmanager
    def undecided(self) -> Iterator[None]:
        """Let no swap be decided meanwhile, and let one that is count as done."""
        self._swaps.undecided = True
        try:
            yield
        finally:
            self._swaps.undecided = False
            self._wake_all()

    def outcome(self) -> Outcome | None:
        """Return what has become of the last swap."""
        return self._swaps.outcome(self._now())

    def versions(self) -> dict[str, int | None]:
        """Return the version that each replica has loaded."""
        return self._swaps.versions(self._now())

    def fold(self, versions: Collection[int | None]) -> None:
        """Sum up the metrics of replicas that have gone, for these versions."""
        present = self.versions()
        gone = [self._metrics.pop(r) for r in list(self._metrics) if r not in present]
        self._gone = self._shown(total([self._gone, *gone]), versions)

    def snapshots(self, versions: Collection[int | None]) -> list[Snapshot]:
        """Return the metrics of every replica, and of those that have gone as one.

        Args:
            versions: Those whose counts are wanted, besides the one that replicas shall hold.
        """
        self.fold(versions)
        return [*(self._shown(s, versions) for s in self._metrics.values()), self._gone]

    def watched(self) -> tuple[int, int]:
        """Return how many rows were answered, and how many of them were drawn to be watched."""
        counts = total([*self._metrics.values(), self._gone])
        families = (counts.get(f"undrift_tap_{name}") for name in ("rows", "left_out_rows"))
        drawn, left_out = (int(sum(f.samples.values())) if f else 0 for f in families)
        return drawn + left_out, drawn

    def _shown(self, snapshot: Snapshot, versions: Collection[int | None]) -> Snapshot:
        return of_versions(snapshot, {None, self._swaps.target.live, *versions})

    def _wake_all(self) -> None:
        self._wake.set()
        self._wake = asyncio.Event()
