"""State and story as plain JSON values, so that a start need not fold the whole journal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, TypeVar

from undrift.control.settings import LifecycleSettings
from undrift.control.state import Phase, Run, State, Trial
from undrift.control.story import Story, Times
from undrift.events import Codec, Event, Instruction
from undrift.evidence import DriftKind, Evidence
from undrift.records import Assignment
from undrift.views import EventView

FORMAT = 1

T = TypeVar("T")


def pack(state: State, story: Story) -> dict[str, Any]:
    """Return plain JSON values, for `unpack`."""
    values = {field.name: getattr(state, field.name) for field in fields(state)}
    told = dict(vars(story))
    return {
        "format": FORMAT,
        "state": {
            **values,
            "settings": state.settings.model_dump(),
            "assignment": asdict(state.assignment),
            "run": state.run and asdict(state.run),
            "trial": state.trial and asdict(state.trial),
            "proving": state.proving and asdict(state.proving),
            "evidence": _code(state.evidence),
            "outstanding": [_code(order) for order in state.outstanding],
            "baseline": _code(state.baseline),
        },
        "story": {
            **told,
            "entries": [asdict(entry) for entry in story.entries],
            "swap_seconds": asdict(story.swap_seconds),
            "retrainings": [[*key, count] for key, count in story.retrainings.items()],
            "retraining_seconds": asdict(story.retraining_seconds),
        },
    }


def unpack(packed: Mapping[str, Any]) -> tuple[State, Story]:
    """Return what `pack` was given.

    Raises:
        ValueError: Another release packed it, which remembered more or less than this one.
        KeyError: Likewise.
        TypeError: Likewise.
    """
    if packed["format"] != FORMAT:
        raise ValueError(f"format {packed['format']}, this release reads {FORMAT}")
    values, told = {"trial": None, **packed["state"]}, dict(packed["story"])
    evidence, baseline = values["evidence"], values["baseline"]
    values |= {
        "phase": Phase(values["phase"]),
        "settings": LifecycleSettings.model_validate(values["settings"]),
        "assignment": _exactly(Assignment, values["assignment"]),
        "run": _run(values["run"]),
        "trial": _trial(values["trial"]),
        "proving": _run(values["proving"]),
        "evidence": None if evidence is None else Codec.evidence(evidence),
        "regime_kind": DriftKind(values["regime_kind"]),
        "outstanding": tuple(Codec.decode(order) for order in values["outstanding"]),
        "baseline": None if baseline is None else Codec.decode(baseline),
    }
    story = Story()
    told = {"orders": [], **told}  # since events are dropped, a snapshot of old must be readable
    told |= {
        "entries": [_exactly(EventView, entry) for entry in told["entries"]],
        "swap_seconds": _exactly(Times, told["swap_seconds"]),
        "retrainings": story.retrainings
        | {(trigger, end): count for trigger, end, count in told["retrainings"]},
        "retraining_seconds": _exactly(Times, told["retraining_seconds"]),
    }
    _check(told, vars(story).keys(), Story)
    vars(story).update(told)
    return _exactly(State, values), story


def _code(value: Event | Instruction | Evidence | None) -> dict[str, Any] | None:
    return None if value is None else Codec.encode(value)


def _run(values: dict[str, Any] | None) -> Run | None:
    if values is None:
        return None
    return _exactly(Run, {**values, "resume": Phase(values["resume"])})


def _trial(values: dict[str, Any] | None) -> Trial | None:
    if values is None:
        return None
    plan = tuple((kind, share, rows) for kind, share, rows in values["plan"])
    return _exactly(Trial, {**values, "plan": plan})


def _exactly(cls: type[T], values: Mapping[str, Any]) -> T:
    _check(values, {field.name for field in fields(cls)}, cls)  # type: ignore[arg-type]
    return cls(**values)


def _check(values: Mapping[str, Any], names: Any, cls: type) -> None:
    if values.keys() != set(names):
        raise ValueError(f"{cls.__name__} of another release: {sorted(values)}")
