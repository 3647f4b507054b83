"""What the three signals mean together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from undrift.events import DriftKind, Level, SignalReport
from undrift.monitor.settings import MonitorSettings


@dataclass(frozen=True, slots=True)
class Verdict:
    """The ensemble's reading of its signals.

    Attributes:
        level: Level of the ensemble.
        kind: What has changed.
        reason: One sentence for a person.
    """

    level: Level
    kind: DriftKind
    reason: str


def decide(
    reports: Sequence[SignalReport],
    settings: MonitorSettings,
    *,
    labels_missing: bool,
    estimated_loss: float,
) -> Verdict:
    """Combine the signals; labels outrank inputs, however many label-free signals agree.

    Label-free evidence alone is at most a warning: inputs may move without harm, and two
    correlated signals are no second opinion. Evidence from labels sets the level by itself. The
    one way round, if the settings allow it, is escalation: labels are missing, a label-free
    signal is at its own drift level, and the label-free estimate of accuracy has fallen by more
    than the tolerance.

    Args:
        reports: Reports named ``input``, ``output`` and ``performance``.
        settings: Escalation policy.
        labels_missing: True if labels are further away than the configured lag.
        estimated_loss: Label-free estimate of the loss of accuracy, as a fraction.

    Returns:
        Level, kind and reason.
    """
    by_name = {report.name: report for report in reports}
    performance = by_name["performance"].level
    moved = [r for r in reports if r.name != "performance" and r.level > Level.NONE]
    names = " and ".join(r.name for r in moved)
    if performance > Level.NONE:
        kind = DriftKind.BOTH if moved else DriftKind.CONCEPT
        worse = "errors on late labels exceed the reference"
        also = f", and the {names} moved as well" if moved else ", with inputs as before"
        return Verdict(performance, kind, worse + also)
    if not moved:
        unseen = "; labels are missing, so errors would not be seen" if labels_missing else ""
        return Verdict(Level.NONE, DriftKind.NONE, "nothing departs from the reference" + unseen)
    if not labels_missing:
        reason = f"the {names} moved; late labels show no more errors than the reference"
        return Verdict(Level.WARNING, DriftKind.COVARIATE, reason)
    strongest = max(r.level for r in moved)
    losing = estimated_loss > settings.accuracy_tolerance
    estimate = f"the {names} moved, labels are missing, estimated accuracy {-estimated_loss:+.3f}"
    if settings.escalate_without_labels and strongest is Level.DRIFT and losing:
        return Verdict(Level.DRIFT, DriftKind.COVARIATE, estimate + ": escalated by policy")
    return Verdict(Level.WARNING, DriftKind.COVARIATE, estimate)
