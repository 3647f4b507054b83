"""One worker of a training session: waits for plans and carries them out."""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from ray.actor import ActorHandle

from undrift.errors import TrainingError, UndriftError
from undrift.model.network import factory_of, load_safetensors
from undrift.model.settings import ModelSettings
from undrift.records import Reference
from undrift.store.incoming import Incoming
from undrift.store.place import Root
from undrift.store.runs import Checkpoint, TrainingFolder
from undrift.store.store import Store
from undrift.store.versions import CONDITIONS
from undrift.train.adopt import adopt
from undrift.train.attempt import Attempt, attempt, settled
from undrift.train.comm import Comm, SingleProcess, TorchDistributed
from undrift.train.conditions import conditions
from undrift.train.environment import give_way
from undrift.train.plan import RetrainPlan
from undrift.train.pool import Pool
from undrift.train.result import Progress
from undrift.train.settings import TrainSettings
from undrift.train.stored import read_later, read_pool
from undrift.train.trainee import Trainee

TELL_S = 0.25


@dataclass(frozen=True)
class WorkerConfig:
    """What a worker needs to know; see `TrainerActor`."""

    trainer: ActorHandle
    session: str
    state: Root
    settings: TrainSettings
    model: ModelSettings
    search_path: Path
    reference_rows: int


def worker_loop(config: dict[str, Any]) -> None:
    """Serve plans until the session is over; the entry point that Ray Train calls.

    A plan that cannot be carried out is answered with its error. Anything unforeseen ends the
    worker, and Ray Train starts the group again, which takes up the plan that was in progress.
    """
    worker: WorkerConfig = config["worker"]
    context = ray.train.get_context()
    rank = context.get_world_rank()
    comm: Comm = TorchDistributed() if context.get_world_size() > 1 else SingleProcess()
    give_way(worker.settings.nice)
    torch.set_num_threads(worker.settings.threads)
    model = factory_of(worker.model, worker.search_path)()
    torch.optim.AdamW(model.parameters())  # the first optimizer of a process imports for a second
    group = ray.util.get_current_placement_group()
    ray.get(worker.trainer.join.remote(worker.session, group.id.hex() if group else ""))
    done = 0
    while True:
        message = ray.get(worker.trainer.next_plan.remote(worker.session, done))
        if message is None:
            return
        if not message:
            continue
        index = message.pop("index")
        try:
            outcome = carry_out(worker, RetrainPlan.from_dict(message), comm)
        except UndriftError as error:
            outcome = {"error": str(error)}
        _report(worker, outcome, rank)
        done = index + 1
        if rank == 0:
            ray.get(worker.trainer.finish.remote(index, outcome))


def carry_out(worker: WorkerConfig, plan: RetrainPlan, comm: Comm) -> dict[str, Any]:
    """Retrain, judge, and store the candidate.

    Returns:
        The fields of the `Trained` event.

    Raises:
        TrainingError: No candidate came of it.
    """
    started = time.perf_counter()
    store = Store(worker.state)
    device = ray.train.torch.get_device()
    reference = store.reference(plan.base_version)
    pool = read_pool(store, plan, reference, worker.settings.max_pool_rows)
    model = factory_of(worker.model, worker.search_path)()
    trainee = Trainee(model, worker.model.embedding, device, comm)
    plan = settled(plan, pool, worker.reference_rows, trainee.numbers)
    loaded = time.perf_counter()
    known = conditions(worker.settings, worker.model, pool, reference, device)
    made = _made(worker, plan, trainee, pool, reference)
    outcome = {
        "accepted": made.verdict.accepted,
        "reason": made.verdict.reason,
        "regime_rows": int((pool.row >= plan.regime_start).sum()),
        "regime_start": plan.regime_start,
    }
    if comm.rank != 0:
        return outcome
    if ray.get(worker.trainer.cancelled.remote(plan.run_id)):
        raise TrainingError(f"{plan.run_id} was cancelled")
    seconds = {
        "load": loaded - started,
        "train": made.result.seconds,
        "total": time.perf_counter() - started,
    }
    manifest = store.add_version(
        made.result.state_dict,
        parent=plan.base_version,
        reference=made.reference,
        metrics={**outcome, **made.figures(), "seconds": seconds, CONDITIONS: known},
        plan=plan.to_dict(),
        run_id=plan.run_id,
        choices=None if plan.weights else made.result.log(),
        once=bool(plan.weights),
    )
    return {"version": manifest.version, **outcome}


def _made(
    worker: WorkerConfig, plan: RetrainPlan, trainee: Trainee, pool: Pool, reference: Reference
) -> Attempt:
    """Retrain, or read what was trained elsewhere, and judge it."""
    store = Store(worker.state)
    if plan.weights:
        return adopt(
            trainee,
            load_safetensors(Incoming(worker.state).path(plan.weights)),
            store.state_dict(plan.base_version),
            pool,
            reference,
            plan,
            settings=worker.settings,
            reference_rows=worker.reference_rows,
        )
    comm = trainee.comm
    return attempt(
        trainee,
        [m.version for m in store.versions() if m.metrics.get("accepted", True)],
        store.state_dict,
        pool,
        reference,
        plan,
        settings=worker.settings,
        reference_rows=worker.reference_rows,
        progress=Teller(worker.trainer, plan.run_id, comm, torch.device(trainee.device)),
        checkpoints=_checkpoints(worker, plan, comm),
        later=lambda: read_later(store, plan, reference, worker.settings.max_pool_rows),
    )


def _checkpoints(
    worker: WorkerConfig, plan: RetrainPlan, comm: Comm
) -> Callable[[int], Checkpoint]:
    task = {"plan": plan.to_dict(), "settings": worker.settings.model_dump(mode="json")}
    folder = TrainingFolder(worker.state, plan.run_id)
    return lambda number: folder.checkpoint(number, task, writes=comm.rank == 0)


class Teller:
    """Tells the trainer how far a run is, and hears from it whether the run was given up.

    The first worker tells, a few times a second, and waits for nothing: a message leaves when the
    one before has been answered. All workers then stop at the same round.

    Args:
        trainer: Whom to tell.
        run_id: The run.
        comm: The other workers.
        device: Where they train.
    """

    def __init__(self, trainer: ActorHandle, run_id: str, comm: Comm, device: torch.device) -> None:
        self._trainer, self._run_id = trainer, run_id
        self._comm, self._device = comm, device
        self._due = 0.0
        self._told: Any = None

    def __call__(self, progress: Progress) -> None:
        """Tell how far the run is.

        Raises:
            TrainingError: It was given up.
        """
        stop = torch.zeros(1, device=self._device)
        if self._comm.rank == 0 and self._tell(progress):
            stop += 1.0
        self._comm.mean_([stop])
        if stop.item():
            raise TrainingError(f"{self._run_id} was cancelled")

    def _tell(self, progress: Progress) -> bool:
        now = time.monotonic()
        if now < self._due or not math.isfinite(progress.loss):
            return False
        if self._told is not None and not ray.wait([self._told], timeout=0)[0]:
            return False
        given_up = self._told is not None and ray.get(self._told)
        figures = {**asdict(progress), "eta_s": progress.eta_s}
        self._told = self._trainer.note.remote(self._run_id, figures)
        self._due = now + TELL_S
        return bool(given_up)


def _report(worker: WorkerConfig, outcome: dict[str, Any], rank: int) -> None:
    """Give Ray Train the candidate as its checkpoint; every rank must report."""
    if rank != 0 or "error" in outcome:
        ray.train.report({"error": outcome.get("error", "")})
        return
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy2(Store(worker.state).weights_path(outcome["version"]), folder)
        ray.train.report(outcome, checkpoint=ray.train.Checkpoint.from_directory(folder))
