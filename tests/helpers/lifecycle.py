"""A lifecycle to play with: evidence by its level, and a state after some events."""

from __future__ import annotations

from undrift.control.lifecycle import initial, step
from undrift.control.settings import LifecycleSettings
from undrift.control.state import State
from undrift.events import Event, Scored, Swapped, Trained
from undrift.evidence import DriftKind, Evidence, Level, SignalReport

SETTINGS = LifecycleSettings(retrain_when="worse", cooldown_s=10, backoff_s=4, backoff_max_s=20)


def scored(
    level: Level,
    *,
    at: float = 0.0,
    version: int = 1,
    regime_rows: int = 300,
    change_row: int = 700,
    labelled: int = 900,
) -> Scored:
    change = change_row if level else None
    signal = SignalReport("performance", level, 3.0, 1.0, 2.0, change, change)
    kind = DriftKind.CONCEPT if level else DriftKind.NONE
    evidence = Evidence(level, kind, (signal,), version, 1000, labelled, regime_rows, reason="why")
    return Scored(at=at, evidence=evidence)


def run(state: State, *events: Event) -> tuple[State, list[object]]:
    done: list[object] = []
    for event in events:
        outcome = step(state, event)
        state = outcome.state
        done += outcome.instructions
    return state, done


def promoted(settings: LifecycleSettings = SETTINGS) -> State:
    state, _ = run(
        initial(settings, 1),
        scored(Level.DRIFT, at=100),
        Trained(at=103, run_id="run-1", version=2, accepted=True, reason="", regime_rows=500),
        Swapped(at=104, run_id="run-1", version=2),
    )
    return state
