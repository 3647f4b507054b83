"""The controller as a Ray actor: journal first, then act.

It is the only writer of the journal and the only executor of instructions. Replicas long-poll it
for swaps; it pulls evidence from the monitor and candidates from the trainer, so that a restart of
any of the three is mended by the next round. Its own restart is a replay of the journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayTaskError

from undrift.control import views
from undrift.control.facts import facts
from undrift.control.hearing import heard, missed
from undrift.control.lifecycle import step
from undrift.control.replicas import Replicas
from undrift.control.requests import NO_REPORT, event_of
from undrift.control.settings import LifecycleSettings
from undrift.control.story import recover
from undrift.errors import IllegalTransitionError, RequestError, UndriftError
from undrift.events import (
    Cancel,
    Codec,
    Configured,
    Event,
    Instruction,
    Rearm,
    Stage,
    Swap,
    SwapFailed,
    Swapped,
    Tick,
    Train,
    Trained,
    TrainFailed,
)
from undrift.records import Assignment
from undrift.serve.metrics import Snapshot, exposition
from undrift.serve.settings import ServeSettings
from undrift.serve.swap import Command, Done, Failed, ReplicaStatus, SwapCoordinator, Target
from undrift.store.journal import Journal
from undrift.store.store import Store
from undrift.views import AuditView, DriftView, EventsPage, MonitorReport, StatusView, VersionView

ROUND_S = 0.2


class ControllerActor:
    """Shell round `lifecycle.step`, the journal and the swap coordinator.

    Args:
        state: The model's folder of the state.
        model: Name of the model.
        policy: The lifecycle section of the configuration.
        serve: The serve section of the configuration.
        monitor: The monitor.
        trainer: The trainer.
    """

    def __init__(
        self,
        state: Path,
        model: str,
        policy: LifecycleSettings,
        serve: ServeSettings,
        monitor: ActorHandle,
        trainer: ActorHandle,
    ) -> None:
        self._model, self._policy = model, policy
        self._monitor, self._trainer = monitor, trainer
        self._store = Store(state)
        self._journal = Journal(state)
        self._report: MonitorReport | None = None
        self._training: dict[str, asyncio.Task[None]] = {}
        self._progress: dict[str, Any] | None = None
        self._tasks: set[asyncio.Task[bool]] = set()
        self._failure = ""
        self._settling: asyncio.Task[bool] | None = None
        self._unsure = False  # whether the journal may have taken what was said to have failed
        self._door = asyncio.Lock()
        self._state, self._story = recover(self._journal.read(), policy)
        coordinator = SwapCoordinator(
            self._target(self._state.assignment),
            serve.swap,
            expected=serve.replicas,
            patience=time.time() + serve.swap.lease_s,
        )
        self._replicas = Replicas(coordinator, self._settle_swap)
        for instruction in self._state.outstanding:
            if isinstance(instruction, Swap):  # before any replica's poll is answered
                self._execute(instruction)
        self._loop = asyncio.get_running_loop().create_task(self._run())

    def _target(self, assignment: Assignment) -> Target:
        hashes = tuple(self._store.manifest(version).hash for version in assignment.versions)
        return Target(assignment, hashes)

    # ------------------------------------------------------------------ replicas

    def register(self, replica_id: str) -> None:
        """Admit a starting replica: swaps wait for it from now on."""
        self._replicas.register(replica_id)

    async def poll(
        self, replica_id: str, status: ReplicaStatus, metrics: Snapshot
    ) -> Command | None:
        """Long poll of one replica: its status in, a command or nothing out."""
        return await self._replicas.poll(replica_id, status, metrics)

    def _settle_swap(self) -> None:
        state = self._state
        swap = next((i for i in state.outstanding if isinstance(i, Swap)), None)
        now = time.time()
        outcome = self._replicas.outcome()
        settling = self._settling is not None and not self._settling.done()
        if settling or swap is None or outcome is None or outcome.swap_id != swap.run_id:
            return
        if isinstance(outcome, Done):
            event: Event = Swapped(at=now, run_id=swap.run_id, version=swap.assignment.live)
        elif isinstance(outcome, Failed):
            event = SwapFailed(at=now, run_id=swap.run_id, reason=outcome.reason)
        else:
            return
        self._settling = self._spawn(self._deliver(event))

    # ------------------------------------------------------------------ the one mutating door

    async def _deliver(self, event: Event) -> None:
        """Journal an event if it changes anything, then execute what follows from it."""
        async with self._door:
            if self._unsure:
                known = await asyncio.to_thread(self._journal.read)
                (self._state, self._story), self._unsure = recover(known, self._policy), False
            outcome = step(self._state, event)
            if outcome.state == self._state and not outcome.instructions:
                return
            self._unsure = True
            await asyncio.to_thread(self._journal.append, Codec.encode(event), event.at)
            self._unsure = False
            if not isinstance(event, Configured):
                self._story.add(self._state, event, outcome.instructions)
            self._state = outcome.state
            for instruction in outcome.instructions:
                self._execute(instruction)

    def _execute(self, instruction: Instruction) -> None:
        if isinstance(instruction, Stage):
            self._spawn(self._quietly(self._trainer.stage.remote()))
        elif isinstance(instruction, Train):
            self._start_training(instruction)
        elif isinstance(instruction, Cancel):
            self._spawn(self._quietly(self._trainer.cancel.remote(instruction.run_id)))
        elif isinstance(instruction, Swap):
            self._replicas.begin(instruction.run_id, self._target(instruction.assignment))
        elif isinstance(instruction, Rearm):
            self._spawn(self._rearm(instruction))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[bool]:
        task = asyncio.get_running_loop().create_task(self._told(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _told(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do ``work``; a failure is shown in the status, and the next round tries again."""
        try:
            await work
        except Exception as error:
            self._failure = f"{type(error).__name__}: {error}"
            return False
        return True

    @staticmethod
    async def _quietly(call: Any) -> None:
        """Await a call whose loss the next round mends."""
        with contextlib.suppress(RayActorError):
            await call

    async def _rearm(self, instruction: Rearm) -> None:
        await self._quietly(self._monitor.rearm.remote(Codec.encode(instruction)))

    def _start_training(self, instruction: Train) -> None:
        running = self._training.get(instruction.run_id)
        if running is None or running.done():
            if running is None:
                self._progress = None
            task = asyncio.get_running_loop().create_task(self._train(instruction))
            self._training = {instruction.run_id: task}

    async def _train(self, instruction: Train) -> None:
        run_id = instruction.run_id
        try:
            outcome = asyncio.wrap_future(
                self._trainer.train.remote(Codec.encode(instruction)).future()
            )
            while not (await asyncio.wait([outcome], timeout=ROUND_S))[0]:
                with contextlib.suppress(RayActorError):  # then the outcome says so, too
                    self._progress = await self._trainer.progress.remote(run_id) or self._progress
            done = outcome.result()
        except RayActorError:
            return  # the trainer restarts; the next round asks again
        except (RayTaskError, UndriftError) as error:
            cause = getattr(error, "cause", error)
            await self._deliver(TrainFailed(at=time.time(), run_id=run_id, reason=str(cause)))
            return
        await self._deliver(Trained(at=time.time(), run_id=run_id, **done))

    # ------------------------------------------------------------------ rounds

    async def _run(self) -> None:
        work = self._configure
        while True:
            if await self._told(work()):
                self._failure, work = "", self._round
            await asyncio.sleep(ROUND_S)

    async def _configure(self) -> None:
        policy, live = self._policy.model_dump(), self._state.live
        await self._deliver(Configured(at=time.time(), policy=policy, live_version=live))

    async def _round(self) -> None:
        with contextlib.suppress(RayActorError, TimeoutError):
            report = await asyncio.wait_for(self._monitor.report.remote(), 5.0)
            self._report = report
            await self._hear(report)
        for instruction in self._state.outstanding:
            if isinstance(instruction, Train):
                self._start_training(instruction)
            elif isinstance(instruction, Swap):
                self._execute(instruction)
        self._settle_swap()
        await self._deliver(Tick(at=time.time()))

    async def _hear(self, report: MonitorReport) -> None:
        order = missed(self._state, report.evidence, report.run_id)
        if order is not None:
            await self._rearm(order)
            return
        for event in heard(self._state, report.evidence, report.probation, time.time()):
            await self._deliver(event)

    # ------------------------------------------------------------------ operators and views

    async def request(self, verb: str, body: dict[str, Any]) -> StatusView:
        """Execute an operator's verb and return the new status.

        Raises:
            RequestError: The verb is unknown, ill-formed, or not possible now (status 409).
        """
        known = [m.version for m in self._store.versions()]
        rows = self._report.evidence.rows if self._report else None
        try:
            await self._deliver(event_of(verb, body, known, time.time(), rows))
        except IllegalTransitionError as error:
            raise RequestError(str(error), 409) from error
        return self.status()

    def status(self) -> StatusView:
        """Return phase, versions, run, recent events and counts."""
        return views.status(
            self._model,
            self._state,
            self._story,
            replicas=self._replicas.versions(),
            training=self._progress,
            failures={
                "controller": self._failure or self._journal.trouble,
                "monitor": self._report.failure if self._report else "no report yet",
            },
        )

    def drift(self) -> DriftView:
        """Return the evidence, the probation and the label summary."""
        if self._report is None:
            raise RequestError(NO_REPORT, 503)
        return views.drift(self._report)

    def versions(self) -> list[VersionView]:
        """Return every stored version, oldest first."""
        return views.versions(self._store.versions(), self._state.live)

    def audit(self, version: str) -> AuditView:
        """Return how a version was made: what was chosen, what it cost, what it forgot.

        Raises:
            RequestError: There is no such version.
        """
        return views.audit(self._store, version)

    def events(self, after: int, limit: int) -> EventsPage:
        """Return notable events after number ``after``, at most ``limit``."""
        return self._story.page(after, limit)

    def metrics(self) -> bytes:
        """Return the Prometheus page of the whole platform."""
        own = facts(self._model, self._state, self._story, self._report, self._progress)
        return exposition([*self._replicas.snapshots(), own.snapshot()])
