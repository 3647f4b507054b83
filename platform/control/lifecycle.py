"""The life of a deployed model as one pure state machine.

`step(state, event)` returns the next state and the instructions to execute. It reads no clock
(time is in the events), no disk and no network. `TABLE` is total: for every phase and every event
it names a rule, or says why the event is ignored or illegal there; `TARGETS` says where each rule
may lead. An illegal event raises and leaves the state as it was; an event of a superseded run is
stale and is ignored.
"""

from __future__ import annotations

from undrift.control import rollout, rules
from undrift.control.settings import LifecycleSettings
from undrift.control.state import Ignored, Illegal, Phase, Rule, State, Step
from undrift.errors import IllegalTransitionError
from undrift.events import (
    AdoptRequested,
    CandidateFailed,
    ComparisonPassed,
    Configured,
    Event,
    PauseRequested,
    ProbationFailed,
    ProbationPassed,
    PromoteRequested,
    Rearm,
    ResumeRequested,
    RetrainRequested,
    RollbackRequested,
    Scored,
    SwapFailed,
    Swapped,
    Tick,
    Trained,
    TrainFailed,
)
from undrift.records import Assignment


def initial(settings: LifecycleSettings, live: int) -> State:
    """Return the state of a platform that has just been deployed with version ``live``."""
    return State(Phase.HEALTHY, settings, Assignment(live), baseline=Rearm(version=live))


def step(state: State, event: Event) -> Step:
    """Return the next state and the instructions that ``event`` leads to.

    Raises:
        IllegalTransitionError: The event is illegal in this phase; the state stands.
    """
    if event.run_id and (state.run is None or event.run_id != state.run.run_id):
        return Step(state, ignored=f"stale: run {event.run_id} is not in progress")
    rule = TABLE[state.phase][type(event)]
    if isinstance(rule, Ignored):
        return Step(state, ignored=rule.reason)
    if isinstance(rule, Illegal):
        raise IllegalTransitionError(f"{rule.reason} (phase {state.phase})")
    return rule(state, event)


_OPERATOR: dict[type[Event], Rule] = {
    Configured: rules.configured,
    RetrainRequested: rules.retrain,
    AdoptRequested: rules.adopt,
    PromoteRequested: rollout.promote,
    RollbackRequested: rules.roll_back,
    PauseRequested: rules.pause,
    ResumeRequested: Ignored("not paused"),
}
_NO_RUN: dict[type[Event], Rule] = {
    Trained: Illegal("nothing is being retrained"),
    TrainFailed: Illegal("nothing is being retrained"),
    Swapped: Illegal("no swap is in progress"),
    SwapFailed: Illegal("no swap is in progress"),
    ComparisonPassed: Ignored("no rollout is in progress"),
    CandidateFailed: Ignored("no rollout is in progress"),
    ProbationPassed: Ignored("no probation is in progress"),
    ProbationFailed: Ignored("no probation is in progress"),
}
_QUIET: dict[type[Event], Rule] = {**_OPERATOR, **_NO_RUN, Tick: Ignored("nothing is due")}
_BUSY = Illegal(rules.SINGLE_FLIGHT)
_TRIAL: dict[type[Event], Rule] = {
    **_QUIET,
    Scored: Ignored("a candidate is being compared with the live version"),
    RetrainRequested: _BUSY,
    AdoptRequested: _BUSY,
    RollbackRequested: rollout.call_off,
    ComparisonPassed: rollout.passed,
    CandidateFailed: rollout.candidate_failed,
    Tick: rollout.over,
}

TABLE: dict[Phase, dict[type[Event], Rule]] = {
    Phase.HEALTHY: {**_QUIET, Scored: rules.watch},
    Phase.WARNING: {**_QUIET, Scored: rules.watch},
    Phase.DRIFT: {**_QUIET, Scored: rules.retry},
    Phase.RETRAINING: {
        **_QUIET,
        Scored: Ignored("a retraining is in progress"),
        RetrainRequested: _BUSY,
        AdoptRequested: rules.adopt_once,
        Trained: rollout.trained,
        TrainFailed: rules.train_failed,
        Tick: rules.train_over,
    },
    Phase.CANDIDATE: {**_QUIET, Scored: Ignored("a candidate waits for an operator")},
    Phase.SHADOW: _TRIAL,
    Phase.CANARY: _TRIAL,
    Phase.SWAPPING: {
        **_QUIET,
        PromoteRequested: rollout.promote_now,
        Scored: Ignored("a swap is in progress"),
        RetrainRequested: _BUSY,
        AdoptRequested: _BUSY,
        PauseRequested: _BUSY,
        Swapped: rules.swapped,
        SwapFailed: rules.swap_failed,
    },
    Phase.PROBATION: {
        **_QUIET,
        Scored: Ignored("probation: the new version is being proven on late labels"),
        Tick: rules.probation_over,
        ProbationPassed: rules.proven,
        ProbationFailed: rules.unproven,
    },
    Phase.COOLDOWN: {**_QUIET, Scored: Ignored("cooldown after a rollback"), Tick: rules.cooled},
    Phase.PAUSED: {
        **_QUIET,
        PromoteRequested: rollout.promote_now,
        Scored: Ignored("paused"),
        RetrainRequested: Illegal("paused: resume first"),
        AdoptRequested: Illegal("paused: resume first"),
        PauseRequested: Ignored("already paused"),
        ResumeRequested: rules.resume,
    },
}

# Where a rule may lead. It may also leave the phase as it is; a phase that is the only target of
# its rule is entered anew, by another run, and so are the stages of a rollout.
TARGETS: dict[Rule, tuple[Phase, ...]] = {
    rules.configured: (),
    rules.watch: (Phase.HEALTHY, Phase.WARNING, Phase.DRIFT, Phase.RETRAINING),
    rules.retry: (Phase.HEALTHY, Phase.RETRAINING),
    rules.retrain: (Phase.RETRAINING,),
    rules.adopt: (Phase.RETRAINING,),
    rules.adopt_once: (),
    rollout.trained: (
        Phase.CANDIDATE,
        Phase.SHADOW,
        Phase.CANARY,
        Phase.SWAPPING,
        Phase.HEALTHY,
        Phase.DRIFT,
        Phase.PROBATION,
    ),
    rollout.passed: (Phase.CANARY, Phase.SWAPPING),
    rollout.over: (Phase.CANARY, Phase.SWAPPING, Phase.HEALTHY, Phase.DRIFT, Phase.PROBATION),
    rollout.candidate_failed: (Phase.HEALTHY, Phase.DRIFT, Phase.PROBATION),
    rollout.call_off: (Phase.SWAPPING, Phase.HEALTHY, Phase.DRIFT, Phase.PROBATION),
    rules.train_failed: (Phase.HEALTHY, Phase.DRIFT, Phase.PROBATION),
    rules.train_over: (Phase.HEALTHY, Phase.DRIFT, Phase.PROBATION),
    rollout.promote_now: (Phase.SWAPPING,),
    rollout.promote: (Phase.SHADOW, Phase.CANARY, Phase.SWAPPING),
    rules.roll_back: (Phase.SWAPPING,),
    rules.swapped: (Phase.PROBATION, Phase.COOLDOWN, Phase.PAUSED),
    rules.swap_failed: (Phase.HEALTHY, Phase.DRIFT, Phase.PAUSED, Phase.PROBATION),
    rules.probation_over: (Phase.HEALTHY,),
    rules.proven: (Phase.HEALTHY,),
    rules.unproven: (Phase.HEALTHY, Phase.SWAPPING),
    rules.cooled: (Phase.HEALTHY,),
    rules.pause: (Phase.PAUSED,),
    rules.resume: (Phase.HEALTHY, Phase.PROBATION),
}


def edges() -> list[tuple[Phase, type[Event], Phase]]:
    """Return every transition that the table allows: from where, by which event, to where."""
    return [
        (phase, event, target)
        for phase, row in TABLE.items()
        for event, rule in row.items()
        for target in TARGETS.get(rule, ())
        if target != phase or len(TARGETS[rule]) == 1 or rule is rollout.promote
    ]
