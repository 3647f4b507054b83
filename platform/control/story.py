"""What has happened, for people and for metrics: a fold over the journal, like the state."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import Any

from undrift.control.lifecycle import initial, step
from undrift.control.settings import LifecycleSettings
from undrift.control.state import Phase, State
from undrift.events import (
    Codec,
    Configured,
    Event,
    Instruction,
    Notify,
    Scored,
    Swap,
    SwapFailed,
    Swapped,
    Tick,
    Train,
    Trained,
    TrainFailed,
)
from undrift.views import EventView

FIRST_VERSION = 1
TRIGGERS = ("better", "drift", "refine", "amount", "operator", "weights")
ORDERS = 256  # keys remembered
VERDICTS = ("accepted", "rejected", "failed")


def recover(records: Iterable[dict[str, Any]], settings: LifecycleSettings) -> tuple[State, Story]:
    """Return where a journal leads to, and what it tells.

    Args:
        records: The journal, oldest first.
        settings: Policy until the journal names another.
    """
    state, story = initial(settings, FIRST_VERSION), Story()
    for record in records:
        state = story.follow(state, record)
    return state, story


def _hung(before: State, event: Event) -> bool:
    """Tell whether time ended a retraining; a tick that changes nothing is not journalled."""
    return isinstance(event, Tick) and before.phase == Phase.RETRAINING


@dataclass(slots=True)
class Times:
    """How often something was timed, and the seconds that it took in all."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Take in one time."""
        self.count += 1
        self.seconds += seconds


class Story:
    """Notable events in order, and counts of them.

    Attributes:
        entries: The newest events; older ones are in the store (`undrift.control.memory`).
        told: Number of the newest event, counted from 1.
        counts: Entries by kind.
        swaps: Swaps by outcome, ``done`` or ``failed``.
        swap_seconds: Time from the order to the last replica, of the swaps done.
        retrainings: Retrainings by trigger and outcome.
        retraining_seconds: Time from the order to the outcome, of the retrainings.
        ordered: When the last swap was ordered, Unix seconds.
        orders: Keys of the newest orders of operators, oldest first.
    """

    def __init__(self) -> None:
        self.entries: list[EventView] = []
        self.told = 0
        self.counts: dict[str, int] = {}
        self.swaps = {"done": 0, "failed": 0}  # from zero: the first one is an increase, too
        self.swap_seconds = Times()
        self.retrainings = dict.fromkeys(product(TRIGGERS, VERDICTS), 0)
        self.retraining_seconds = Times()
        self.ordered = 0.0
        self.orders: list[str] = []

    def follow(self, state: State, record: dict[str, Any]) -> State:
        """Take in one event of the journal, and return the state that it leads to."""
        event = Codec.decode(record)
        outcome = step(state, event)
        if not isinstance(event, Configured):
            self.add(state, event, outcome.instructions)
        return outcome.state

    def add(self, before: State, event: Event, instructions: tuple[Instruction, ...]) -> None:
        """Take in one journalled event.

        Args:
            before: State that the event met.
            event: The event.
            instructions: What it led to.
        """
        if event.key:
            self.orders = [*self.orders, event.key][-ORDERS:]
        if isinstance(event, Swapped):
            self.swaps["done"] += 1
            self.swap_seconds.add(event.at - self.ordered)
        elif isinstance(event, SwapFailed):
            self.swaps["failed"] += 1
        elif isinstance(event, Trained | TrainFailed) or _hung(before, event):
            assert before.run is not None
            accepted = isinstance(event, Trained) and event.accepted
            outcome = "rejected" if isinstance(event, Trained) else "failed"
            self.retrainings[before.run.trigger, "accepted" if accepted else outcome] += 1
            self.retraining_seconds.add(event.at - before.run.started)
        row = event.evidence.rows if isinstance(event, Scored) else None
        for instruction in instructions:
            if isinstance(instruction, Swap):
                self.ordered = event.at
            elif isinstance(instruction, Notify):
                self._tell(event.at, instruction.kind, instruction, instruction.text, row)
            elif isinstance(instruction, Train) and instruction.weights:
                text = (
                    f"{instruction.run_id}: {instruction.origin} is judged against version "
                    f"{instruction.base_version}"
                )
                self._tell(event.at, "weights", instruction, text, row)
            elif isinstance(instruction, Train):
                text = (
                    f"{instruction.run_id} from version {instruction.base_version}, "
                    f"on the regime since row {instruction.regime_start}"
                )
                self._tell(event.at, "retraining", instruction, text, row)

    def _tell(
        self, at: float, kind: str, instruction: Instruction, text: str, row: int | None
    ) -> None:
        self.told += 1
        detail = instruction.detail if isinstance(instruction, Notify) else {}
        self.entries.append(
            EventView(
                seq=self.told,
                at=at,
                kind=kind,
                text=text,
                run_id=instruction.run_id,
                row=row,
                detail=dict(detail),
            )
        )
        self.counts[kind] = self.counts.get(kind, 0) + 1
