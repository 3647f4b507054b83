"""The entry point of a job that carries out one run in another cluster than the platform's.

`undrift.train.away` hands it in and follows it. Its workers are those of every retraining.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import ray

from undrift.errors import TrainingError, UndriftError
from undrift.model.settings import ModelSettings
from undrift.store.bucket import Bucket
from undrift.store.place import Root
from undrift.store.runs import TRAINING, TrainingFolder
from undrift.train.desk import ORDER_FILE, Desk, conclude, goes_on
from undrift.train.settings import TrainSettings

WATCH_S = 1.0
CACHE = Path("cache")  # in the job's working directory, which Ray removes


def main(run_id: str, job: str) -> None:
    """Carry out a run; its outcome is in the state.

    Args:
        run_id: The run.
        job: The name of this job.

    Raises:
        UndriftError: Nothing came of it.
    """
    given = json.loads(Path(ORDER_FILE).read_text(encoding="utf-8"))
    named = given["state"]
    state: Root = Bucket(named, CACHE) if "://" in named else Path(named)
    folder = TrainingFolder(state, run_id)
    if not folder.is_kept():
        raise TrainingError(
            f"this cluster does not see {run_id} in {state}: let `state` be a path that both "
            "clusters share, or a bucket that both reach"
        )
    ray.init(log_to_driver=False, logging_level="error")
    over = threading.Event()
    threading.Thread(target=_watch, args=(folder, job, over), daemon=True).start()
    try:
        _serve(state, run_id, job, given)
    except Exception as error:
        ours = isinstance(error, UndriftError)
        text = str(error) if ours else f"the training workers failed: {error}"
        conclude(folder, job, {"error": text})
        raise TrainingError(text) from error
    finally:
        over.set()


def _serve(state: Root, run_id: str, job: str, given: dict[str, Any]) -> None:
    from undrift.train.session import serve_plans

    desk = ray.remote(Desk).options(num_cpus=0, max_restarts=-1, max_task_retries=-1)
    serve_plans(
        job,
        state,
        TrainSettings.model_validate(given["settings"]),
        ModelSettings.model_validate(given["model"]),
        Path(),
        given["reference_rows"],
        trainer=desk.remote(state, run_id, job),
        storage=state / TRAINING / run_id,
    )


def _watch(folder: TrainingFolder, job: str, over: threading.Event) -> None:
    """End this process, and all that it has started with it, when its run is given up."""
    while not over.wait(WATCH_S):
        if not goes_on(folder, job):
            sys.stderr.write(f"error: {job} was given up\n")
            sys.stderr.flush()
            os._exit(1)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (UndriftError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(1)
