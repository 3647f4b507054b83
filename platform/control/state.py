"""What the lifecycle remembers: settings, phases and state; the shape of its rules and steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from undrift.control.settings import LifecycleSettings, RolloutStage
from undrift.events import Event, Instruction, Rearm
from undrift.evidence import DriftKind, Evidence
from undrift.records import Assignment


class Phase(StrEnum):
    """Where the deployed model is in its life."""

    HEALTHY = "healthy"
    WARNING = "warning"
    DRIFT = "drift"
    RETRAINING = "retraining"
    CANDIDATE = "candidate"
    SHADOW = "shadow"
    CANARY = "canary"
    SWAPPING = "swapping"
    PROBATION = "probation"
    COOLDOWN = "cooldown"
    PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt to change the live version.

    Attributes:
        run_id: Its id, unique within a state directory: its number, and the salt of its event.
        trigger: better, drift, refine, amount, operator, weights, or rollback.
        resume: Phase to return to if it fails.
        started: Unix seconds.
        version: The version it wants live, once known.
    """

    run_id: str
    trigger: str
    resume: Phase
    started: float
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """A rollout by stages, as it was planned when it began.

    Attributes:
        plan: Its stages: ``shadow`` or ``canary``, share of the requests, labelled rows.
        step: The present one, counted from 0.
        since: When that began, Unix seconds.
    """

    plan: tuple[RolloutStage, ...]
    step: int
    since: float

    @property
    def stage(self) -> RolloutStage:
        """The present stage."""
        return self.plan[self.step]


@dataclass(frozen=True, slots=True)
class State:
    """Everything that the lifecycle remembers.

    Attributes:
        phase: Present phase.
        settings: Policy in force.
        assignment: Versions that the replicas hold.
        previous: Version that `rollback` goes back to.
        run: The run in progress; None in phases without one.
        trial: The rollout of the run's version; None in phases without one.
        proving: The run whose version is on probation, also while something else is going on.
        runs: Runs begun so far.
        attempts: Failed runs since the last proven promotion; drives the back-off.
        not_before: Earliest time of the next automatic retraining, Unix seconds.
        evidence: Evidence of the drift being dealt with.
        regime_kind: What had changed when the present regime began.
        regime_start: First row of the regime that the live version was trained for.
        regime_rows: Labelled rows of that regime that it was trained on.
        refinements: Refinements done for that regime.
        labelled: Labels that had arrived when the last automatic retraining began.
        outstanding: Instructions without an outcome yet; issued again after a restart.
        baseline: What the monitor was last told to calibrate on.
    """

    phase: Phase
    settings: LifecycleSettings
    assignment: Assignment
    previous: int | None = None
    run: Run | None = None
    trial: Trial | None = None
    proving: Run | None = None
    runs: int = 0
    attempts: int = 0
    not_before: float = 0.0
    evidence: Evidence | None = None
    regime_kind: DriftKind = DriftKind.NONE
    regime_start: int = 0
    regime_rows: int = 0
    refinements: int = 0
    labelled: int = 0
    outstanding: tuple[Instruction, ...] = ()
    baseline: Rearm | None = None

    @property
    def live(self) -> int:
        """Version that answers requests."""
        return self.assignment.live

    def rests(self, at: float) -> bool:
        """Tell whether no automatic run may begin yet.

        A wait that is longer than any can be was set by a clock that has been put back since; it
        is over.

        Args:
            at: Now, Unix seconds.
        """
        longest = max(self.settings.cooldown_s, self.settings.backoff_max_s)
        return 0 < self.not_before - at < longest + 1


@dataclass(frozen=True, slots=True)
class Step:
    """Outcome of one event: the next state, what to do, and why if it was ignored."""

    state: State
    instructions: tuple[Instruction, ...] = ()
    ignored: str = ""


@dataclass(frozen=True, slots=True)
class Ignored:
    """The event is harmless in this phase."""

    reason: str


@dataclass(frozen=True, slots=True)
class Illegal:
    """The event cannot happen, or may not be asked for, in this phase."""

    reason: str


Rule = Callable[[State, Event], Step] | Ignored | Illegal
