"""What the signals take from a reference, and the limits that the budget gives them."""

from __future__ import annotations

import numpy as np

from undrift.errors import ConfigError
from undrift.monitor.settings import MonitorSettings
from undrift.records import Reference

SIGNALS = ("input", "output", "performance", "challenger")
LABELLED = ("performance", "challenger")


def limits(settings: MonitorSettings) -> tuple[float, float]:
    """Split the false-alarm budget over the signals.

    The time to a false alarm of several detectors adds up in rates: s detectors with a mean time
    of at least s N each have one of at least N together, however dependent they are. All four
    signals can warn, so the warning budget is split in four; segments, where there are any,
    share a fifth part. Without escalation only performance and challengers can make a drift, so
    the drift budget is split in two; with escalation all four can, and it is split in four.

    Args:
        settings: States the budget.

    Returns:
        Rows between false warnings and rows between false drifts of each signal.

    Example:
        >>> limits(MonitorSettings(rows_per_false_drift=100_000, warnings_per_drift=20))
        (20000.0, 200000.0)
    """
    shares = len(SIGNALS)
    warners = shares + bool(settings.segments)
    warning = warners * settings.rows_per_false_drift / settings.warnings_per_drift
    drifters = shares if settings.escalate_without_labels else len(LABELLED)
    drift = float(drifters * settings.rows_per_false_drift)
    return min(warning, drift), drift


def recent_rows(reference: Reference, settings: MonitorSettings) -> Reference:
    """Return the rows of ``reference`` on which signals are calibrated.

    Args:
        reference: Reference of the version to be watched.
        settings: Says how many rows are needed.

    Returns:
        The rows of the recent regime.

    Raises:
        ConfigError: They are too few, or not finite.
    """
    index = np.flatnonzero(reference.recent)
    if len(index) < settings.min_reference_rows:
        raise ConfigError(
            f"the reference has {len(index)} rows of the recent regime (of {len(reference)} in "
            f"all), fewer than monitor.min_reference_rows = {settings.min_reference_rows}; hold "
            "out more labelled rows, or lower the setting and accept a later alarm"
        )
    for name in ("x", "embedding", "output"):
        if not np.isfinite(getattr(reference, name)[index]).all():
            raise ConfigError(
                f"the reference holds a value of {name} that is not finite; fill in or drop such "
                "rows before they become a reference"
            )
    return Reference(
        x=reference.x[index],
        y=reference.y[index],
        embedding=reference.embedding[index],
        output=reference.output[index],
        recent=np.ones(len(index), dtype=np.bool_),
        row=reference.rows[index],
    )
