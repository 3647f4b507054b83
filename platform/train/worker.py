"""One worker of a training session: waits for plans and carries them out."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
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
from undrift.train.candidate import check_reference, judge_candidate
from undrift.train.comm import Comm, SingleProcess, TorchDistributed
from undrift.train.plan import RetrainPlan
from undrift.train.pool import Pool
from undrift.train.retrain import retrain
from undrift.train.scoring import score
from undrift.train.settings import TrainSettings
from undrift.train.start import choose_start, collapsed

ARCHIVE = 8  # older versions that a retraining may start from
SLOWER = 4  # a collapsed candidate is trained again with this fraction of the learning rate
POOL_SPAN = 4  # predictions read for each labelled row that a pool may hold


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
    base = store.state_dict(plan.base_version)
    loaded = time.perf_counter()
    check_reference(pool, plan.regime_start, worker.reference_rows)
    start = choose_start(
        model, _archive(store, plan), pool, regime_start=plan.regime_start, device=device
    )
    for rate in (settings.learning_rate, settings.learning_rate / SLOWER):
        result = retrain(
            model,
            store.state_dict(start),
            pool,
            reference,
            plan,
            settings=settings.model_copy(update={"learning_rate": rate}),
            comm=comm,
            device=device,
        )
        held = result.chosen.validation
        if not collapsed(score(model, pool.x[held], device=device)[0].argmax(1), pool.y[held]):
            break
    verdict, renewed = judge_candidate(
        model,
        base,
        result,
        pool,
        plan,
        settings=settings,
        head=worker.model.embedding,
        device=device,
    )
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
        "training": {**result.metrics, "start_version": start, "learning_rate": rate},
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
        reference=renewed,
        metrics=metrics,
        plan=plan.to_dict(),
        run_id=plan.run_id,
    )
    return {"version": manifest.version, **outcome}


def _archive(store: Store, plan: RetrainPlan) -> Iterator[tuple[int, dict[str, torch.Tensor]]]:
    """Yield the base version, then the newest others that were good enough to serve."""
    good = [m.version for m in store.versions() if m.metrics.get("accepted", True)]
    others = [v for v in good if v != plan.base_version][-ARCHIVE:]
    for version in (plan.base_version, *others):
        yield version, store.state_dict(version)


def _report(worker: WorkerConfig, outcome: dict[str, Any], rank: int) -> None:
    """Give Ray Train the candidate as its checkpoint; every rank must report."""
    if rank != 0 or "error" in outcome:
        ray.train.report({"error": outcome.get("error", "")})
        return
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy2(Store(worker.state).weights_path(outcome["version"]), folder)
        ray.train.report(outcome, checkpoint=ray.train.Checkpoint.from_directory(folder))
