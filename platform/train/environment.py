"""What Ray Train's processes run in: an environment for quick sessions, and who goes first."""

from __future__ import annotations

import os
from typing import Literal


def train_environment() -> dict[str, str]:
    """Return the environment that a cluster needs for quick training sessions."""
    wanted = {
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
        "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
        "RAY_TRAIN_METRICS_ENABLED": "0",
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": "30",
        "TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S": "2",
        "RAY_WARN_BLOCKING_GET_INSIDE_ASYNC": "0",
    }
    return {k: os.environ.get(k, v) for k, v in wanted.items()}


def give_way(nice: int | Literal["idle"]) -> None:
    """Let this thread, and those that it starts from now on, go behind others.

    Args:
        nice: Added to the niceness; "idle": run only where nothing else wants the core.
    """
    if nice != "idle":
        os.nice(nice)
    elif hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    else:  # not Linux
        os.nice(19)
