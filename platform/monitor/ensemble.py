"""What the signals mean together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from undrift.evidence import Challenger, DriftKind, Level, SignalReport
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
    labelled: int,
    labels_missing: bool,
    estimated: tuple[float, float] | None,
    numbers: bool = False,
    segments: Sequence[str] = (),
    leader: Challenger | None = None,
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
        reports: Reports named ``input``, ``output``, ``performance`` and, if there is one,
            ``challenger``.
        settings: Escalation policy.
        labelled: Labels that have come; before the first no sentence says what labels show.
        labels_missing: True if labels are further away than the configured lag.
        estimated: Label-free estimate of the loss of accuracy, as a fraction, and its standard
            error; None where there is none.
        numbers: Whether answers are numbers, not classes.
        segments: Names of the segments in which errors have risen.
        leader: The challenger with the most evidence.

    Returns:
        Level, kind and reason. Which signals fired, and since when, is in ``reports``.
    """
    by_name = {report.name: report for report in reports}
    performance = by_name["performance"].level
    better = by_name["challenger"].level if "challenger" in by_name else Level.NONE
    moved = [r for r in reports if r.name in ("input", "output") and r.level > Level.NONE]
    names = " and ".join(r.name for r in moved)
    loss, error = estimated or (0.0, 0.0)
    losing = loss - SURE * error > settings.accuracy_tolerance
    strong = any(r.level is Level.DRIFT for r in moved)
    estimate = f"the {names} moved, labels are missing"
    if estimated is not None:
        estimate += f", estimated accuracy {-loss:+.3f} ± {error:.3f}"
    kind = DriftKind.COVARIATE if performance is Level.NONE else DriftKind.BOTH
    unseen = labels_missing and performance < Level.DRIFT
    if unseen and settings.escalate_without_labels and strong and losing:
        return Verdict(Level.DRIFT, kind, estimate + ": escalated by policy")
    labels = max(performance, better)
    if labels > Level.NONE:
        as_sure = " and ".join(r.name for r in moved if r.level >= labels)
        found = _from_labels(performance, better, leader, numbers=numbers)
        if not as_sure:
            return Verdict(labels, DriftKind.CONCEPT, found + ", with inputs as before")
        return Verdict(labels, DriftKind.BOTH, found + f", and the {as_sure} moved as well")
    if segments:
        where = f"errors have risen in {', '.join(segments)}, not yet in the whole"
        also = f", and the {names} moved as well" if moved else ""
        kind = DriftKind.BOTH if moved else DriftKind.CONCEPT
        return Verdict(Level.WARNING, kind, where + also)
    if not moved:
        blind = "" if labelled else "; no label has come yet"
        if labels_missing:
            blind = "; labels are missing, so errors would not be seen"
        return Verdict(Level.NONE, DriftKind.NONE, "nothing departs from the reference" + blind)
    shown = "late labels show no more errors than the reference"
    fine = f"the {names} moved; {shown if labelled else 'no label has come yet'}"
    return Verdict(Level.WARNING, kind, estimate if labels_missing else fine)


def _from_labels(
    performance: Level, better: Level, leader: Challenger | None, *, numbers: bool
) -> str:
    """Return what the labels say: that the model is worse, or that another one would be better."""
    worse = "errors on late labels exceed the reference"
    if leader is None or better is Level.NONE:
        return worse + (", and nothing tried would do better" if leader is not None else "")
    ahead = f"a model of {leader.name} would answer {leader.lead:+.1%} more labels right"
    if numbers:
        ahead = f"a model of {leader.name} would have an R2 {leader.lead:+.3f} above it"
    return ahead if performance is Level.NONE else f"{worse}, and {ahead}"
