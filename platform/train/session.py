"""One Ray Train run. Imported when one is started: Ray Train and PyTorch take seconds to import."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.train.v2.api.config import LoggingConfig

from undrift.model.settings import ModelSettings
from undrift.store.bucket import SCHEME
from undrift.store.place import Root
from undrift.store.runs import TRAINING
from undrift.train.rendezvous import Rendezvous
from undrift.train.settings import TrainSettings
from undrift.train.worker import WorkerConfig, worker_loop

WORKER_RETRIES = 3


def _storage(where: Root) -> dict[str, Any]:
    """Return where Ray Train keeps what it is told, which nothing of ours reads."""
    if isinstance(where, Path):
        return {"storage_path": str(where.absolute())}
    from pyarrow.fs import S3FileSystem

    scheme, _, host = os.environ.get("AWS_ENDPOINT_URL", "").partition("://")
    endpoint = {"endpoint_override": host, "scheme": scheme} if host else {}
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    files = S3FileSystem(**endpoint, **({"region": region} if region else {}))
    return {"storage_path": str(where).removeprefix(SCHEME), "storage_filesystem": files}


class _Trainer(TorchTrainer):  # type: ignore[misc]
    """TorchTrainer without two helper actors that need Ray's dashboard or Ray Data.

    What they are for, the release of the placement group after a kill, `TrainerActor` does itself.
    """

    def _create_default_callbacks(self) -> list[Any]:
        unwanted = {"PlacementGroupCleanerCallback", "DatasetsCallback"}
        found = super()._create_default_callbacks()
        return [c for c in found if type(c).__name__ not in unwanted]


def serve_plans(
    session: str,
    state: Root,
    settings: TrainSettings,
    model: ModelSettings,
    search_path: Path,
    reference_rows: int,
    trainer: ActorHandle | None = None,
    storage: Root | None = None,
) -> None:
    """Run the workers of a session until its trainer ends it.

    Args:
        session: Its name.
        state: The model's folder of the state.
        settings: The train section of the configuration.
        model: The model section of the configuration.
        search_path: Folder that holds the user's model module.
        reference_rows: Held-out rows of its regime that a new version is watched by, at least.
        trainer: Whom the workers ask for plans; None: the actor that calls.
        storage: Where Ray Train keeps what it is told; None: beside the runs.
    """
    gpus = ray.cluster_resources().get("GPU", 0)
    use_gpu = gpus >= settings.workers if settings.use_gpu == "auto" else settings.use_gpu
    config = WorkerConfig(
        trainer=trainer or ray.get_runtime_context().current_actor,
        session=session,
        state=state,
        settings=settings,
        model=model,
        search_path=search_path,
        reference_rows=reference_rows,
    )
    fitted = _Trainer(
        worker_loop,
        train_loop_config={"worker": config},
        torch_config=Rendezvous(),
        scaling_config=ScalingConfig(
            num_workers=settings.workers,
            use_gpu=use_gpu,
            placement_strategy="SPREAD",  # as far as there are nodes; a lost one takes one along
            resources_per_worker={"CPU": 0.5, **({"GPU": 1} if use_gpu else {})},
        ),
        run_config=RunConfig(
            name=session,
            **_storage(storage or state / TRAINING),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
            failure_config=FailureConfig(max_failures=WORKER_RETRIES),
            logging_config=LoggingConfig(log_level="ERROR"),
            worker_runtime_env={"env_vars": {"OMP_NUM_THREADS": str(settings.threads)}},
        ),
    )
    fitted.fit()
