"""The trainer where another Ray cluster trains: each run is a job there, and is followed from here.

What the two clusters have to tell each other lies in the state, beside the run's plan: the name of
the job, before it is handed in, so that a trainer that comes after a kill takes up the same one;
how far it is; and its outcome. A job whose run is forgotten, or has another job, gives up.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from undrift.dashboard.cargo import modules_in, ourselves
from undrift.dashboard.jobs import Dashboard
from undrift.errors import AwayError, PlatformError, StoreError, TrainingError, last_line
from undrift.events import Codec, Train
from undrift.model.settings import ModelSettings
from undrift.store.place import Root
from undrift.store.runs import JOB, OUTCOME, PROGRESS, TrainingFolder
from undrift.train.course import GOING, Course, job_name
from undrift.train.desk import ORDER_FILE
from undrift.train.environment import train_environment
from undrift.train.plan import RetrainPlan
from undrift.train.runs import Runs
from undrift.train.settings import TrainSettings

LOOK_S = 0.5
ASK_S = 2.0
START = {"RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600"}  # machines may have to be made first
END_S = 60.0  # by when a job that was stopped, or is over, is gone


class AwayTrainer:
    """What `TrainerActor` is, for runs that are jobs in another cluster; the arguments are its.

    It keeps nothing waiting over there: staging does nothing.
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
        self._state, self._settings = state, settings
        self._runs = Runs(state, settings, mixed=mixed)
        here = settings.model_copy(update={"address": "", "token_file": None})
        self._order = {
            "state": str(state if not isinstance(state, Path) else state.absolute()),
            "settings": here.model_dump(mode="json"),
            "model": model.model_dump(mode="json"),
            "reference_rows": reference_rows,
        }
        self._name, self._search_path = model.name, search_path
        self._jobs: dict[str, tuple[Job, asyncio.Task[dict[str, Any]]]] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def stage(self) -> None:
        """Do nothing: a warning is too often nothing to hold another cluster's machines for."""

    async def train(self, instruction: dict[str, Any]) -> dict[str, Any]:
        """Carry out a `Train` instruction; the same run asked for twice is one job.

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
        if order.run_id not in self._jobs:
            plan = self._runs.begin(order, [job.plan for job, _ in self._jobs.values()])
            job = Job(self._state, self._name, plan, self._settings, self._runs)
            task = asyncio.get_running_loop().create_task(self._carried_out(job))
            self._jobs[order.run_id] = job, task
        return await asyncio.shield(self._jobs[order.run_id][1])

    def progress(self, run_id: str) -> dict[str, Any] | None:
        """Return how far a run is, as `worker.Teller` tells it; None if nothing was told yet."""
        return self._jobs[run_id][0].progress if run_id in self._jobs else None

    def cancel(self, run_id: str) -> None:
        """Give up a run; its job is stopped, and gives up by itself where it cannot be reached."""
        if run_id in self._jobs:
            self._jobs[run_id][0].leave(f"{run_id} was cancelled")
        else:  # a kill came between
            TrainingFolder(self._state, run_id).remove()

    async def stop(self, leave: bool = False) -> None:
        """End what is under way; the platform's next start hands it in again.

        Args:
            leave: Whether jobs go on, for a trainer that comes after this one.
        """
        jobs = [job for job, _ in self._jobs.values()]
        for job in jobs:
            job.leave()
        if not leave:
            await asyncio.gather(*(asyncio.to_thread(job.put_off) for job in jobs))

    async def _carried_out(self, job: Job) -> dict[str, Any]:
        try:
            return await asyncio.to_thread(job.follow, self._search_path, self._order)
        except _LeftError:
            return await asyncio.Future()  # nobody is told of an end that is none
        finally:
            if not job.is_left:
                self._jobs.pop(job.plan.run_id)
                ending = asyncio.get_running_loop().create_task(asyncio.to_thread(job.end))
                self._ending.add(ending)
                ending.add_done_callback(self._ending.discard)


class _LeftError(Exception):
    """The job goes on, or is put off, and this process has no more to do with it."""


class Job:
    """One run as a job.

    Args:
        state: The model's folder of the state.
        model: The model's name.
        plan: The run's plan, which is kept in the state.
        settings: The train section of the configuration.
        runs: The runs that are under way.

    Attributes:
        plan: The run's plan.
        name: How the other cluster calls the job.
        progress: How far it is; None if nothing was told yet.
    """

    def __init__(
        self, state: Root, model: str, plan: RetrainPlan, settings: TrainSettings, runs: Runs
    ) -> None:
        self.plan, self._runs, self._settings = plan, runs, settings
        self._folder = TrainingFolder(state, plan.run_id)
        self._state, self._model = state, model
        self._attempt = int((self._folder.told(JOB) or {"attempt": 1})["attempt"])
        self.name = job_name(state, model, plan.run_id, self._attempt)
        self.progress: dict[str, Any] | None = None
        self._left = threading.Event()
        self._why_left = ""

    @property
    def is_left(self) -> bool:
        """Whether it is left to whoever comes next, and not given up."""
        return self._left.is_set() and not self._why_left

    def leave(self, why: str = "") -> None:
        """Have `follow` return: with an error, if it is told why the run is given up."""
        if not self._left.is_set():
            self._why_left = why
            self._left.set()

    def follow(self, search_path: Path, order: dict[str, Any]) -> dict[str, Any]:
        """Hand the job in, unless the cluster has it, and wait for what comes of it.

        Args:
            search_path: Folder of the project.
            order: What it has to know beside the plan.

        Returns:
            The fields of the `Trained` event.

        Raises:
            TrainingError: No candidate came of it.
        """
        self._folder.tell(JOB, {"attempt": self._attempt, "job": self.name})
        course, dashboard, due = Course(self._settings.address, self.name), None, 0.0
        while True:
            self.progress = self._folder.seen(PROGRESS) or self.progress
            if time.monotonic() >= due:
                try:
                    dashboard = dashboard or self._dashboard()
                    status, said = dashboard.status(self.name)
                    if status not in ("", "SUCCEEDED", *GOING):
                        said = last_line(dashboard.log(self.name) or said)
                    if outcome := self._outcome(ended=status not in GOING):
                        return outcome
                    if course.heard(status, said):
                        self._hand_in(dashboard, search_path, order)
                        course.taken()
                except PlatformError as error:
                    dashboard = None
                    course.away(str(error), for_good=not isinstance(error, AwayError))
                due = time.monotonic() + ASK_S
            if outcome := self._outcome():
                return outcome
            if self._left.wait(LOOK_S):
                raise TrainingError(self._why_left) if self._why_left else _LeftError

    def put_off(self) -> None:
        """Stop the job, so that whoever comes next hands in another, which goes on from there."""
        attempt = self._attempt + 1
        name = job_name(self._state, self._model, self.plan.run_id, attempt)
        with suppress(StoreError, PlatformError):
            self._folder.tell(JOB, {"attempt": attempt, "job": name})
            self._dashboard().stop(self.name)

    def end(self) -> None:
        """See to it that nothing is left of the job, here and over there."""
        deadline, trouble = time.monotonic() + END_S, "it has not ended"
        self._runs.close_weights(self.plan)
        given_up = self._folder.seen(OUTCOME) is None
        if given_up:  # by this the job knows, also where it cannot be reached
            self._folder.remove()
        while time.monotonic() < deadline:
            try:
                dashboard = self._dashboard()
                if dashboard.status(self.name)[0] not in GOING:
                    break
                if given_up:
                    dashboard.stop(self.name)
            except PlatformError as error:
                trouble = str(error)
            time.sleep(ASK_S)
        else:
            text = "job %s, which is over, was not seen to end: %s"
            logging.getLogger("undrift").warning(text, self.name, trouble)
        self._folder.remove()

    def _outcome(self, *, ended: bool = False) -> dict[str, Any] | None:
        """Return what came of the run, if the state has it.

        Args:
            ended: Whether to look for a version, too, that the job stored before it was cut off.

        Raises:
            TrainingError: It failed.
        """
        told = self._folder.seen(OUTCOME)
        if told is None:
            return self._runs.stored(self.plan.run_id) if ended else None
        if "error" in told:
            raise TrainingError(told["error"])
        return told

    def _dashboard(self) -> Dashboard:
        return Dashboard(self._settings.address, self._settings.token_file)

    def _hand_in(self, dashboard: Dashboard, search_path: Path, order: dict[str, Any]) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            project = Path(scratch) / "project"
            project.mkdir()
            skipped = self._state.parent.parent if isinstance(self._state, Path) else ""
            for name in modules_in(search_path, skipped):
                (project / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(search_path / name, project / name)
            (project / ORDER_FILE).write_text(json.dumps(order), encoding="utf-8")
            modules = [str(part) for part in ourselves(Path(scratch))]
            dashboard.hand_in(
                self.name,
                f"python -m undrift.train.job {self.plan.run_id} {self.name}",
                {
                    "working_dir": str(project),
                    "py_modules": modules,
                    "env_vars": {**train_environment(), **START},
                },
            )
