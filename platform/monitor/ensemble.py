"""What the three signals mean together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from undrift.evidence import DriftKind, Level, SignalReport
from undrift.monitor.settings import MonitorSettings

SURE = 1.64
"""Standard errors by which an estimated loss must exceed the tolerance."""


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
    loss_error: float = 0.0,
    segments: Sequence[str] = (),
) -> Verdict:
    """Combine the signals; labels outrank inputs, however many label-free signals agree.

    Label-free evidence alone is at most a warning: inputs may move without harm, and two
    correlated signals are no second opinion. Evidence from labels sets the level by itself. The
    one way round, if the settings allow it, is escalation: labels are missing, a label-free
    signal is at its own drift level, and the label-free estimate of accuracy has fallen by more
    than the tolerance, surely so: by 1.64 standard errors, 95 % one-sided. Errors in a segment
    alone are a warning too: the segment is a part of the stream, and often a small one.

    What has changed is both, inputs and concept, only where a label-free signal is as sure as the
    labels are: a false warning comes twenty times as often as a false drift, and would choose the
    wrong rows to retrain on.

    Args:
        reports: Reports named ``input``, ``output`` and ``performance``.
        settings: Escalation policy.
        labels_missing: True if labels are further away than the configured lag.
        estimated_loss: Label-free estimate of the loss of accuracy, as a fraction.
        loss_error: Standard error of that estimate.
        segments: Names of the segments in which errors have risen.

    Returns:
        Level, kind and reason. Which signals fired, and since when, is in ``reports``.
    """
    by_name = {report.name: report for report in reports}
    performance = by_name["performance"].level
    moved = [r for r in reports if r.name != "performance" and r.level > Level.NONE]
    names = " and ".join(r.name for r in moved)
    losing = estimated_loss - SURE * loss_error > settings.accuracy_tolerance
    strong = any(r.level is Level.DRIFT for r in moved)
    change = f"{-estimated_loss:+.3f} ± {loss_error:.3f}"
    estimate = f"the {names} moved, labels are missing, estimated accuracy {change}"
    kind = DriftKind.COVARIATE if performance is Level.NONE else DriftKind.BOTH
    unseen = labels_missing and performance < Level.DRIFT
    if unseen and settings.escalate_without_labels and strong and losing:
        return Verdict(Level.DRIFT, kind, estimate + ": escalated by policy")
    if performance > Level.NONE:
        worse = "errors on late labels exceed the reference"
        as_sure = " and ".join(r.name for r in moved if r.level >= performance)
        if not as_sure:
            return Verdict(performance, DriftKind.CONCEPT, worse + ", with inputs as before")
        return Verdict(performance, kind, worse + f", and the {as_sure} moved as well")
    if segments:
        where = f"errors have risen in {', '.join(segments)}, not yet in the whole"
        also = f", and the {names} moved as well" if moved else ""
        kind = DriftKind.BOTH if moved else DriftKind.CONCEPT
        return Verdict(Level.WARNING, kind, where + also)
    if not moved:
        blind = "; labels are missing, so errors would not be seen" if labels_missing else ""
        return Verdict(Level.NONE, DriftKind.NONE, "nothing departs from the reference" + blind)
    fine = f"the {names} moved; late labels show no more errors than the reference"
    return Verdict(Level.WARNING, kind, estimate if labels_missing else fine)
