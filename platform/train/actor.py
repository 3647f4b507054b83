"""The trainer as a Ray actor: one long Ray Train run that serves many plans.

Starting Ray Train takes seconds that a drifting model does not have. A warning therefore *stages*
a session: its workers import, join their process group and wait. An alarm only posts a plan. The
session lingers for the next plan until it has been idle for `TrainSettings.idle_s`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import time
import uuid
from importlib import import_module
from pathlib import Path
from typing import Any

from ray._raylet import PlacementGroupID
from ray.util.placement_group import PlacementGroup, remove_placement_group

from undrift.errors import StoreError, TrainingError
from undrift.events import Codec, Train
from undrift.model.settings import ModelSettings
from undrift.store.place import Root, place, read_json
from undrift.train.plan import RetrainPlan
from undrift.train.runs import Runs
from undrift.train.settings import TrainSettings

LONG_POLL_S = 5.0
RESTAGE_S = 5.0
CANCEL_S = 60.0  # by when a worker that does not hang has given up a run
SESSION_FILE = "training.json"
IMPORT_AFTER_S = 10.0  # when the start of the platform is over


class TrainerActor:
    """Shell round one training session at a time, and the mailbox of its workers.

    Args:
        state: The model's folder of the state.
        settings: The train section of the configuration.
        model: The model section of the configuration.
        search_path: Folder that holds the user's model module.
        reference_rows: Held-out rows of its regime that a new version is watched by, at least.
        mixed: Whether heads answer beside the model.
    """

    def __init__(
        self,
        state: Root,
        settings: TrainSettings,
        model: ModelSettings,
        search_path: Path,
        reference_rows: int,
        mixed: bool,
    ) -> None:
        self._state_dir, self._settings = state, settings
        self._model, self._search_path = model, search_path
        self._reference_rows = reference_rows
        self._runs = Runs(state, settings, mixed=mixed)
        self._session = ""
        self._fit: asyncio.Task[None] | None = None
        self._plans: list[RetrainPlan] = []  # not finished yet
        self._outcomes: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._finished = 0
        self._stopping = False
        self._cancelled: set[str] = set()
        self._progress: dict[str, dict[str, Any]] = {}
        self._idle_since = time.monotonic()
        self._changed = asyncio.Event()
        self._release_leftovers()
        loop = asyncio.get_running_loop()
        session = "undrift.train.session"
        loop.call_later(IMPORT_AFTER_S, lambda: loop.run_in_executor(None, import_module, session))
        if settings.keep_staged:
            self.stage()

    # ------------------------------------------------------------------ for the controller

    def stage(self) -> None:
        """Start workers and let them wait, unless some wait already."""
        self._idle_since = time.monotonic()
        if not self._stopping and (self._fit is None or self._fit.done()):
            self._session = uuid.uuid4().hex[:12]
            self._fit = asyncio.get_running_loop().create_task(self._run(self._session))

    async def train(self, instruction: dict[str, Any]) -> dict[str, Any]:
        """Carry out a `Train` instruction; the same run asked for twice is trained once.

        Args:
            instruction: The encoded instruction.

        Returns:
            The fields of the `Trained` event.

        Raises:
            TrainingError: No candidate came of it.
        """
        order = Codec.decode(instruction)
        assert isinstance(order, Train)
        if stored := await asyncio.to_thread(self._runs.stored, order.run_id):
            return stored
        if order.run_id not in self._outcomes:
            self._plans.append(self._runs.begin(order, self._plans))
            self._outcomes[order.run_id] = asyncio.get_running_loop().create_future()
            self.stage()
            self._notify()
        return await asyncio.shield(self._outcomes[order.run_id])

    def progress(self, run_id: str) -> dict[str, Any] | None:
        """Return how far a run is, as `worker.Teller` tells it; None if nothing was told yet."""
        return self._progress.get(run_id)

    def cancel(self, run_id: str) -> None:
        """Give up a run; its workers hear of it within a second, and store no candidate."""
        self._cancelled.add(run_id)
        outcome = self._outcomes.get(run_id)
        if outcome is not None and not outcome.done():
            outcome.set_exception(TrainingError(f"{run_id} was cancelled"))
        asyncio.get_running_loop().call_later(CANCEL_S, self._end_hung, run_id)

    async def stop(self, leave: bool = False) -> None:
        """End the session and wait until its workers are gone.

        Args:
            leave: Means nothing here: what goes on without a trainer is a job in another cluster.
        """
        del leave
        self._stopping = True
        self._session = ""
        self._notify()
        if self._fit is not None:
            await asyncio.wait([self._fit], timeout=30)

    # ------------------------------------------------------------------ for the workers

    def join(self, session: str, placement_group: str) -> None:
        """Take note of what a session has reserved, for a trainer that comes after a kill."""
        record = json.dumps({"session": session, "placement_group": placement_group})
        (place(self._state_dir) / SESSION_FILE).write(record.encode())

    async def next_plan(self, session: str, done: int) -> dict[str, Any] | None:
        """Long poll for the plan after the first ``done``; an empty dict means ask again.

        Returns None when the session is over.
        """
        deadline = time.monotonic() + LONG_POLL_S
        while session == self._session:
            waiting = self._plans[max(done - self._finished, 0) :]
            if waiting:
                return {**waiting[0].to_dict(), "index": max(done, self._finished)}
            idle_s = time.monotonic() - self._idle_since
            if idle_s > self._settings.idle_s and not self._settings.keep_staged:
                self._session = ""
                break
            if time.monotonic() > deadline:
                return {}
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(deadline - time.monotonic()):
                    await self._changed.wait()
        return None

    def note(self, run_id: str, progress: dict[str, Any]) -> bool:
        """Take note of how far a run is, and return whether it has been given up."""
        self._progress[run_id] = progress
        return self.cancelled(run_id)

    def cancelled(self, run_id: str) -> bool:
        """Return whether a run has been given up."""
        return run_id in self._cancelled

    def finish(self, index: int, outcome: dict[str, Any]) -> None:
        """Take the outcome of the plan at ``index``: the verdict, or ``{"error": text}``."""
        self._idle_since = time.monotonic()
        if index < self._finished:
            return  # told again by a worker that was restarted
        done = self._plans[: index + 1 - self._finished]
        self._plans, self._finished = self._plans[len(done) :], index + 1
        future = self._close(done[-1])
        if future is None or future.done():
            return
        if "error" in outcome:
            future.set_exception(TrainingError(outcome["error"]))
        else:
            future.set_result(outcome)

    # ------------------------------------------------------------------ inside

    def _close(self, plan: RetrainPlan) -> asyncio.Future[dict[str, Any]] | None:
        """Forget a run that has ended; returns where its outcome is awaited."""
        self._runs.close(plan)
        self._progress.pop(plan.run_id, None)
        self._cancelled.discard(plan.run_id)
        return self._outcomes.pop(plan.run_id, None)

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _run(self, session: str) -> None:
        failure = ""
        try:
            await asyncio.to_thread(self._blocking_fit, session)
        except Exception as error:  # every run that waits is told; the next plan starts anew
            failure = f"the training workers failed: {error}"
        if session == self._session:
            self._session = ""
        unserved = self._plans
        if self._settings.keep_staged:
            asyncio.get_running_loop().call_later(RESTAGE_S, self.stage)
        if unserved and not failure and not self._stopping:  # posted while the session went idle
            asyncio.get_running_loop().call_soon(self.stage)
            return
        self._plans, self._finished = [], self._finished + len(unserved)
        for plan in unserved:
            future = self._close(plan)
            if future is not None and not future.done():
                future.set_exception(TrainingError(failure or "the trainer was stopped"))

    def _blocking_fit(self, session: str) -> None:
        from undrift.train.session import serve_plans

        serve_plans(
            session,
            self._state_dir,
            self._settings,
            self._model,
            self._search_path,
            self._reference_rows,
        )

    def _end_hung(self, run_id: str) -> None:
        """End this process if a cancelled run is still under way: its workers hang.

        Ray starts the trainer anew, which frees what they hold.
        """
        if run_id in [plan.run_id for plan in self._plans[:1]]:
            text = "the workers of %s, which was cancelled, do not answer; the trainer starts anew"
            logging.getLogger("undrift").error(text, run_id, extra={"run": run_id})
            os._exit(1)

    def _release_leftovers(self) -> None:
        """Free the CPUs that a session reserved whose trainer was killed."""
        path = place(self._state_dir) / SESSION_FILE
        if not path.exists():
            return
        try:
            group = PlacementGroupID(bytes.fromhex(read_json(path)["placement_group"]))
        except (StoreError, KeyError, TypeError, ValueError):
            logging.getLogger("undrift").warning("%s is damaged; it counts as none", path)
            group = None
        path.remove()
        with contextlib.suppress(Exception):  # gone already, or from an earlier cluster
            remove_placement_group(PlacementGroup(group))
