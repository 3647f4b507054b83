"""The controller as a Ray actor: journal first, then act.

It is the only writer of the journal and the only executor of instructions. Replicas long-poll it
for swaps; it pulls evidence from the monitor and candidates from the trainer, so that a restart of
any of the three is mended by the next round. Its own restart is a replay of the journal since the
last snapshot.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from dataclasses import replace
from typing import Any

from ray.actor import ActorHandle
from ray.exceptions import RayActorError

from undrift.control import views
from undrift.control.facts import facts
from undrift.control.hearing import heard, missed
from undrift.control.holding import LIVE, check_servable, held, hold, served, shown, target
from undrift.control.lifecycle import step
from undrift.control.memory import Memory
from undrift.control.orders import Orders
from undrift.control.parts import Parts
from undrift.control.replicas import Replicas
from undrift.control.requests import NO_REPORT, event_of
from undrift.control.settings import LifecycleSettings
from undrift.control.shelf import Shelf
from undrift.control.tenure import Tenure
from undrift.control.training import Training, end_writers, quietly
from undrift.control.webhooks import Webhooks
from undrift.errors import RequestError, StoreError
from undrift.events import (
    Cancel,
    Codec,
    Compare,
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
)
from undrift.evidence import ComparisonReport
from undrift.monitor.report import MonitorReport
from undrift.serve.metrics import Snapshot, exposition
from undrift.serve.settings import ServeSettings
from undrift.serve.swap import Command, ReplicaStatus, SwapCoordinator
from undrift.store.place import Root
from undrift.store.settings import RetentionSettings
from undrift.store.store import Store
from undrift.views import AuditView, DriftView, EventsPage, StatusView, VersionView

ROUND_S = 0.2
logger = logging.getLogger("undrift")
UNRECORDED = "a swap is decided, and not recorded yet; try again"


class ControllerActor:
    """Shell round `lifecycle.step`, the journal and the swap coordinator.

    Args:
        state: The model's folder of the state.
        model: Name of the model.
        policy: The lifecycle section of the configuration.
        serve: The serve section of the configuration.
        monitor: The monitor.
        trainer: The trainer.
        limits: How many versions and events to keep.
        keeps_lease: Whether to keep the lease of a state in a bucket, as no process does.
    """

    def __init__(
        self,
        state: Root,
        model: str,
        policy: LifecycleSettings,
        serve: ServeSettings,
        monitor: ActorHandle,
        trainer: ActorHandle,
        limits: RetentionSettings = RetentionSettings(),  # noqa: B008, it is frozen
        keeps_lease: bool = False,
    ) -> None:
        self._tenure = Tenure(state, keeps_lease)
        self._model, self._policy = model, policy
        self._monitor, self._trainer = monitor, trainer
        self._store = Store(state)
        self._memory = Memory(state, policy, limits)
        self._report: MonitorReport | None = None
        self._parts = Parts()
        self._shelf = Shelf(state, self._parts.failures, limits, lambda: self._state)
        self._training = Training(trainer, self._parts, self._deliver)
        self._unsure = False  # whether the journal may have taken what was said to have failed
        self._door, self._asked, self._orders = asyncio.Lock(), asyncio.Lock(), Orders(self._obey)
        self._state, self._story = self._memory.recall()
        self._webhooks = Webhooks(policy.webhooks, model, self._story)
        coordinator = SwapCoordinator(
            held(self._store, self._state, self._parts.failures),
            serve.swap,
            expected=serve.replicas,
            patience=time.monotonic() + serve.swap.lease_s,
        )
        self._replicas = Replicas(coordinator, self._settle_swap)
        for instruction in () if self._tenure.lost else self._state.outstanding:
            if isinstance(instruction, Swap):  # before any replica's poll is answered
                self._swap(instruction)
        self._loop = asyncio.get_running_loop().create_task(self._run())

    # ------------------------------------------------------------------ replicas

    def register(self, replica_id: str) -> None:
        """Admit a starting replica: swaps wait for it from now on."""
        self._replicas.register(replica_id)

    async def poll(
        self, replica_id: str, status: ReplicaStatus, metrics: Snapshot
    ) -> Command | None:
        """Long poll of one replica: its status in, a command or nothing out."""
        return await self._replicas.poll(replica_id, status, metrics)

    def _settle_swap(self) -> asyncio.Task[bool] | None:
        """Tell the journal how a swap has ended, if it has."""
        swap = next((i for i in self._state.outstanding if isinstance(i, Swap)), None)
        if swap is None or self._tenure.lost:
            return None
        if (event := self._replicas.verdict(swap, time.time())) is None:
            return None
        if isinstance(event, Swapped):
            self._parts.failures.pop(LIVE, None)
        return self._parts.begin("swap", lambda: self._deliver(event))

    # ------------------------------------------------------------------ the one mutating door

    async def _deliver(self, event: Event) -> None:
        """Journal an event if it changes anything, then execute what follows from it."""
        async with self._door:
            self._tenure.check()
            if self._unsure:
                self._state, self._story = await asyncio.to_thread(self._memory.recall)
                self._unsure = False
            if event.key in self._story.orders:
                return  # before a restart, or a failure that was none
            event = replace(event, salt=secrets.token_hex(3))
            outcome = step(self._state, event)
            if outcome.state == self._state and not outcome.instructions:
                return
            self._unsure = True
            await asyncio.to_thread(self._memory.record, event)
            self._unsure = False
            if not isinstance(event, Configured):
                self._story.add(self._state, event, outcome.instructions)
                self._webhooks.tell(self._state, outcome.state, self._story, event.at)
            self._state = outcome.state
            for instruction in outcome.instructions:
                self._execute(instruction)
            self._hold()
            await asyncio.to_thread(self._memory.keep, self._state, self._story)

    def _execute(self, instruction: Instruction) -> None:
        if isinstance(instruction, Stage | Train | Cancel):
            self._training.order(instruction)
        elif isinstance(instruction, Swap):
            self._swap(instruction)
        elif isinstance(instruction, Rearm):
            self._rearm(instruction)

    def _swap(self, order: Swap) -> None:
        if self._replicas.begun(order.run_id):
            return
        try:
            self._replicas.begin(order.run_id, target(self._store, order.assignment))
        except StoreError as error:
            event = SwapFailed(at=time.time(), run_id=order.run_id, reason=str(error))
            self._parts.begin("swap", lambda: self._deliver(event))

    def _rearm(self, order: Rearm | Compare) -> None:
        self._parts.begin(
            "re-arming", lambda: quietly(self._monitor.rearm, Codec.encode(order)), of=order.run_id
        )

    def _hold(self) -> None:
        """Have replicas hold what the state says, and hear what is wrong with a candidate."""
        event = hold(self._replicas, self._store, self._state, time.time())
        if event is not None:
            self._parts.begin("rollout", lambda: self._deliver(event))

    # ------------------------------------------------------------------ rounds

    async def _run(self) -> None:
        while not self._tenure.lost:
            if await self._parts.do("start", self._configure()):
                break
            await asyncio.sleep(ROUND_S)
        while not self._tenure.lost:  # each part for itself, and time always passes
            self._parts.begin("monitor", self._listen)
            self._parts.begin("look", self._shelf.watch)
            await self._parts.do("orders", self._go_on())
            await self._parts.do("time", self._deliver(Tick(at=time.time())))
            await asyncio.sleep(ROUND_S)
        logger.error("%s; what is live answers on, by itself", self._tenure.lost)
        await end_writers(self._trainer, self._monitor)

    async def _configure(self) -> None:
        policy, live = self._policy.model_dump(), self._state.live
        await self._deliver(Configured(at=time.time(), policy=policy, live_version=live))

    async def _listen(self) -> None:
        with contextlib.suppress(RayActorError, TimeoutError):
            self._report = report = await asyncio.wait_for(self._monitor.report.remote(), 5.0)
            await self._hear(report)

    async def _go_on(self) -> None:
        for instruction in self._state.outstanding:
            if isinstance(instruction, Train):
                self._training.order(instruction)
            elif isinstance(instruction, Swap):
                self._swap(instruction)
        self._settle_swap()
        self._hold()
        self._replicas.fold(shown(self._state))

    async def _hear(self, report: MonitorReport) -> None:
        state, evidence, compared = self._state, report.evidence, report.comparison
        if (order := missed(state, evidence, report.run_id, compared)) is not None:
            self._rearm(order)
            return
        for event in heard(state, evidence, report.probation, compared, time.time()):
            await self._deliver(event)

    # ------------------------------------------------------------------ operators and views

    async def request(self, verb: str, body: dict[str, Any], key: str = "") -> StatusView:
        """Execute an operator's verb, once for each key, and return the new status.

        Raises:
            RequestError: The verb is unknown, ill-formed, or not possible now (status 409).
        """
        if key not in self._story.orders:
            known = self._store.version_numbers()
            rows = self._report.evidence.rows if self._report else None
            event = event_of(verb, body, known, time.time(), rows)
            await self._orders.give(replace(event, key=key), key)
        return self.status()

    async def _obey(self, event: Event) -> None:
        """Carry out an order; what is decided is told first, and nothing else is decided."""
        async with self._asked:
            with self._replicas.undecided():
                settled = self._settle_swap()
                if settled is not None and not await settled:
                    raise RequestError(UNRECORDED, 503)
                asked = served(self._state, step(self._state, event))
                await asyncio.to_thread(check_servable, self._store, asked)
                await self._deliver(event)

    def status(self) -> StatusView:
        """Return phase, versions, run, recent events and counts."""
        return views.status(
            self._model,
            self._state,
            self._story,
            replicas=self._replicas.versions(),
            watched=self._replicas.watched(),
            training=self._training.progress(self._state.run),
            compared=self._report.comparison if self._report else ComparisonReport(),
            failures={
                "controller": self._tenure.lost or self._parts.told() or self._memory.trouble,
                "monitor": self._report.failure if self._report else "no report yet",
                "webhooks": self._webhooks.trouble,
            },
        )

    def drift(self) -> DriftView:
        """Return the evidence, the probation and the label summary."""
        if self._report is None:
            raise RequestError(NO_REPORT, 503)
        return views.drift(self._report)

    async def versions(self) -> list[VersionView]:
        """Return every stored version, oldest first."""
        damaged = await self._shelf.look()
        stored = await asyncio.to_thread(self._store.versions)
        return views.versions(stored, damaged, self._state.live)

    async def audit(self, version: str) -> AuditView:
        """Return how a version was made: what was chosen, what it cost, what it forgot.

        Raises:
            RequestError: There is no such version.
        """
        return await asyncio.to_thread(views.audit, self._store, version)

    async def events(self, after: int, limit: int) -> EventsPage:
        """Return notable events after number ``after``, at most ``limit``."""
        return await asyncio.to_thread(self._memory.page, self._story, after, limit)

    def metrics(self) -> bytes:
        """Return the Prometheus page of the model."""
        return exposition(self.snapshots())

    def snapshots(self) -> list[Snapshot]:
        """Return the metrics of the replicas and of the control plane."""
        progress = self._training.progress(self._state.run)
        told = self._report, progress, self._shelf.room, self._webhooks.outcomes
        own = facts(self._model, self._state, self._story, *told)
        return [*self._replicas.snapshots(shown(self._state)), own.snapshot()]
