"""The environment that makes Ray Train sessions start and end quickly."""

from __future__ import annotations

import os


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
