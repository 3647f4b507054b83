"""What the monitor says, as events: for the controller and for a replay alike."""

from __future__ import annotations

from collections.abc import Iterator

from undrift.control.rollout import comparison
from undrift.control.state import Phase, State
from undrift.events import (
    CandidateFailed,
    Compare,
    ComparisonPassed,
    Event,
    ProbationFailed,
    ProbationPassed,
    Rearm,
    Scored,
)
from undrift.evidence import ComparisonReport, Evidence, ProbationReport


def missed(
    state: State, evidence: Evidence, run_id: str, compared: ComparisonReport
) -> Rearm | Compare | None:
    """Return what a monitor has not heard of, the re-arming first; None if it knows all.

    Args:
        state: What the lifecycle remembers.
        evidence: What the monitor says.
        run_id: Run that its latest re-arming belongs to.
        compared: How the candidate of a rollout is doing.
    """
    baseline, order = state.baseline, comparison(state)
    if baseline is not None and (evidence.version, run_id) != (baseline.version, baseline.run_id):
        return baseline
    if order is not None and (compared.run_id, compared.step) != (order.run_id, order.step):
        return order
    return None


def heard(
    state: State,
    evidence: Evidence,
    probation: ProbationReport,
    compared: ComparisonReport,
    at: float,
) -> Iterator[Event]:
    """Yield the events that follow from what the monitor says, in order.

    Args:
        state: What the lifecycle remembers.
        evidence: What the signals say.
        probation: How the newest version is doing.
        compared: How the candidate of a rollout is doing, in the present stage.
        at: Now, Unix seconds.
    """
    if state.phase is Phase.PROBATION and state.run is not None:
        about = {"at": at, "run_id": state.run.run_id, "detail": probation.detail}
        if probation.status == "passed":
            yield ProbationPassed(**about)  # type: ignore[arg-type]
        elif probation.status == "failed":
            yield ProbationFailed(**about)  # type: ignore[arg-type]
    order = comparison(state)
    if order is not None and (compared.run_id, compared.step) == (order.run_id, order.step):
        run_id, step, why = order.run_id, order.step, compared.detail
        if compared.status == "passed":
            yield ComparisonPassed(at=at, run_id=run_id, step=step, detail=why)
        elif compared.status == "failed":
            yield CandidateFailed(at=at, run_id=run_id, reason=f"worse on late labels: {why}")
    if evidence.version == state.live:
        yield Scored(at=at, evidence=evidence)
