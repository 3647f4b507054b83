"""The chain from signal to data to version to verdict, out of the journal and the manifests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.helpers.lifecycle import SETTINGS, scored
from undrift.control.lifecycle import initial
from undrift.control.past import Begun
from undrift.control.story import Story
from undrift.control.why import Link, why_event, why_version
from undrift.errors import StoreError
from undrift.events import (
    AdoptRequested,
    Codec,
    Configured,
    Event,
    ProbationFailed,
    ProbationPassed,
    PromoteRequested,
    RetrainRequested,
    SwapFailed,
    Swapped,
    Trained,
    TrainFailed,
)
from undrift.evidence import Level
from undrift.store.store import Manifest

GATE = {"gate": {"validation_base": 0.5, "validation_candidate": 0.9}}
BEGUN = Configured(at=99.0, policy=SETTINGS.model_dump(), live_version=1)
DRIFT = scored(Level.DRIFT, at=100.0)
MADE = Trained(at=103.0, run_id="run-1", version=2, accepted=True, reason="0.90 beats 0.50")
LIVE = Swapped(at=104.0, run_id="run-1", version=2)


def manifest(version: int) -> Manifest:
    run_id = {2: "run-1"}.get(version, "")
    return Manifest(version, "", None, 1.0, run_id=run_id, metrics=GATE, plan={"seed": 7})


def journal(*events: Event) -> Iterator[tuple[int, dict[str, Any]]]:
    return enumerate(map(Codec.encode, (BEGUN, *events)))


def chain(version: int, *events: Event) -> list[Link]:
    return why_version(version, journal(*events), Begun(initial(SETTINGS, 1)), manifest(version))


def test_version_is_explained_from_the_signal_to_the_verdict() -> None:
    links = chain(2, DRIFT, MADE, LIVE, ProbationPassed(at=150.0, run_id="run-1", detail="holds"))
    told = [(link.what, link.journal) for link in links]
    assert told == [
        ("signal", 1), ("data", 1), ("gate", 2), ("swap", 2), ("promoted", 3), ("probation", 4),
    ]  # fmt: skip
    signal, data, gate, *_, probation = links
    assert "performance at drift (3.0 of 2.0, since row 700)" in signal.text
    assert (
        "version 1 is retrained for the labelled rows since row 700 before row 1,000" in data.text
    )
    assert gate.text == "version 2: 0.90 beats 0.50"
    assert gate.detail == {**GATE, "plan": {"seed": 7}}
    assert probation.text == "probation passed: holds"


def test_rollback_of_a_version_is_part_of_its_story() -> None:
    failed = ProbationFailed(at=120.0, run_id="run-1", detail="errs more")
    links = chain(2, DRIFT, MADE, LIVE, failed, Swapped(at=121.0, run_id="run-2", version=1))
    assert [link.what for link in links][-2:] == ["probation", "rolled_back"]
    assert "version 1 is live instead of 2" in links[-1].text


@pytest.mark.parametrize(
    ("end", "what"),
    [
        ((TrainFailed(at=101.0, run_id="run-1", reason="out of memory"),), "failed"),
        ((MADE, SwapFailed(at=104.0, run_id="run-1", reason="a replica refused")), "failed"),
    ],
)
def test_run_that_came_to_nothing_is_explained_by_its_event(
    end: tuple[Event, ...], what: str
) -> None:
    number = {1: 3, 2: 4}[len(end)]  # drift, retraining, then candidate and failure
    links = why_event(number, journal(DRIFT, *end), Begun(initial(SETTINGS, 1)), manifest)
    assert links[0].what == "signal"
    assert links[-1].what == what
    assert end[-1].reason in links[-1].text  # type: ignore[attr-defined]


def test_operators_are_named_where_they_began_it() -> None:
    asked = RetrainRequested(at=100.0, rows=500)
    made = Trained(at=103.0, run_id="run-1", version=2, accepted=True, reason="better")
    links = chain(2, asked, made)
    assert [link.what for link in links] == ["order", "data", "gate", "swap"]
    links = chain(
        5, PromoteRequested(at=100.0, version=5), Swapped(at=101.0, run_id="run-1", version=5)
    )
    assert [link.what for link in links] == ["promoted"]
    assert "operator" in links[0].text


def test_weights_from_elsewhere_are_explained_by_their_origin() -> None:
    asked = AdoptRequested(at=100.0, rows=500, weights="a" * 64, origin="new.safetensors")
    made = Trained(at=103.0, run_id="run-1", version=2, accepted=True, reason="better")
    links = chain(2, asked, made)
    assert [link.what for link in links] == ["order", "data", "gate", "swap"]
    assert links[0].text == "an operator brought new.safetensors"
    assert "a" * 64 in links[1].text


def test_warning_is_explained_by_its_evidence_alone() -> None:
    links = why_event(
        1, journal(scored(Level.WARNING, at=100.0), DRIFT), Begun(initial(SETTINGS, 1)), manifest
    )
    assert [link.what for link in links] == ["signal", "warning"]


def test_version_whose_manifest_is_gone_is_explained_by_the_journal() -> None:
    def gone(version: int) -> Manifest:
        raise StoreError(f"no model version {version}")

    links = why_event(2, journal(DRIFT, MADE, LIVE), Begun(initial(SETTINGS, 1)), gone)
    assert [link.what for link in links] == ["signal", "data", "gate", "swap", "promoted"]
    assert links[2].detail == {"missing": "no model version 2"}


def test_first_version_and_unknown_events_say_so() -> None:
    (link,) = chain(1)
    assert link.text == "version 1 was there from the start"
    with pytest.raises(StoreError, match="no event 9; the newest is 2"):
        why_event(9, journal(DRIFT), Begun(initial(SETTINGS, 1)), manifest)


def begun(until: int, *events: Event) -> tuple[Begun, list[tuple[int, dict[str, Any]]]]:
    """Return a journal that has lost its events up to one, and what stands for them."""
    state, story = initial(SETTINGS, 1), Story()
    records = list(journal(*events))
    for _, record in records[: until + 1]:
        state = story.follow(state, record)
    return Begun(state, story, until, 150.0), records[until + 1 :]


def test_what_led_to_a_version_is_said_to_be_gone_with_what_its_manifest_kept() -> None:
    start, records = begun(3, DRIFT, MADE, LIVE, ProbationPassed(at=151.0, run_id="run-1"))
    first, *others = why_version(2, records, start, manifest(2))
    assert "version 2 came about was told before" in first.text
    assert "its first 4 events are no longer kept" in first.text
    assert first.detail == {**GATE, "plan": {"seed": 7}}
    assert [link.what for link in others] == ["probation"]


def test_event_that_was_told_before_the_journal_begins_is_said_to_be_gone() -> None:
    start, records = begun(1, DRIFT, MADE, LIVE)
    with pytest.raises(StoreError, match=r"event 1 was told before .* first 2 events"):
        why_event(1, records, start, manifest)
    number = start.story.told + 1
    first, *others = why_event(number, records, start, manifest)
    assert "run-1 began before" in first.text
    assert "gate" in [link.what for link in others]
    assert why_event(number, records, start, manifest) == [first, *others]
