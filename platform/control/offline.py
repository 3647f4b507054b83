"""Another version made live in the state of a platform that does not run."""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import replace

import numpy as np

from undrift.control.lifecycle import step
from undrift.control.memory import Memory
from undrift.control.settings import LifecycleSettings
from undrift.control.state import State
from undrift.errors import IllegalTransitionError, StoreError
from undrift.events import Event, RollbackRequested, Swap, Swapped
from undrift.store.place import Root
from undrift.store.store import Store

COMMAND = "undrift rollback --offline"


def roll_back(root: Root, policy: LifecycleSettings, version: int | None, at: float) -> int:
    """Record that another version is live, and return it; the caller sees that nothing runs.

    Args:
        root: The model's folder of the state.
        policy: The lifecycle section of the configuration.
        version: The version; None for the one before.
        at: Now, Unix seconds.

    Raises:
        StoreError: The version cannot be read, or nothing was recorded in the folder.
        IllegalTransitionError: It is live already, or there is none before.
    """
    store = Store(root, read_only=True)
    memory = Memory(root, policy)
    state, _ = memory.recall()
    salt = secrets.token_hex(3)
    asked = RollbackRequested(at=at, cause="operator, offline", version=version, salt=salt)
    events: list[Event] = []
    if state.trial is not None:  # the first of them calls off what is tried
        events.append(replace(asked, version=None))
        state = step(state, events[0]).state
    try:
        outcome = step(state, asked)
    except IllegalTransitionError as error:
        raise IllegalTransitionError(f"{error}; {_others(store, state)}") from error
    (swap,) = [i for i in outcome.instructions if isinstance(i, Swap)]
    live = swap.assignment.live
    check_readable(store, live)  # before anything is recorded
    done = Swapped(at=at, run_id=swap.run_id, version=live, cause="no replica runs")
    for event in (*events, asked, done):
        memory.record(event)
    return live


def check_readable(store: Store, version: int) -> None:
    """Check that a version can be served and watched.

    Raises:
        StoreError: It is damaged, or there is none.
    """
    store.weights_path(version)
    store.reference(version)


def check_task(store: Store, version: int, *, numbers: bool) -> None:
    """Check that a version has targets of the configured task.

    Raises:
        StoreError: It has not.
    """
    targets = store.reference(version).y
    if numbers == np.issubdtype(targets.dtype, np.integer):
        held = "classes" if numbers else "numbers"
        raise StoreError(
            f"version {version} in the state folder answers {held}, and model.task says otherwise; "
            "use another state folder for another model"
        )


def way_out(store: Store, state: State) -> str:
    """Return the command that leaves a live version which cannot be read."""
    if state.previous is not None and state.previous in _readable(store, state):
        return f"to serve version {state.previous} instead: {COMMAND}"
    return _others(store, state)


def _others(store: Store, state: State) -> str:
    found = _readable(store, state)
    if not found:
        return "no other version can be read"
    return f"to serve version {found[-1]} instead: {COMMAND} {found[-1]}"


def _readable(store: Store, state: State) -> list[int]:
    found = []
    for version in store.version_numbers():
        with suppress(StoreError):
            check_readable(store, version)
            found.append(version)
    return [version for version in found if version != state.live]
