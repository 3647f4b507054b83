"""What the replicas hold: the live version, and in a rollout another one beside it."""

from __future__ import annotations

from collections.abc import Iterable

from undrift.control.replicas import Replicas
from undrift.control.state import State, Step
from undrift.errors import RequestError, StoreError
from undrift.events import CandidateFailed, Swap
from undrift.records import Assignment
from undrift.serve.swap import Target
from undrift.store.store import Store

LIVE = "live version"  # what is the matter with it, among the failures


def target(store: Store, assignment: Assignment, trial: str = "") -> Target:
    """Return an assignment with the hashes of its versions.

    Args:
        store: Where versions are.
        assignment: Which versions, and who answers.
        trial: Rollout that it belongs to; empty without one.

    Raises:
        StoreError: There is no such version, or it is damaged.
    """
    hashes = tuple(store.manifest(version).hash for version in assignment.versions)
    return Target(assignment, hashes, trial)


def held(store: Store, state: State, failures: dict[str, str]) -> Target:
    """Return what replicas hold now; a damaged version ends no controller, it may be left."""
    alone, told = Assignment(state.live), ""
    for assignment, trial in ((state.assignment, _trial(state)), (alone, "")):
        try:
            return target(store, assignment, trial)
        except StoreError as error:
            told = str(error)
    failures[LIVE] = told
    return Target(alone, ("",))


def hold(replicas: Replicas, store: Store, state: State, at: float) -> CandidateFailed | None:
    """Have replicas hold what stands beside the live version; return what is wrong with it."""
    assignment, trial = state.assignment, _trial(state)
    fault = replicas.fault(trial) if state.trial is not None else ""
    try:
        if not replicas.holds(assignment, trial):
            replicas.hold(target(store, assignment, trial))
    except StoreError as error:
        fault = str(error) if state.trial is not None else ""
    return CandidateFailed(at=at, run_id=trial, reason=fault) if fault else None


def shown(state: State) -> tuple[int | None, ...]:
    """Return the versions whose counts are shown, besides the one that shall answer."""
    return (*state.assignment.versions, state.previous)


def served(before: State, outcome: Step) -> list[int]:
    """Return the versions that an event orders the replicas to load."""
    orders = [i.assignment for i in outcome.instructions if isinstance(i, Swap)]
    if outcome.state.trial is not None and outcome.state.run != before.run:
        orders.append(outcome.state.assignment)
    return [version for assignment in orders for version in assignment.versions]


def check_servable(store: Store, versions: Iterable[int]) -> None:
    """Check that versions that are asked for can be served, before anything is recorded.

    Raises:
        RequestError: One cannot; status 409.
    """
    for version in versions:
        try:
            store.weights_path(version)
        except StoreError as error:
            raise RequestError(f"version {version} cannot be served: {error}", 409) from error


def _trial(state: State) -> str:
    """Return the name of the rollout whose version replicas hold; empty without one."""
    return state.run.run_id if state.run and state.assignment.candidate is not None else ""
