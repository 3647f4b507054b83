"""What a platform tells of itself: one frozen type for each answer, its JSON schema, and back.

The controller makes them, HTTP and `--json` show them as they are, the client and the demo read
them. Unknown keys are ignored, so a client reads what a newer platform says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from undrift.errors import PlatformError
from undrift.evidence import (
    Challenger,
    Change,
    ProbationReport,
    RolloutView,
    SignalReport,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class EventView:
    """One notable event.

    Attributes:
        seq: Its number, counted from 1; a cursor.
        at: When it happened, Unix seconds.
        kind: As the lifecycle's ``Notify`` has it: ``drift``, ``promoted``, ``failed``, ....
        text: One sentence for a person.
        run_id: Run that it belongs to; empty if none.
        row: Predictions that there were, where evidence led to it.
        detail: More, by name.
    """

    seq: int
    at: float
    kind: str
    text: str
    run_id: str = ""
    row: int | None = None
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsPage:
    """Some events, oldest first.

    Attributes:
        events: The events.
        next: Ask for what comes ``after`` this number to go on.
        more: Whether there is more already.
    """

    events: tuple[EventView, ...]
    next: int
    more: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """The run in progress: one attempt to change the version.

    Attributes:
        run_id: Its name.
        trigger: ``better``, ``drift``, ``refine``, ``amount``, ``operator``, ``rollback``..
        started: When it began, Unix seconds.
        version: Version that it is to bring; None while it is not known.
        training: How far its training is; None before it has begun.
    """

    run_id: str
    trigger: str
    started: float
    version: int | None = None
    training: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusView:
    """Where the deployed model is in its life.

    Attributes:
        model: Name of the model.
        mode: ``off``, ``suggest`` or ``auto``.
        phase: Phase of the lifecycle.
        live_version: Version that answers.
        previous_version: Version to go back to; None if there is none.
        run: The run in progress, if there is one.
        attempts: Runs that failed since the last that did not.
        not_before: No automatic run begins before this time, Unix seconds.
        replicas: Version that each replica has loaded.
        answered_rows: Rows that replicas answered, those that have gone included.
        watched_rows: How many of them were drawn to be watched (`serve.tap`).
        counts: Events by kind since the state was made.
        events: The newest events, oldest first.
        failures: What fails at present, by part; empty texts if nothing does.
        rollout: How far a rollout by stages is, if there is one.
    """

    model: str
    mode: str
    phase: str
    live_version: int
    previous_version: int | None = None
    run: RunView | None = None
    attempts: int = 0
    not_before: float = 0.0
    replicas: dict[str, int | None] = field(default_factory=dict)
    answered_rows: int = 0
    watched_rows: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    events: tuple[EventView, ...] = ()
    failures: dict[str, str] = field(default_factory=dict)
    rollout: RolloutView | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalView:
    """One signal, as `evidence.SignalReport`, its level in words."""

    name: str
    level: str
    statistic: float
    warning_at: float
    drift_at: float
    change_row: int | None = None
    since_row: int | None = None
    changes: tuple[Change, ...] = ()

    @staticmethod
    def of(report: SignalReport) -> SignalView:
        """Return the view of a report."""
        values = {name: getattr(report, name) for name in SignalView.__dataclass_fields__}
        return SignalView(**{**values, "level": report.level.name.lower()})


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentView:
    """One segment of the stream, named as ``site=3`` or ``30<age<=45``.

    Attributes:
        level: How sure it is that the model errs more often here than before.
        rows: Predictions of the watched version.
        labelled: Those of them whose label has come.
        accuracy_before: On the reference.
        accuracy_now: Of the newest labels; None before the first.
        change_row: Estimated first row of the change.
    """

    name: str
    level: str
    rows: int
    labelled: int
    accuracy_before: float
    accuracy_now: float | None = None
    change_row: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationView:
    """What a signal took from its reference, and what a user should know of that."""

    rows: int
    correlation_time: float = 1.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelsView:
    """What became of labels.

    Attributes:
        outcomes: Labels by outcome of the join, and ``reused``, predictions under an id in use.
        waiting: Labels kept for a prediction that has not come.
        missing: Whether labels are further away than the lag allows.
        coverage, coverage_beyond_lag: Share of those remembered, or beyond the lag, with a label.
        lag: Quantiles of the newest labels' lag, by unit: ``rows``, ``seconds``.
        late: What became of those too late for the signals; None if there were none.
    """

    outcomes: dict[str, int]
    waiting: int
    missing: bool
    coverage: float | None
    coverage_beyond_lag: float | None
    lag: dict[str, dict[str, float] | None]
    late: dict[str, float | None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyView:
    """Accuracies of the watched version; None where nothing is known.

    Attributes:
        measure: What they are: ``accuracy``, or of a regression ``R2``.
        window_labels, window: Newest labels, and the accuracy of what was answered on them.
        reference: On the reference.
        estimated, estimated_error: Estimated without labels, and its standard error.
    """

    window_labels: int
    window: float | None
    reference: float | None
    estimated: float | None
    estimated_error: float | None
    measure: str = "accuracy"


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryView:
    """What the monitor knows beside the evidence.

    Attributes:
        regime_start: First row of the regime that the watched version was trained for.
        labels: What became of labels.
        accuracy: How good the watched version is.
        segments: Each segment.
        calibration: Each signal's calibration.
    """

    regime_start: int
    labels: LabelsView
    accuracy: AccuracyView
    segments: tuple[SegmentView, ...] = ()
    calibration: dict[str, CalibrationView] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftView:
    """What the monitor knows, and what the ensemble makes of it.

    Attributes:
        level: Level of the ensemble: ``none``, ``warning`` or ``drift``.
        kind: What has changed.
        reason: One sentence for a person.
        version: Version that is watched.
        rows: Predictions seen so far.
        labelled: Labels joined so far.
        regime_rows: Labelled rows since the start of the present regime.
        labels_missing: Whether labels are further away than the configured lag allows.
        signals: The signals.
        challengers: How each challenger fares; ``better``: the one that shows it pays, if any.
        probation: How the newest version is doing.
        summary: Labels, accuracy, segments, calibration.
        lost_rows: Predictions that could not be made durable.
    """

    level: str
    kind: str
    reason: str
    version: int
    rows: int
    labelled: int
    regime_rows: int
    labels_missing: bool
    signals: tuple[SignalView, ...]
    challengers: tuple[Challenger, ...] = ()
    better: Challenger | None = None
    probation: ProbationReport
    summary: SummaryView
    lost_rows: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionView:
    """One stored version.

    Attributes:
        version: Its number.
        live: Whether it answers.
        hash: SHA-256 of its weights file.
        parent: Version that it was trained from.
        created_at: When it was stored, Unix seconds.
        run_id: Run that made it; empty for the first.
        metrics: What was measured of it.
        plan: What was to be done.
        damage: Why it cannot be read; empty if it can. Nothing else is known of it then.
    """

    version: int
    live: bool
    hash: str
    parent: int | None
    created_at: float
    run_id: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)
    plan: dict[str, Any] | None = None
    damage: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditView:
    """How a version was made.

    Attributes:
        version: Its number.
        parent: Version that it was trained from.
        run_id: Run that made it.
        plan: Method, steps, budget and kind of drift.
        accepted: The gate's verdict; None for a version that no run made.
        reason: Why.
        training: Figures of the training.
        compute: ``flops`` and ``seconds``.
        recent: What the gate measured on recent rows, before and after.
        older: The same on older regimes: what it forgot.
        bandits: For each, its ``arms`` and what choosing uniformly would have earned.
    """

    version: int
    parent: int | None
    run_id: str
    plan: dict[str, Any]
    accepted: bool | None
    reason: str
    training: dict[str, Any]
    compute: dict[str, Any]
    recent: dict[str, float]
    older: dict[str, float]
    bandits: dict[str, Any]


VIEWS: dict[str, tuple[str, Any]] = {
    "status": ("Phase, live version, replicas and recent events", StatusView),
    "drift": ("Signals, label coverage and probation", DriftView),
    "versions": ("Every stored version, oldest first", list[VersionView]),
}
"""What can be read of a model, and its type."""

STRATEGIES = ("now", "shadow", "canary")
"""How a version is promoted: at once, or by stages that begin with a shadow or a canary."""

VERBS: dict[str, dict[str, dict[str, Any]]] = {
    "retrain": {
        "method": {"type": "string"},
        "steps": {"type": "integer", "minimum": 0},
        "budget": {"type": "string"},
    },
    "promote": {
        "version": {"type": "integer"},
        "strategy": {"type": "string", "enum": list(STRATEGIES)},
    },
    "rollback": {"version": {"type": ["integer", "null"]}},
    "pause": {},
    "resume": {},
}
"""What an operator may ask for, and the JSON schema of each argument; ``status`` is the answer."""

MAX_EVENTS = 1000
"""Most events of one page."""


def read(view: type[T], data: Any) -> T:
    """Return plain JSON values as a view, or a list; `PlatformError` if they are none.

    Example:
        >>> read(EventView, {"seq": 1, "at": 2.0, "kind": "drift", "text": "it moved"}).kind
        'drift'
    """
    try:
        found: T = _adapter(view).validate_python(data)  # type: ignore[arg-type]
        return found
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the answer"
        raise PlatformError(
            f"the platform's answer is not what this release reads: {where}: {first['msg']}"
        ) from None


def plain(view: Any) -> Any:
    """Return a view, or a list of views, as plain JSON values."""
    return [asdict(one) for one in view] if isinstance(view, list | tuple) else asdict(view)


def schemas(views: Mapping[str, Any]) -> dict[str, Any]:
    """Return JSON schemas by name, those of inner types too, for an OpenAPI document."""
    found: dict[str, Any] = {}
    for name, view in views.items():
        schema = _adapter(view).json_schema(
            ref_template="#/components/schemas/{model}", mode="serialization"
        )
        found |= {**schema.pop("$defs", {}), name: schema}
    return found


@cache
def _adapter(view: Any) -> TypeAdapter[Any]:
    return TypeAdapter(view)
