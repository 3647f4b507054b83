"""The stages of a rollout, between a candidate and its promotion: one pure rule to an event.

Replicas and the monitor are told nothing here: the controller shows them `State.assignment` and
`comparison` until they have them, so a restart of any of them needs no order again.
"""

from __future__ import annotations

from dataclasses import replace

from undrift.control import rules
from undrift.control.rules import cancel, failed, named, rest, roll_back, swap_to, to
from undrift.control.state import Phase, Run, State, Step, Trial
from undrift.errors import IllegalTransitionError
from undrift.events import (
    CandidateFailed,
    Compare,
    ComparisonPassed,
    Event,
    Instruction,
    Notify,
    PromoteRequested,
    RollbackRequested,
    Trained,
)
from undrift.records import Assignment

STAGES = (Phase.SHADOW, Phase.CANARY)


def comparison(state: State) -> Compare | None:
    """Return what the monitor shall compare in the present stage; None without one."""
    if state.trial is None or state.run is None or state.run.version is None:
        return None
    kind, _, rows = state.trial.stage
    return Compare(
        run_id=state.run.run_id,
        version=state.run.version,
        against=state.live,
        canary=kind == "canary",
        step=state.trial.step,
        rows=rows,
    )


def trained(state: State, event: Event) -> Step:
    """Take the gate's verdict on a candidate; one that goes on does so by stages, if configured."""
    return rules.trained(state, event, _begin)


def _begin(state: State, event: Trained, *before: Instruction) -> Step:
    plan = state.settings.rollout.plan()
    if not plan:
        return swap_to(state, event.version, *before)
    return _enter(state, Trial(plan, 0, event.at), *before)


def promote(state: State, event: Event) -> Step:
    """An operator wants a version live, at once or by stages."""
    assert isinstance(event, PromoteRequested)
    if event.strategy == "now":
        return promote_now(state, event)
    plan = state.settings.rollout.plan(event.strategy)
    return _enter(_asked(state, event), Trial(plan, 0, event.at), *cancel(state))


def promote_now(state: State, event: Event) -> Step:
    """An operator wants a version live; no stages can begin in this phase."""
    assert isinstance(event, PromoteRequested)
    if event.strategy != "now":
        raise IllegalTransitionError(
            f"no stages can begin now: wait, resume, or promote at once (phase {state.phase})"
        )
    return swap_to(_alone(_asked(state, event)), event.version, *cancel(state))


def _asked(state: State, event: PromoteRequested) -> State:
    """Return the state with the run that an operator has begun."""
    if event.version == state.live and state.phase != Phase.SWAPPING:
        raise IllegalTransitionError(f"version {event.version} is already live")
    run = Run(named(state, event), "operator", rest(state), event.at, event.version)
    return replace(state, run=run, runs=state.runs + 1)


def passed(state: State, event: Event) -> Step:
    """The candidate held up in this stage: the next one, or the swap."""
    assert isinstance(event, ComparisonPassed)
    assert state.trial is not None
    if event.step != state.trial.step:
        return Step(state, ignored=f"stale: stage {event.step + 1} is over")
    return _go_on(state, event.at, f"held up: {event.detail}")


def candidate_failed(state: State, event: Event) -> Step:
    """The candidate is called off; replicas hold the live version alone from here on."""
    assert isinstance(event, CandidateFailed)
    assert state.run is not None
    return failed(state, event.at, f"version {state.run.version} called off: {event.reason}")


def over(state: State, event: Event) -> Step:
    """End a stage in which too few labels came for too long."""
    assert state.trial is not None
    assert state.run is not None
    rollout = state.settings.rollout
    if event.at - state.trial.since < rollout.stage_timeout_s:
        return Step(state, ignored="the stage goes on")
    kind, _, rows = state.trial.stage
    why = f"fewer than {rows:,} labels told within {rollout.stage_timeout_s:g} s of its {kind}"
    if rollout.without_labels == "go_on":
        return _go_on(state, event.at, f"{why}; it goes on without them")
    return failed(state, event.at, f"version {state.run.version} called off: {why}")


def call_off(state: State, event: Event) -> Step:
    """An operator ends the rollout, or wants an older version instead."""
    assert isinstance(event, RollbackRequested)
    assert state.run is not None
    if event.version not in (None, state.live, state.run.version):
        return roll_back(state, event)
    return failed(state, event.at, f"version {state.run.version} called off by an operator")


def _go_on(state: State, at: float, why: str) -> Step:
    assert state.trial is not None
    assert state.run is not None
    assert state.run.version is not None
    kind, _, _ = state.trial.stage
    tell = Notify(run_id=state.run.run_id, kind=kind, text=f"version {state.run.version} {why}")
    step = state.trial.step + 1
    if step < len(state.trial.plan):
        return _enter(state, replace(state.trial, step=step, since=at), tell)
    return swap_to(replace(state, trial=None), state.run.version, tell)  # the canary answers on


def _enter(state: State, trial: Trial, *before: Instruction) -> Step:
    assert state.run is not None
    kind, share, rows = trial.stage
    version = state.run.version
    part = f"for {share:.3g} of the requests, until {rows:,} labels of such rows have told"
    if kind == "shadow":
        phase, assignment = Phase.SHADOW, Assignment(state.live, shadow=version, share=share)
        text = f"version {version} is asked too, and answers nobody, {part}"
    else:
        phase, assignment = Phase.CANARY, Assignment(state.live, canary=version, share=share)
        text = f"version {version} answers instead of version {state.live} {part}"
    tell = Notify(run_id=state.run.run_id, kind=kind, text=text, detail={"version": version})
    return to(state, phase, *before, tell, trial=trial, assignment=assignment, outstanding=())


def _alone(state: State) -> State:
    return replace(state, trial=None, assignment=Assignment(state.live))
