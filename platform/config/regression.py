"""What a model that answers numbers cannot have, and what it has instead by default."""

from __future__ import annotations

from undrift.monitor.settings import MonitorSettings
from undrift.serve.settings import ReplicaSettings

_OF = "model.task: regression"


def answered_alone(serve: ReplicaSettings) -> ReplicaSettings:
    """Return the same section, in which the live version answers alone.

    Raises:
        ValueError: It says otherwise.
    """
    if serve.mixes and "answer" in serve.model_fields_set:
        raise ValueError(
            f"serve.answer: {serve.answer!r} needs classes, but this is a {_OF}; leave it out: the "
            "live version answers alone"
        )
    return serve.model_copy(update={"answer": "model"})


def check_monitor(monitor: MonitorSettings) -> None:
    """Check that nothing is asked of the monitor that only classes have.

    Raises:
        ValueError: Something is.
    """
    statistic = monitor.performance_statistic
    asked = {
        "performance_statistic": statistic if statistic != "error" else None,
        "season": monitor.season,
        "segments": list(monitor.segments) or None,
        "escalate_without_labels": monitor.escalate_without_labels or None,
    }
    for key, value in asked.items():
        if value is not None:
            raise ValueError(
                f"monitor.{key}: {value!r} needs classes, but this is a {_OF}; leave it out: "
                "squared errors on late labels are what is judged"
            )
