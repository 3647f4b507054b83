"""What has happened, for people and for metrics: a fold over the journal, like the state."""

from __future__ import annotations

from collections.abc import Iterable
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
from undrift.views import EventsPage, EventView

FIRST_VERSION = 1
TRIGGERS = ("better", "drift", "refine", "amount", "operator")
VERDICTS = ("accepted", "rejected", "failed")


def recover(records: Iterable[dict[str, Any]], settings: LifecycleSettings) -> tuple[State, Story]:
    """Return where a journal leads to, and what it tells.

    Args:
        records: The journal, oldest first.
        settings: Policy until the journal names another.
    """
    state, story = initial(settings, FIRST_VERSION), Story()
    for record in records:
        event = Codec.decode(record)
        outcome = step(state, event)
        if not isinstance(event, Configured):
            story.add(state, event, outcome.instructions)
        state = outcome.state
    return state, story


def _hung(before: State, event: Event) -> bool:
    """Tell whether time ended a retraining; a tick that changes nothing is not journalled."""
    return isinstance(event, Tick) and before.phase == Phase.RETRAINING


class Story:
    """Notable events in order, and counts of them.

    Attributes:
        entries: The events, numbered from 1.
        counts: Entries by kind.
        swaps: Swaps by outcome, ``done`` or ``failed``.
        swap_seconds: Time from the order to the last replica, for each swap done.
        retrainings: Retrainings by trigger and outcome.
        retraining_seconds: Time from the order to the outcome, for each retraining.
    """

    def __init__(self) -> None:
        self.entries: list[EventView] = []
        self.counts: dict[str, int] = {}
        self.swaps = {"done": 0, "failed": 0}  # from zero: the first one is an increase, too
        self.swap_seconds: list[float] = []
        self.retrainings = dict.fromkeys(product(TRIGGERS, VERDICTS), 0)
        self.retraining_seconds: list[float] = []
        self._ordered = 0.0

    def add(self, before: State, event: Event, instructions: tuple[Instruction, ...]) -> None:
        """Take in one journalled event.

        Args:
            before: State that the event met.
            event: The event.
            instructions: What it led to.
        """
        if isinstance(event, Swapped):
            self.swaps["done"] += 1
            self.swap_seconds.append(event.at - self._ordered)
        elif isinstance(event, SwapFailed):
            self.swaps["failed"] += 1
        elif isinstance(event, Trained | TrainFailed) or _hung(before, event):
            assert before.run is not None
            accepted = isinstance(event, Trained) and event.accepted
            outcome = "rejected" if isinstance(event, Trained) else "failed"
            self.retrainings[before.run.trigger, "accepted" if accepted else outcome] += 1
            self.retraining_seconds.append(event.at - before.run.started)
        row = event.evidence.rows if isinstance(event, Scored) else None
        for instruction in instructions:
            if isinstance(instruction, Swap):
                self._ordered = event.at
            elif isinstance(instruction, Notify):
                self._tell(event.at, instruction.kind, instruction, instruction.text, row)
            elif isinstance(instruction, Train):
                text = (
                    f"{instruction.run_id} from version {instruction.base_version}, "
                    f"on the regime since row {instruction.regime_start}"
                )
                self._tell(event.at, "retraining", instruction, text, row)

    def page(self, after: int, limit: int) -> EventsPage:
        """Return at most ``limit`` events after number ``after``."""
        found = tuple(self.entries[after : after + limit])
        end = after + len(found)
        return EventsPage(events=found, next=end, more=end < len(self.entries))

    def _tell(
        self, at: float, kind: str, instruction: Instruction, text: str, row: int | None
    ) -> None:
        detail = instruction.detail if isinstance(instruction, Notify) else {}
        self.entries.append(
            EventView(
                seq=len(self.entries) + 1,
                at=at,
                kind=kind,
                text=text,
                run_id=instruction.run_id,
                row=row,
                detail=dict(detail),
            )
        )
        self.counts[kind] = self.counts.get(kind, 0) + 1
