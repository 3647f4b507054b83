"""One worker of a training session: waits for plans and carries them out."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from ray.actor import ActorHandle

from undrift.config import ModelSection
from undrift.errors import TrainingError, UndriftError
from undrift.model import load_factory
from undrift.store import Store
from undrift.train.attempt import POOL_SPAN, attempt
from undrift.train.comm import Comm, SingleProcess, TorchDistributed
from undrift.train.plan import RetrainPlan
from undrift.train.pool import Pool
from undrift.train.settings import TrainSettings


@dataclass(frozen=True)
class WorkerConfig:
    """What a worker needs to know; see `TrainerActor`."""

    trainer: ActorHandle
    session: str
    state: Path
    settings: TrainSettings
    model: ModelSection
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
    os.nice(worker.settings.nice)
    torch.set_num_threads(worker.settings.threads)
    model = load_factory(worker.model.factory, worker.search_path)()
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
        ``version, accepted, reason, regime_rows``, as the `Trained` event has them.

    Raises:
        TrainingError: No candidate came of it.
    """
    started = time.perf_counter()
    store, settings = Store(worker.state), worker.settings
    device = ray.train.torch.get_device()
    reference = store.reference(plan.base_version)
    tables = plan.table_versions or {}
    predictions = store.predictions(
        since_row=max(0, plan.until_row - POOL_SPAN * settings.max_pool_rows),
        until_row=plan.until_row,
        version=tables.get("predictions"),
    )
    labels = store.labels(version=tables.get("labels"))
    pool = Pool.build(predictions, labels, reference, settings.max_pool_rows)
    model = load_factory(worker.model.factory, worker.search_path)()
    loaded = time.perf_counter()
    made = attempt(
        model,
        [m.version for m in store.versions() if m.metrics.get("accepted", True)],
        store.state_dict,
        pool,
        reference,
        plan,
        settings=settings,
        reference_rows=worker.reference_rows,
        head=worker.model.embedding,
        comm=comm,
        device=device,
    )
    result, verdict = made.result, made.verdict
    outcome = {
        "accepted": verdict.accepted,
        "reason": verdict.reason,
        "regime_rows": int((pool.row >= plan.regime_start).sum()),
    }
    if comm.rank != 0:
        return outcome
    if ray.get(worker.trainer.cancelled.remote(plan.run_id)):
        raise TrainingError(f"{plan.run_id} was cancelled")
    metrics = {
        **outcome,
        "gate": verdict.metrics,
        "training": {
            **result.metrics,
            "start_version": made.start_version,
            "learning_rate": made.learning_rate,
        },
        "flops": result.flops,
        "seconds": {
            "load": loaded - started,
            "train": result.seconds,
            "total": time.perf_counter() - started,
        },
        "audit": result.audit(),
    }
    manifest = store.add_version(
        result.state_dict,
        parent=plan.base_version,
        reference=made.reference,
        metrics=metrics,
        plan=plan.to_dict(),
        run_id=plan.run_id,
    )
    return {"version": manifest.version, **outcome}


def _report(worker: WorkerConfig, outcome: dict[str, Any], rank: int) -> None:
    """Give Ray Train the candidate as its checkpoint; every rank must report."""
    if rank != 0 or "error" in outcome:
        ray.train.report({"error": outcome.get("error", "")})
        return
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy2(Store(worker.state).weights_path(outcome["version"]), folder)
        ray.train.report(outcome, checkpoint=ray.train.Checkpoint.from_directory(folder))
