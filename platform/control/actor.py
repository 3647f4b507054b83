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
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayTaskError

from undrift.control.facts import ControlFacts
from undrift.control.lifecycle import step
from undrift.control.requests import NO_REPORT, event_of
from undrift.control.settings import LifecycleSettings
from undrift.control.state import Phase
from undrift.control.story import replay
from undrift.errors import IllegalTransitionError, RequestError, UndriftError
from undrift.events import (
    Cancel,
    Codec,
    Configured,
    Event,
    Instruction,
    ProbationFailed,
    ProbationPassed,
    Rearm,
    Scored,
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
from undrift.serve.body import show
from undrift.serve.metrics import Snapshot, exposition, total
from undrift.serve.settings import ServeSettings
from undrift.serve.swap import Command, Done, Failed, ReplicaStatus, SwapCoordinator, Target
from undrift.store.journal import Journal
from undrift.store.store import Store
from undrift.train.audit import columns, report

ROUND_S = 0.2
POLL_S = 1.0


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
        self._report: dict[str, Any] = {}
        self._metrics: dict[str, Snapshot] = {}
        self._gone: Snapshot = {}
        self._training: dict[str, asyncio.Task[None]] = {}
        self._progress: dict[str, Any] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._settled = ""
        self._failure = ""
        self._door = asyncio.Lock()
        self._wake = asyncio.Event()
        self._state, self._story = replay(self._journal.read(), policy)
        self._swaps = SwapCoordinator(
            self._target(self._state.assignment),
            serve.swap,
            expected=serve.replicas,
            patience=time.time() + serve.swap.lease_s,
        )
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
        self._swaps.register(replica_id, time.time())

    async def poll(
        self, replica_id: str, status: ReplicaStatus, metrics: Snapshot
    ) -> Command | None:
        """Long poll of one replica: its status in, a command or nothing out."""
        self._metrics[replica_id] = metrics
        deadline = time.time() + POLL_S
        while True:
            decided = self._swaps.target
            command = self._swaps.poll(replica_id, status, time.time())
            if self._swaps.target != decided:
                self._wake_replicas()
            self._settle_swap()
            if command is not None or time.time() >= deadline:
                return command
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), deadline - time.time())

    def _settle_swap(self) -> None:
        state = self._state
        swap = next((i for i in state.outstanding if isinstance(i, Swap)), None)
        now = time.time()
        outcome = self._swaps.outcome(now)
        if swap is None or outcome is None or outcome.swap_id != swap.run_id:
            return
        if swap.run_id == self._settled:
            return
        if isinstance(outcome, Done):
            event: Event = Swapped(at=now, run_id=swap.run_id, version=swap.assignment.live)
        elif isinstance(outcome, Failed):
            event = SwapFailed(at=now, run_id=swap.run_id, reason=outcome.reason)
        else:
            return
        self._settled = swap.run_id
        self._spawn(self._deliver(event))

    def _wake_replicas(self) -> None:
        self._wake.set()
        self._wake = asyncio.Event()

    # ------------------------------------------------------------------ the one mutating door

    async def _deliver(self, event: Event) -> None:
        """Journal an event if it changes anything, then execute what follows from it."""
        async with self._door:
            outcome = step(self._state, event)
            if outcome.state == self._state and not outcome.instructions:
                return
            await asyncio.to_thread(self._journal.append, Codec.encode(event), event.at)
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
            self._swaps.begin(instruction.run_id, self._target(instruction.assignment), time.time())
            self._wake_replicas()
        elif isinstance(instruction, Rearm):
            self._spawn(self._rearm(instruction))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

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
        policy = self._policy.model_dump()
        await self._deliver(
            Configured(at=time.time(), policy=policy, live_version=self._state.live)
        )
        while True:
            await asyncio.sleep(ROUND_S)
            try:
                await self._round()
                self._failure = ""
            except Exception as error:  # a round that fails is shown in the status and tried again
                self._failure = f"{type(error).__name__}: {error}"

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

    async def _hear(self, report: dict[str, Any]) -> None:
        state, now = self._state, time.time()
        evidence = Codec.evidence(report["evidence"])
        baseline = state.baseline
        if baseline and (evidence.version, report["run_id"]) != (baseline.version, baseline.run_id):
            await self._rearm(baseline)
            return
        if state.phase == Phase.PROMOTED and state.run is not None:
            probation = report["probation"]
            if probation["status"] == "passed":
                detail, run_id = probation["detail"], state.run.run_id
                await self._deliver(ProbationPassed(at=now, run_id=run_id, detail=detail))
            elif probation["status"] == "failed":
                detail, run_id = probation["detail"], state.run.run_id
                await self._deliver(ProbationFailed(at=now, run_id=run_id, detail=detail))
        await self._deliver(Scored(at=now, evidence=evidence))

    # ------------------------------------------------------------------ operators and views

    async def request(self, verb: str, body: dict[str, Any]) -> dict[str, Any]:
        """Execute an operator's verb and return the new status.

        Raises:
            RequestError: The verb is unknown, ill-formed, or not possible now (status 409).
        """
        known = [m.version for m in self._store.versions()]
        rows = self._report["evidence"]["rows"] if self._report else None
        try:
            await self._deliver(event_of(verb, body, known, time.time(), rows))
        except IllegalTransitionError as error:
            raise RequestError(str(error), 409) from error
        return self.status()

    def status(self) -> dict[str, Any]:
        """Return phase, versions, run, recent events and counts."""
        state = self._state
        return {
            "model": self._model,
            "mode": state.settings.mode,
            "phase": state.phase,
            "live_version": state.live,
            "previous_version": state.previous,
            "run": {**asdict(state.run), "training": self._progress} if state.run else None,
            "attempts": state.attempts,
            "not_before": state.not_before,
            "replicas": self._swaps.versions(time.time()),
            "counts": self._story.counts,
            "events": self._story.entries[-50:],
            "failures": {
                "controller": self._failure,
                "monitor": self._report.get("failure", "no report yet"),
            },
        }

    def drift(self) -> dict[str, Any]:
        """Return the evidence, the probation and the label summary."""
        if not self._report:
            raise RequestError(NO_REPORT, 503)
        evidence = self._report["evidence"]
        return {
            **evidence,
            "level": Codec.evidence(evidence).level.name.lower(),
            "signals": [
                {**s, "level": Codec.evidence(evidence).signals[i].level.name.lower()}
                for i, s in enumerate(evidence["signals"])
            ],
            "probation": self._report["probation"],
            "summary": self._report["summary"],
            "lost_rows": self._report["lost_rows"],
        }

    def versions(self) -> list[dict[str, Any]]:
        """Return every stored version, oldest first."""
        live = self._state.live
        return [{**asdict(m), "live": m.version == live} for m in self._store.versions()]

    def audit(self, version: str) -> dict[str, Any]:
        """Return how a version was made: what was chosen, what it cost, what it forgot.

        Raises:
            RequestError: There is no such version.
        """
        known = {str(m.version): m for m in self._store.versions()}
        if version not in known:
            raise RequestError(
                f"no version {show(version)}; stored versions are {', '.join(known)}", 404
            )
        manifest = known[version]
        return report(manifest.to_dict(), self._store.choices(manifest.version) or columns(()))

    def events(self) -> list[dict[str, Any]]:
        """Return the notable events since the state directory was made."""
        return self._story.entries

    def metrics(self) -> bytes:
        """Return the Prometheus page of the whole platform."""
        present = self._swaps.versions(time.time())
        for replica in [r for r in self._metrics if r not in present]:
            self._gone = total([self._gone, self._metrics.pop(replica)])
        return exposition([*self._metrics.values(), self._gone, self._facts().snapshot()])

    def _facts(self) -> ControlFacts:
        facts = ControlFacts(
            model=self._model,
            live_version=self._state.live,
            phase=self._state.phase,
            phases=[p.value for p in Phase],
            swaps=self._story.swaps,
            swap_seconds=self._story.swap_seconds,
            rollbacks=self._story.counts.get("rolled_back", 0),
            retrainings=self._story.retrainings,
            retraining_seconds=self._story.retraining_seconds,
            training=self._progress or {} if self._state.phase == Phase.RETRAINING else {},
        )
        if not self._report:
            return facts
        summary = self._report["summary"]
        return replace(
            facts,
            evidence=Codec.evidence(self._report["evidence"]),
            labels=summary["labels"],
            accuracy=summary["accuracy"],
        )
