"""Which statistic late labels are judged by."""

from __future__ import annotations

from collections.abc import Callable

from undrift.errors import ConfigError
from undrift.monitor.join import LabelSignal
from undrift.monitor.settings import MonitorSettings
from undrift.monitor.signals.error import PerformanceSignal
from undrift.monitor.signals.loss import LossSignal
from undrift.monitor.signals.river import RiverSignal
from undrift.monitor.signals.score import ScoreSignal
from undrift.monitor.signals.squared_error import SquaredErrorSignal

_STATISTICS: dict[str, Callable[[MonitorSettings], LabelSignal]] = {
    "error": PerformanceSignal,
    "loss": LossSignal,
    "score": ScoreSignal,
}


def performance_signal_for(settings: MonitorSettings, *, numbers: bool = False) -> LabelSignal:
    """Return the performance signal that ``performance_statistic`` asks for, not yet fitted.

    Args:
        settings: Statistic and budget.
        numbers: Whether labels are numbers; then ``error`` is the squared error.

    Returns:
        A signal that reports as ``performance``.

    Raises:
        ConfigError: The statistic names a detector that cannot be imported or built, or options
            are given for a statistic that takes none, or a season for one that knows none.
    """
    if numbers:
        return SquaredErrorSignal(settings)
    kind = _STATISTICS.get(settings.performance_statistic, RiverSignal)
    if kind is not RiverSignal and settings.performance_options:
        raise ConfigError(
            f"monitor.performance_options: {', '.join(settings.performance_options)} given, but "
            f"performance_statistic = {settings.performance_statistic!r} takes none; they are for "
            "a detector named as module:Class"
        )
    if settings.season and kind is not PerformanceSignal:
        raise ConfigError(
            f"monitor.season: {settings.season!r} given, but only performance_statistic = 'error' "
            f"knows seasons, not {settings.performance_statistic!r}; leave one of them out"
        )
    return kind(settings)
