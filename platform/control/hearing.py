"""What the monitor says, as events: for the controller and for a replay alike."""

from __future__ import annotations

from collections.abc import Iterator

from undrift.control.state import Phase, State
from undrift.events import Event, ProbationFailed, ProbationPassed, Rearm, Scored
from undrift.evidence import Evidence, ProbationReport


def missed(state: State, evidence: Evidence, run_id: str) -> Rearm | None:
    """Return the re-arming that a monitor has not heard of, if there is one.

    Args:
        state: What the lifecycle remembers.
        evidence: What the monitor says.
        run_id: Run that its latest re-arming belongs to.
    """
    baseline = state.baseline
    if baseline is None or (evidence.version, run_id) == (baseline.version, baseline.run_id):
        return None
    return baseline


def heard(
    state: State, evidence: Evidence, probation: ProbationReport, at: float
) -> Iterator[Event]:
    """Yield the events that follow from what the monitor says, in order.

    Args:
        state: What the lifecycle remembers.
        evidence: What the signals say.
        probation: How the newest version is doing.
        at: Now, Unix seconds.
    """
    if state.phase is Phase.PROBATION and state.run is not None:
        about = {"at": at, "run_id": state.run.run_id, "detail": probation.detail}
        if probation.status == "passed":
            yield ProbationPassed(**about)  # type: ignore[arg-type]
        elif probation.status == "failed":
            yield ProbationFailed(**about)  # type: ignore[arg-type]
    if evidence.version == state.live:
        yield Scored(at=at, evidence=evidence)
