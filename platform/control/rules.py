"""What each event does to the state: one pure rule to an event, named in the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from undrift.control.settings import LifecycleSettings
from undrift.control.state import Phase, Run, State, Step
from undrift.errors import IllegalTransitionError
from undrift.events import (
    AdoptRequested,
    Cancel,
    Configured,
    Event,
    Instruction,
    Notify,
    ProbationFailed,
    Rearm,
    RetrainRequested,
    RollbackRequested,
    Scored,
    Stage,
    Swap,
    SwapFailed,
    Swapped,
    Train,
    Trained,
    TrainFailed,
)
from undrift.evidence import DriftKind, Evidence, Level
from undrift.records import Assignment

BROUGHT = "weights"  # trigger of a run for weights that were trained elsewhere
SINGLE_FLIGHT = "single flight: a run is in progress; pause or roll back first"
_FEWEST = 300  # labelled rows that a retraining is given however short the memory that leads


def to(state: State, phase: Phase, *instructions: Instruction, **changes: object) -> Step:
    """Return the step to a phase."""
    return Step(replace(state, phase=phase, **changes), instructions)  # type: ignore[arg-type]


def _back(state: State, phase: Phase, *instructions: Instruction, **changes: object) -> Step:
    """End a run and return to a phase; to a probation that goes on, instead of to health."""
    state = replace(state, trial=None, assignment=Assignment(state.live))
    if phase == Phase.HEALTHY and state.proving is not None:
        return to(state, Phase.PROBATION, *instructions, run=state.proving, **changes)
    return to(state, phase, *instructions, run=None, **changes)


def cancel(state: State) -> tuple[Instruction, ...]:
    """Return what gives up the training in progress, if there is one."""
    training = any(isinstance(i, Train) for i in state.outstanding)
    return (Cancel(run_id=state.run.run_id),) if training and state.run else ()


def _train(
    state: State, event: Scored | RetrainRequested, trigger: str, *before: Instruction
) -> Step:
    """Begin a retraining; the caller has checked that it is allowed."""
    if isinstance(event, Scored):
        asked = RetrainRequested(at=event.at, rows=event.evidence.rows)
    else:
        asked = event
    run = Run(named(state, event), trigger, rest(state), event.at)
    kind, start = _regime(state, trigger)
    newest = {"amount": state.settings.newest_rows, "better": _memory(state)}
    brought = asked if isinstance(asked, AdoptRequested) else None
    train = Train(
        run_id=run.run_id,
        base_version=state.live,
        until_row=asked.rows,
        kind=kind,
        regime_start=start,
        newest_rows=newest.get(trigger, 0),
        lead=_lead(state) if trigger == "better" else 0.0,
        method=asked.method,
        steps=asked.steps,
        budget=asked.budget,
        weights=brought.weights if brought else "",
        origin=brought.origin if brought else "",
    )
    return to(
        state,
        Phase.RETRAINING,
        *before,
        train,
        run=run,
        runs=state.runs + 1,
        outstanding=(train,),
        refinements=state.refinements + 1 if trigger == "refine" else 0,
    )


def _regime(state: State, trigger: str) -> tuple[DriftKind, int]:
    """Return what a run deals with: the drift just found, or else the regime served already."""
    if trigger in ("amount", "better"):  # the newest rows are a regime of their own
        return DriftKind.BOTH, 0
    found = state.evidence if trigger in ("drift", BROUGHT) else None
    if found is None or found.level < Level.DRIFT or found.change_row is None:
        return state.regime_kind, state.regime_start
    return found.kind, found.change_row


def _memory(state: State) -> int:
    """Return how many newest labelled rows the challenger that leads has learnt from."""
    evidence = state.evidence
    if evidence is None or evidence.better is None:
        return 0
    return max(_FEWEST, evidence.better.memory or evidence.labelled)


def _lead(state: State) -> float:
    leader = state.evidence.better if state.evidence else None
    return leader.lead if leader else 0.0


def rest(state: State) -> Phase:
    """Return the phase that a failed run falls back to."""
    if state.phase in (Phase.SWAPPING, Phase.SHADOW, Phase.CANARY) and state.run is not None:
        return state.run.resume  # a pause outlives the swap that another swap replaces
    if state.phase in (Phase.PAUSED, Phase.DRIFT):
        return state.phase
    drifted = state.evidence is not None and state.evidence.level == Level.DRIFT
    return Phase.DRIFT if drifted and state.phase == Phase.RETRAINING else Phase.HEALTHY


def named(state: State, event: Event) -> str:
    """Return the id of the run that an event begins."""
    return f"run-{state.runs + 1}" + (f".{event.salt}" if event.salt else "")


def swap_to(state: State, version: int, *before: Instruction) -> Step:
    """Order the swap of the run in progress."""
    assert state.run is not None
    swap = Swap(run_id=state.run.run_id, assignment=Assignment(version))
    return to(state, Phase.SWAPPING, *before, swap, outstanding=(swap,))


def failed(state: State, at: float, reason: str, *before: Instruction) -> Step:
    """End the run in progress, with the reason and a back-off."""
    assert state.run is not None
    settings = state.settings
    wait = min(settings.backoff_s * 2**state.attempts, settings.backoff_max_s)
    text = f"{state.run.run_id} ({state.run.trigger}): {reason}"
    tell = Notify(run_id=state.run.run_id, kind="failed", text=text)
    if state.run.trigger == BROUGHT:  # tells nothing of the retrainings here
        return _back(state, state.run.resume, *before, tell, outstanding=())
    return _back(
        state,
        state.run.resume,
        *before,
        tell,
        attempts=state.attempts + 1,
        not_before=at + wait,
        outstanding=(),
    )


def configured(state: State, event: Event) -> Step:
    """Take over a policy, and give again what a restart may have lost."""
    assert isinstance(event, Configured)
    known = event.policy.keys() & LifecycleSettings.model_fields.keys()  # not what has gone since
    settings = LifecycleSettings.model_validate({key: event.policy[key] for key in known})
    again = (state.baseline,) if state.baseline else ()
    return Step(replace(state, settings=settings), again + state.outstanding)


def watch(state: State, event: Event) -> Step:
    """Healthy or warning: follow the evidence."""
    assert isinstance(event, Scored)
    evidence, settings = event.evidence, state.settings
    if evidence.version != state.live:
        return Step(state, ignored=f"stale: evidence is of version {evidence.version}")
    if evidence.level == Level.DRIFT:
        noticed = replace(state, phase=Phase.DRIFT, evidence=evidence)
        tell = Notify(kind="drift", text=evidence.reason)
        return retry(noticed, event, tell)
    if due := _due(state, evidence, event.at):
        return _train(replace(state, labelled=evidence.labelled), event, due)
    if evidence.level == Level.WARNING and state.phase == Phase.HEALTHY:
        tell = Notify(kind="warning", text=evidence.reason)
        stage = () if settings.mode == "off" else (Stage(),)
        return to(state, Phase.WARNING, tell, *stage, evidence=evidence)
    if evidence.level == Level.NONE and state.phase == Phase.WARNING:
        return to(state, Phase.HEALTHY, evidence=None)
    return Step(state, ignored="no change of level")


def _due(state: State, evidence: Evidence, at: float) -> str:
    """Return what a retraining without a drift is due for, if one is."""
    settings = state.settings
    if settings.mode == "off" or state.rests(at):
        return ""
    more = state.refinements < settings.refine_limit and settings.refine_growth > 0
    grown = evidence.regime_rows >= settings.refine_growth * state.regime_rows > 0
    if more and grown:
        return "refine"
    every = settings.retrain_every_rows
    return "amount" if 0 < every <= evidence.labelled - state.labelled else ""


def retry(state: State, event: Event, *before: Instruction) -> Step:
    """Drift: begin to retrain as soon as mode, cooldown, back-off and labels allow it."""
    assert isinstance(event, Scored)
    evidence, settings = event.evidence, state.settings
    if evidence.level == Level.NONE and evidence.version == state.live:
        return to(state, Phase.HEALTHY, evidence=None)
    better = settings.retrain_when == "better" and evidence.better is not None
    enough = better or evidence.labels_missing
    if settings.retrain_when == "worse":
        enough |= evidence.regime_rows >= settings.min_regime_rows
    due = settings.mode != "off" and not state.rests(event.at) and enough
    if not due or evidence.level != Level.DRIFT or evidence.version != state.live:
        if not before:
            return Step(state, ignored="drift is known; waiting for labels, back-off, an operator")
        return Step(state, before if settings.mode == "off" else (*before, Stage()))
    state = replace(state, evidence=evidence, labelled=evidence.labelled)
    return _train(state, event, "better" if better else "drift", *before)


def retrain(state: State, event: Event) -> Step:
    """An operator asks for a retraining."""
    assert isinstance(event, RetrainRequested)
    return _train(state, event, "operator", *cancel(state))


def adopt(state: State, event: Event) -> Step:
    """An operator brings weights that were trained elsewhere."""
    assert isinstance(event, AdoptRequested)
    return _train(state, event, BROUGHT, *cancel(state))


def adopt_once(state: State, event: Event) -> Step:
    """Weights that come again while they are judged are judged once."""
    assert isinstance(event, AdoptRequested)
    order = next((i for i in state.outstanding if isinstance(i, Train)), None)
    if order is None or order.weights != event.weights:
        raise IllegalTransitionError(f"{SINGLE_FLIGHT} (phase {state.phase})")
    return Step(state, ignored="these weights are being judged")


def trained(state: State, event: Event, go: Callable[..., Step]) -> Step:
    """Take the gate's verdict on a candidate; ``go`` says how an accepted one goes on."""
    assert isinstance(event, Trained)
    run = state.run
    assert run is not None
    state = replace(state, outstanding=())
    train_rows = event.regime_rows or state.regime_rows
    if run.trigger == "amount":
        train_rows = 0 if event.accepted else state.regime_rows
    if not event.accepted:
        text = f"version {event.version} rejected: {event.reason}"
        if run.trigger in ("refine", "amount"):  # the live version is good; wait for more labels
            tell = Notify(run_id=event.run_id, kind="failed", text=text)
            return _back(state, run.resume, tell, regime_rows=train_rows)
        return failed(state, event.at, text)
    kind, start = _regime(state, run.trigger)
    state = replace(
        state,
        run=replace(run, version=event.version),
        regime_rows=train_rows,
        regime_kind=kind,
        regime_start=event.regime_start if run.trigger == "better" else start,
    )
    tell = Notify(
        run_id=event.run_id, kind="candidate", text=f"version {event.version}: {event.reason}"
    )
    if state.settings.mode != "auto" and run.trigger != BROUGHT:
        return to(state, Phase.CANDIDATE, tell)
    return go(state, event, tell)


def train_failed(state: State, event: Event) -> Step:
    """A retraining came to nothing."""
    assert isinstance(event, TrainFailed)
    return failed(state, event.at, event.reason)


def train_over(state: State, event: Event) -> Step:
    """Give up a retraining that hangs."""
    assert state.run is not None
    limit = state.settings.retraining_timeout_s
    if event.at - state.run.started < limit:
        return Step(state, ignored="the retraining goes on")
    return failed(state, event.at, f"no candidate within {limit:g} s", *cancel(state))


def swap_failed(state: State, event: Event) -> Step:
    """A swap was aborted; the old version serves on."""
    assert isinstance(event, SwapFailed)
    return failed(state, event.at, f"swap aborted: {event.reason}")


def roll_back(state: State, event: Event) -> Step:
    """Go back to the previous version, or to the one an operator names."""
    assert isinstance(event, RollbackRequested | ProbationFailed)
    target = event.version if isinstance(event, RollbackRequested) else None
    if target is None:
        target = state.live if state.phase == Phase.SWAPPING else state.previous
    if target is None:
        raise IllegalTransitionError("there is no previous version to go back to")
    if target == state.live and state.phase != Phase.SWAPPING:
        raise IllegalTransitionError(f"version {target} is already live")
    run = Run(named(state, event), "rollback", rest(state), event.at, target)
    begun = replace(state, run=run, runs=state.runs + 1, trial=None)
    return swap_to(replace(begun, assignment=Assignment(state.live)), target, *cancel(state))


def swapped(state: State, event: Event) -> Step:
    """Every replica answers with the new version: watch it, and prove it."""
    assert isinstance(event, Swapped)
    assert state.run is not None
    order = next(i for i in state.outstanding if isinstance(i, Swap))
    run, left, live = state.run, state.live, order.assignment.live
    back = run.trigger == "rollback" or live == left  # or a swap that was called off
    rearm = Rearm(
        run_id=run.run_id,
        version=live,
        regime_start=0 if back else state.regime_start,
        against=None if back or run.resume == Phase.PAUSED else left,
    )
    tell = Notify(
        run_id=run.run_id,
        kind="rolled_back" if back else "promoted",
        text=f"version {live} is live instead of {left} ({run.trigger})",
        detail={"version": live, "left": left, "seconds": event.at - run.started},
    )
    state = replace(
        state,
        assignment=order.assignment,
        previous=None if back else left,
        outstanding=(),
        baseline=rearm,
        evidence=None,
        proving=run if rearm.against is not None else None,
        attempts=state.attempts + back,
        regime_rows=0 if back else state.regime_rows,
        not_before=event.at + state.settings.cooldown_s,
    )
    if run.resume == Phase.PAUSED:
        return to(state, Phase.PAUSED, rearm, tell, run=None)
    if back:
        return to(state, Phase.COOLDOWN, rearm, tell, run=None)
    return to(state, Phase.PROBATION, rearm, tell)


def proven(state: State, event: Event, *before: Instruction) -> Step:
    """The probation is passed."""
    return to(
        state,
        Phase.HEALTHY,
        *before,
        run=None,
        proving=None,
        attempts=0,
        not_before=event.at + state.settings.cooldown_s,
        baseline=replace(state.baseline, against=None) if state.baseline else None,
    )


def probation_over(state: State, event: Event) -> Step:
    """End a probation that has seen too few labels for too long."""
    assert state.run is not None
    if event.at - state.run.started < state.settings.probation_timeout_s:
        return Step(state, ignored="probation goes on")
    return proven(state, event)


def unproven(state: State, event: Event) -> Step:
    """The probation is failed."""
    assert isinstance(event, ProbationFailed)
    if state.settings.auto_rollback and state.previous is not None:
        return roll_back(replace(state, proving=None), event)  # the verdict is given
    text = f"version {state.live} stays though its probation {event.detail}; no automatic rollback"
    return proven(state, event, Notify(run_id=event.run_id, kind="failed", text=text))


def cooled(state: State, event: Event) -> Step:
    """End the cooldown after a rollback."""
    if state.rests(event.at):
        return Step(state, ignored="cooldown after a rollback")
    return to(state, Phase.HEALTHY)


def pause(state: State, _: Event) -> Step:
    """Stop acting; what is being trained is given up."""
    changes = {"run": None, "outstanding": (), "trial": None}
    return to(state, Phase.PAUSED, *cancel(state), assignment=Assignment(state.live), **changes)


def resume(state: State, _: Event) -> Step:
    """Act again."""
    return _back(state, Phase.HEALTHY)
