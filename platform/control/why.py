"""Why a version is there, or an event happened: from signal to data to version to verdict.

All of it out of the journal and the manifests, so it needs no platform that runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from undrift.control.lifecycle import step
from undrift.control.past import Begun, gone
from undrift.control.state import State
from undrift.control.story import FIRST_VERSION
from undrift.errors import StoreError
from undrift.events import (
    AdoptRequested,
    Codec,
    Event,
    Instruction,
    Notify,
    ProbationFailed,
    ProbationPassed,
    RetrainRequested,
    Scored,
    Swap,
    Train,
)
from undrift.evidence import Evidence, Level
from undrift.store.store import Manifest
from undrift.views import EventView

_VERDICTS = ("candidate", "failed")  # kinds of what people are told of a candidate


@dataclass(frozen=True, slots=True)
class Link:
    """One link of the chain.

    Attributes:
        journal: Number of the event in the journal, counted from 0.
        at: When it happened, Unix seconds.
        what: signal, order, data, gate, swap, probation, or the kind of what people were told.
        text: One sentence.
        detail: Figures, by name; plain JSON values.
    """

    journal: int
    at: float
    what: str
    text: str
    detail: dict[str, Any] = field(default_factory=dict)


def why_version(
    version: int,
    records: Iterable[tuple[int, dict[str, Any]]],
    start: Begun,
    manifest: Manifest,
) -> list[Link]:
    """Return what led to a version, and what became of it.

    Args:
        version: Its number.
        records: The journal with its numbers, oldest first.
        start: Where it begins.
        manifest: Manifest of the version.
    """
    fold = _Fold(start.state, manifest.run_id or None, version, lambda _: manifest)
    for seq, record in records:
        fold.take(seq, record)
    if start.seq >= 0 and manifest.created_at <= start.at:
        told = f"how version {version} came about was told before {gone(start)}"
        kept = {"gate": manifest.metrics.get("gate", {}), "plan": manifest.plan}
        return [Link(-1, manifest.created_at, "gate", told, kept), *fold.links]
    if fold.links or manifest.run_id:
        return fold.links
    text = (
        f"version {version} was there from the start"
        if version == FIRST_VERSION
        else (f"version {version} was stored by hand, and nothing has happened to it")
    )
    return [Link(-1, manifest.created_at, "stored", text)]


def why_event(
    number: int,
    records: Iterable[tuple[int, dict[str, Any]]],
    start: Begun,
    manifest: Callable[[int], Manifest],
) -> list[Link]:
    """Return what led to an event that people were told, with the whole run that it belongs to.

    Args:
        number: As `undrift status` numbers events.
        records: The journal with its numbers, oldest first; it is read twice.
        start: Where it begins.
        manifest: Returns the manifest of a version.

    Raises:
        StoreError: There is no such event.
    """
    known = list(records)
    story, state, found = deepcopy(start.story), start.state, None
    if number <= story.told:
        raise StoreError(f"event {number} was told before {gone(start)}")
    for seq, record in known:
        before = story.told
        state = story.follow(state, record)
        if before < number <= story.told:
            found = seq, record, story.entries[number - story.told - 1]
            break
    if found is None:
        raise StoreError(f"no event {number}; the newest is {story.told}, see `undrift status`")
    seq, record, entry = found
    if not entry.run_id:
        return _alone(seq, Codec.decode(record), entry)
    fold = _Fold(start.state, entry.run_id, None, manifest)
    for at in known:
        fold.take(*at)
    if start.state.run is not None and start.state.run.run_id == entry.run_id:
        told = f"{entry.run_id} began before {gone(start)}"
        return [Link(-1, start.state.run.started, "order", told), *fold.links]
    return fold.links


def _alone(seq: int, event: Event, entry: EventView) -> list[Link]:
    """Return the links of an event that belongs to no run."""
    told = Link(seq, entry.at, entry.kind, entry.text)
    return [_signal(seq, event.at, event.evidence), told] if isinstance(event, Scored) else [told]


class _Fold:
    """Gathers the links of one run, and what is later said of its version."""

    def __init__(
        self,
        state: State,
        run_id: str | None,
        version: int | None,
        manifest: Callable[[int], Manifest],
    ) -> None:
        self.links: list[Link] = []
        self._state = state
        self._run_id, self._version, self._manifest = run_id, version, manifest

    def take(self, seq: int, record: dict[str, Any]) -> None:
        """Take in one event of the journal."""
        event, before = Codec.decode(record), self._state
        outcome = step(before, event)
        self._state = outcome.state
        if isinstance(event, ProbationPassed | ProbationFailed) and before.live == self._version:
            passed = "passed" if isinstance(event, ProbationPassed) else "failed"
            self._add(seq, event, "probation", f"probation {passed}: {event.detail}")
        for instruction in outcome.instructions:
            if self._is_about(instruction):
                self._follow(seq, event, instruction)

    def _is_about(self, instruction: Instruction) -> bool:
        if self._run_id is not None and instruction.run_id == self._run_id:
            return True
        if self._version is None or not isinstance(instruction, Notify):
            return False
        return self._version in (instruction.detail.get("version"), instruction.detail.get("left"))

    def _follow(self, seq: int, event: Event, instruction: Instruction) -> None:
        if isinstance(instruction, Train):
            if isinstance(event, Scored):
                self.links.append(_signal(seq, event.at, event.evidence))
            elif isinstance(event, AdoptRequested):
                self._add(seq, event, "order", f"an operator brought {event.origin}")
            elif isinstance(event, RetrainRequested):
                self._add(seq, event, "order", "an operator asked for a retraining")
            self._add(seq, event, "data", _data(instruction), Codec.encode(instruction))
        elif isinstance(instruction, Notify):
            made = getattr(event, "version", None) if instruction.kind in _VERDICTS else None
            if made is not None:
                self._version = made
                self._add(seq, event, "gate", instruction.text, self._judged(made))
            else:
                self._add(seq, event, instruction.kind, instruction.text, instruction.detail)
        elif isinstance(instruction, Swap):
            live = instruction.assignment.live
            self._add(seq, event, "swap", f"the replicas are to serve version {live}")

    def _judged(self, version: int) -> dict[str, Any]:
        """Return the gate's figures and the plan; a manifest that is gone leaves the journal."""
        try:
            manifest = self._manifest(version)
        except StoreError as error:
            return {"missing": str(error)}
        return {"gate": manifest.metrics.get("gate", {}), "plan": manifest.plan}

    def _add(
        self, seq: int, event: Event, what: str, text: str, detail: dict[str, Any] | None = None
    ) -> None:
        self.links.append(Link(seq, event.at, what, text, detail or {}))


def _signal(seq: int, at: float, evidence: Evidence) -> Link:
    raised = [s for s in evidence.signals if s.level > Level.NONE]
    named = ", ".join(
        f"{s.name} at {s.level.name.lower()} ({s.statistic:.1f} of {s.drift_at:.1f}"
        + (f", since row {s.change_row:,})" if s.change_row is not None else ")")
        for s in raised
    )
    text = f"row {evidence.rows:,}: {evidence.reason}" + (f" [{named}]" if named else "")
    if evidence.better is not None:
        text += f"; {evidence.better.name} leads by {evidence.better.lead:.1%}"
    return Link(seq, at, "signal", text, Codec.encode(evidence))


def _data(order: Train) -> str:
    if order.weights:
        return (
            f"{order.run_id}: {order.origin}, SHA-256 {order.weights}, is judged against version "
            f"{order.base_version} on the labelled rows before row {order.until_row:,}"
        )
    rows = (
        f"the newest {order.newest_rows:,} labelled rows"
        if order.newest_rows
        else f"the labelled rows since row {order.regime_start:,}"
    )
    return (
        f"{order.run_id}: version {order.base_version} is retrained for {rows} before row "
        f"{order.until_row:,}, kind of drift {order.kind.value}"
    )
