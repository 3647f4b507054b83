"""The replica's two background tasks: doing what the controller says, and emptying the tap."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace

import torch
from ray._common.utils import get_system_memory
from ray._private.utils import get_used_memory
from ray.actor import ActorHandle
from ray.exceptions import RayError

from undrift.errors import ModelError, StoreError, UndriftError
from undrift.records import Assignment, FloatArray
from undrift.serve.candidate import Candidate
from undrift.serve.metrics import Snapshot
from undrift.serve.room import check_room
from undrift.serve.slots import DoubleBuffer
from undrift.serve.swap import Command, Commit, Hold, Load, Prepare, ReplicaStatus, Target
from undrift.store.store import Store

RETRY_S = 0.5


class Follower:
    """Long-polls the controller and carries out its swap commands.

    Args:
        replica_id: Name of this replica, new after each restart.
        controller: The controller actor.
        models: The live model and the one prepared beside it.
        store: Where weights come from.
        probe: (n, *input_shape) rows to warm a new version up with.
        candidate: The version that is tried beside the live one.

    Attributes:
        failures: Loads and commits of the live version that failed in a row.
        error: Why the last command failed; empty if it did not.
    """

    def __init__(
        self,
        replica_id: str,
        controller: ActorHandle,
        models: DoubleBuffer,
        store: Store,
        probe: FloatArray,
        candidate: Candidate,
    ) -> None:
        self._id, self._controller = replica_id, controller
        self._models, self._store, self._probe = models, store, probe
        self._candidate = candidate
        self._swap_id = self._committed = ""
        self._left = False
        self._loading: asyncio.Task[None] | None = None
        self.failures = 0
        self.error = ""

    async def run(self, report: Callable[[], Snapshot]) -> None:
        """Register, then follow for ever; without a controller the live version answers on.

        Args:
            report: Returns the metrics to send along.
        """
        registered = False
        while True:
            try:
                if not registered:
                    await self._controller.register.remote(self._id)
                    registered = True
                command = await self._controller.poll.remote(self._id, self._status(), report())
            except RayError:
                registered = False
                await asyncio.sleep(0.2)
                continue
            if command is not None:
                await self._obey(command)

    def leave(self, report: Snapshot) -> None:
        """Tell the controller that no swap need wait for this replica; only the first call counts.

        Args:
            report: The last metrics.
        """
        if not self._left:
            self._left = True
            self._controller.poll.remote(self._id, replace(self._status(), leaving=True), report)

    def _status(self) -> ReplicaStatus:
        models, candidate = self._models, self._candidate
        return ReplicaStatus(
            models.version,
            self._swap_id,
            models.prepared,
            self.error,
            committed=self._committed,
            trial=candidate.trial,
            assignment=candidate.assignment,
            fault=candidate.fault,
        )

    async def _obey(self, command: Command) -> None:
        """Carry out a command; loading goes on beside the polls, which keep the lease alive."""
        if isinstance(command, Prepare | Load | Hold):
            if self._loading is not None and not self._loading.done():
                await asyncio.sleep(0.1)
                return
            self.error = ""
            self._swap_id = command.swap_id if isinstance(command, Prepare) else ""
            work = self._hold(command.target) if isinstance(command, Hold) else self._load(command)
            self._loading = asyncio.get_running_loop().create_task(work)
            await asyncio.wait([self._loading], timeout=0.5)
        elif isinstance(command, Commit):
            version = self._models.prepared
            if version is not None:
                commit = asyncio.to_thread(self._models.commit, version)
                if await self._attempt(commit, counts=True):
                    self._committed = command.swap_id
                    self._candidate.hold("", Assignment(version), None)
            self._swap_id = ""
        else:
            self._models.abort()
            self._swap_id, self.error = "", ""

    async def _load(self, command: Prepare | Load) -> None:
        live, hash_ = command.target.live, command.target.live_hash
        act = self._models.prepare if isinstance(command, Prepare) else self._models.load
        candidate = self._candidate

        def load() -> None:
            known = candidate.loaded(candidate.trial, live)
            if isinstance(command, Prepare) and known is not None:
                if candidate.fault:
                    raise ModelError(f"version {live} was called off: {candidate.fault}")
                self._models.take_up(known)
                return
            act(live, hash_, self._weights(live), self._probe)

        await self._attempt(asyncio.to_thread(load), counts=isinstance(command, Load))

    async def _hold(self, target: Target) -> None:
        """Hold a version beside the live one, or none; what fails is its fault, not the live's."""
        version, slot, fault = target.assignment.candidate, None, ""
        if version is not None:
            slot = self._candidate.loaded(target.trial, version)
        if version is not None and slot is None:
            try:
                slot = await asyncio.to_thread(
                    lambda: self._models.load_beside(
                        version, target.hashes[-1], self._weights(version), self._probe
                    )
                )
            except Exception as error:
                name = "" if isinstance(error, UndriftError) else f"{type(error).__name__}: "
                fault = f"it cannot be loaded: {name}{error}"
        self._candidate.hold(target.trial, target.assignment, slot, fault)

    def _weights(self, version: int) -> Mapping[str, torch.Tensor]:
        """Return the weights of a version; beside another they are read only if they fit."""
        if self._models.version is not None:
            check_room(version, self._models.nbytes, get_system_memory() - get_used_memory())
        return self._store.state_dict(version)

    async def _attempt(self, work: Awaitable[None], *, counts: bool) -> bool:
        """Await what was commanded; what fails, also in the user's model, is told at the next poll.

        Args:
            work: What to do.
            counts: Whether its failure is one of the live version.

        Returns:
            Whether it was done.
        """
        try:
            await work
            self.failures = 0
            return True
        except Exception as error:
            name = "" if isinstance(error, UndriftError) else f"{type(error).__name__}: "
            self.error = f"{name}{error}"
            self.failures += counts
            await asyncio.sleep(RETRY_S)
            return False


def check_running(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Check that none of the tasks, which go on for ever, has ended.

    Raises:
        StoreError: One has; it names the cause.
    """
    for task in tasks:
        if task.done():
            cause = None if task.cancelled() else task.exception()
            raise StoreError(f"{task.get_name()} has ended: {cause!r}")
