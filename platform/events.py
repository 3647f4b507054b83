"""Events, instructions and drift evidence: frozen data that round-trips through plain dicts.

Events are the only thing that moves the lifecycle; instructions are the only thing that it asks
of the outside. Both are journalled as dicts, so an incident can be replayed as a test.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, ClassVar, TypeVar

from undrift.evidence import Challenger, Change, DriftKind, Evidence, Level, SignalReport
from undrift.records import Assignment


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of all events.

    Attributes:
        at: When it happened, Unix seconds; the lifecycle has no other clock.
        run_id: Run that it belongs to; empty for events of no run.
        cause: What led to it, for the journal.
        salt: Part of the id of a run that it begins, so that no id comes again though the journal
            may have lost its end; drawn by who records it.
        key: Name of an operator's order, which is carried out once; empty for all else.
    """

    at: float
    run_id: str = ""
    cause: str = ""
    salt: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configured(Event):
    """The controller started, with this policy."""

    policy: dict[str, Any]
    live_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored(Event):
    """The monitor reports its evidence."""

    evidence: Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainRequested(Event):
    """An operator asks for a retraining now; what is left empty is as configured.

    ``rows`` is how many predictions there were when it was asked for.
    """

    rows: int
    method: str = ""
    steps: int = 0
    budget: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptRequested(RetrainRequested):
    """An operator brings weights that were trained elsewhere, to be served if the gate agrees.

    ``weights`` is the SHA-256 of their file, ``origin`` what it was called.
    """

    weights: str
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained(Event):
    """A retraining finished, and the gate has judged its candidate."""

    version: int
    accepted: bool
    reason: str
    regime_rows: int = 0
    regime_start: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainFailed(Event):
    """A retraining ended without a candidate."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PromoteRequested(Event):
    """An operator asks to serve a stored version; ``strategy`` is now, shadow or canary."""

    version: int
    strategy: str = "now"


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackRequested(Event):
    """An operator asks to go back to the previous version, or to a named one."""

    version: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Swapped(Event):
    """Every replica serves ``version``: the swap in progress is done."""

    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapFailed(Event):
    """The swap was aborted; the old version serves on."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbationPassed(Event):
    """The promoted version held up on late labels."""

    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbationFailed(Event):
    """The promoted version is worse on late labels than the one it replaced."""

    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonPassed(Event):
    """The candidate held up in stage ``step`` of its rollout, counted from 0."""

    step: int
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateFailed(Event):
    """The candidate in a rollout is worse on late labels, or could not be loaded or asked."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseRequested(Event):
    """An operator stops automatic decisions; serving and monitoring go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeRequested(Event):
    """An operator lets automatic decisions go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick(Event):
    """Time passed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """Base of all instructions; executing one twice has the effect of once."""

    run_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage(Instruction):
    """Start training workers and let them wait: drift is likely."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Train(Instruction):
    """Retrain from ``base_version`` on the data that ``kind`` and ``regime_start`` decide.

    With ``newest_rows`` the regime is the newest labelled rows, this many, instead. ``lead`` is the
    accuracy that a challenger has shown above the live version's, as a fraction. Rows from
    ``until_row`` on are not used, so that an order given again, by whoever, is the same order.
    With ``weights``, the SHA-256 of a file that was called ``origin``, nothing is trained: they are
    judged as a candidate is.
    """

    base_version: int
    until_row: int
    kind: DriftKind = DriftKind.NONE
    regime_start: int = 0
    newest_rows: int = 0
    lead: float = 0.0
    method: str = ""
    steps: int = 0
    budget: str = ""
    weights: str = ""
    origin: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel(Instruction):
    """Stop the retraining of this run; its outcome no longer matters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Swap(Instruction):
    """Bring every replica to ``assignment`` in two phases."""

    assignment: Assignment


@dataclass(frozen=True, slots=True, kw_only=True)
class Rearm(Instruction):
    """Calibrate the signals on ``version``; with ``against``, hold a probation first."""

    version: int
    regime_start: int = 0
    against: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compare(Instruction):
    """Compare a candidate, ``version``, with the live one until ``rows`` labels have told.

    ``step`` is the stage of its rollout, counted from 0: as a shadow, or with ``canary`` on rows
    that it answered itself.
    """

    version: int
    against: int
    canary: bool
    step: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Notify(Instruction):
    """Tell people.

    ``kind`` is one of warning, drift, candidate, shadow, canary, promoted, rolled_back, failed.
    """

    kind: str
    text: str
    detail: dict[str, Any] = field(default_factory=dict)


T = TypeVar("T")
_TYPES: dict[str, type] = {
    name: cls
    for name, cls in list(globals().items())
    if isinstance(cls, type) and issubclass(cls, Event | Instruction)
}
EVENTS: tuple[type[Event], ...] = tuple(
    cls for cls in _TYPES.values() if issubclass(cls, Event) and cls is not Event
)
_NESTED: dict[str, Any] = {
    "assignment": Assignment,
    "evidence": Evidence,
    "signals": SignalReport,
    "challengers": Challenger,
    "better": Challenger,
    "changes": Change,
}
_ENUMS: dict[str, type] = {"level": Level, "kind": DriftKind}


class Codec:
    """Turns events and instructions into dicts of plain JSON values and back.

    Example:
        >>> event = Swapped(at=1.0, run_id="r1", version=2)
        >>> Codec.decode(Codec.encode(event)) == event
        True
    """

    TYPE_KEY: ClassVar[str] = "type"

    @classmethod
    def encode(cls, value: Event | Instruction | Evidence) -> dict[str, Any]:
        """Return ``value`` as a dict of plain JSON values."""
        data = asdict(value)
        if not isinstance(value, Evidence):
            data[cls.TYPE_KEY] = type(value).__name__
        return data

    @classmethod
    def decode(cls, data: dict[str, Any]) -> Any:
        """Return the event or instruction that ``data`` describes.

        Raises:
            ValueError: The type is unknown, as in a journal from a newer release.
        """
        name = data.get(cls.TYPE_KEY, "")
        if name not in _TYPES:
            raise ValueError(f"unknown event type {name!r}; is the journal from a newer release?")
        return _build(_TYPES[name], {k: v for k, v in data.items() if k != cls.TYPE_KEY})

    @staticmethod
    def evidence(data: dict[str, Any]) -> Evidence:
        """Return the evidence that ``data`` describes."""
        return _build(Evidence, data)


def _build(cls: type[T], data: dict[str, Any]) -> T:
    values: dict[str, Any] = {}
    assert is_dataclass(cls)
    for f in fields(cls):
        if f.name not in data:
            continue
        value = data[f.name]
        if f.name in _NESTED and isinstance(value, dict):
            value = _build(_NESTED[f.name], value)
        elif f.name in _NESTED and isinstance(value, list | tuple):
            value = tuple(_build(_NESTED[f.name], v) for v in value)
        elif f.name in _ENUMS and cls is not Notify:
            value = _ENUMS[f.name](value)
        values[f.name] = value
    return cls(**values)
