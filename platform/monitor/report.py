"""What the monitor tells the controller."""

from __future__ import annotations

from dataclasses import dataclass, field

from undrift.evidence import ComparisonReport, Evidence, ProbationReport
from undrift.views import SummaryView


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorReport:
    """What the monitor tells the controller after a step.

    Attributes:
        evidence: What the signals say.
        run_id: Run that the latest re-arming belongs to.
        probation: How the newest version is doing.
        comparison: How the candidate of a rollout is doing.
        summary: Labels, accuracy, segments, calibration.
        commit: Number of the last commit that it covers.
        lost_rows: Predictions that could not be made durable.
        failure: What fails at present; empty if nothing does.
    """

    evidence: Evidence
    run_id: str
    probation: ProbationReport
    summary: SummaryView
    commit: int
    lost_rows: int = 0
    failure: str = ""
    comparison: ComparisonReport = field(default_factory=ComparisonReport)
