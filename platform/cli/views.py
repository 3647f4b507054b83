"""What the command line prints for people; `--json` prints the same data as it came."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic_core import to_json
from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from undrift.evidence import Challenger, RolloutView
from undrift.views import (
    AuditView,
    CalibrationView,
    DriftView,
    EventView,
    SegmentView,
    SignalView,
    StatusView,
    VersionView,
)

LEVEL_STYLES = {"none": "green", "warning": "yellow", "drift": "bold red"}
EVENTS_SHOWN = 10

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="The YAML file; else $UNDRIFT_CONFIG, ./undrift.yaml."),
]
ModelOption = Annotated[str | None, typer.Option("--model", "-m", help="Which of several models.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]


def error_console() -> Console:
    """Return a console on standard error."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def progress_bar() -> Progress:
    """Return a bar on standard error, if that is a terminal; its tasks have ``figures``, a text."""
    console = error_console()
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def show(view: RenderableType) -> None:
    """Print ``view`` on standard output."""
    Console(highlight=False).print(view)


def answer(data: Any, view: RenderableType, as_json: bool) -> None:
    """Print ``view``, or ``data`` as JSON and nothing else."""
    if as_json:
        typer.echo(to_json(data, indent=2).decode())
    else:
        show(view)


def say(*lines: str) -> RenderableType:
    """Return plain lines."""
    return Text("\n".join(lines))


def status_line(status: StatusView) -> RenderableType:
    """Return the phase and the live version, after a verb that may change them."""
    return say(f"{status.phase}; version {status.live_version} is live")


def status_view(status: StatusView) -> RenderableType:
    """Return the lifecycle, the versions and the newest events."""
    facts = _facts(
        ("model", status.model),
        ("phase", Text(str(status.phase), style="bold")),
        ("mode", status.mode),
        ("live version", status.live_version),
        ("previous version", status.previous_version),
        ("replicas", len(status.replicas)),
        *_watched(status),
        *_rollout(status.rollout),
        ("counts", status.counts),
    )
    for part, text in status.failures.items():
        if text:
            facts.add_row(f"{part} fails", Text(str(text), style="red"))
    return Group(facts, *_events(status.events))


def _watched(status: StatusView) -> list[tuple[str, str]]:
    """Return the share of the rows that is watched, where it is not all."""
    answered, watched = status.answered_rows, status.watched_rows
    if watched == answered:
        return []
    bounds = "serve.tap.rows_per_s and bytes_per_s bound it"
    return [("watched", f"{watched / answered:.1%} of {answered:,} rows; {bounds}")]


def _rollout(rollout: RolloutView | None) -> list[tuple[str, str]]:
    """Return the facts of a rollout by stages, if there is one."""
    if rollout is None:
        return []
    lead = "" if rollout.lead is None else f", lead {100 * rollout.lead:+.1f} points"
    differs = "" if rollout.differs is None else f", differs on {rollout.differs:.1%}"
    figures = (
        f"{rollout.rows:,} of {rollout.wanted:,} labels{lead}; {rollout.asked:,} rows asked of "
        f"both{differs}; next: {rollout.next}"
    )
    stage = f"version {rollout.version}, {rollout.stage} of {rollout.share:.3g} of the requests"
    return [("rollout", f"{stage}, stage {rollout.step} of {rollout.steps}"), ("", figures)]


def drift_view(drift: DriftView) -> RenderableType:
    """Return the ensemble's verdict, the signals, the challengers and the label summary."""
    summary, probation = drift.summary, drift.probation
    labels, accuracy = summary.labels, asdict(summary.accuracy)
    facts = _facts(
        ("level", _level(drift.level)),
        ("kind", drift.kind),
        ("reason", drift.reason),
        ("version", drift.version),
        ("predictions", f"{drift.rows:,}; {drift.lost_rows:,} lost"),
        ("labels", _labels(drift)),
        ("coverage", labels.coverage),
        ("label lag", labels.lag["rows"]),
        ("label outcomes", labels.outcomes),
        *([("too late for the signals", labels.late)] if labels.late else []),
        (accuracy.pop("measure"), accuracy),
        ("probation", f"{probation.status} {probation.detail}".strip()),
    )
    signals = Table("signal", "level", "statistic", "warning at", "drift at", "changed at", "since")
    for signal in drift.signals:
        numbers = (f"{getattr(signal, key):.3g}" for key in ("statistic", "warning_at", "drift_at"))
        rows = (
            "" if getattr(signal, k) is None else f"{getattr(signal, k):,}"
            for k in ("change_row", "since_row")
        )
        signals.add_row(signal.name, _level(signal.level), *numbers, *rows)
    moved, segments = _changes(drift.signals), _segments(summary.segments)
    rivals = _challengers(drift.challengers)
    return Group(facts, signals, *rivals, *moved, *segments, *_notes(summary.calibration))


def _labels(drift: DriftView) -> str:
    arriving = "arriving" if drift.labelled else "none yet"
    return f"{drift.labelled:,}; {'missing' if drift.summary.labels.missing else arriving}"


def _challengers(challengers: Sequence[Challenger]) -> Iterable[Table]:
    """Yield a table of the challengers, the best supported first, if labels have come."""
    titles = ("lead over the live model", "at least", "on labels", "evidence", "share in a mixture")
    table = Table("challenger", *titles)
    for rival in challengers:
        lead, low = f"{100 * rival.lead:+.1f} points", f"{100 * rival.low:+.1f}"
        rest = (f"{rival.weight:.0%}", f"{rival.share:.0%}")
        table.add_row(rival.name, lead, low, f"{rival.rows:,}", *rest)
    if any(rival.rows for rival in challengers):
        yield table


def _changes(signals: Sequence[SignalView]) -> Iterable[Table]:
    """Yield a table of what moved most, if anything did."""
    table = Table("signal", "moved", "effect", "before", "now")
    for signal in signals:
        for change in signal.changes:
            numbers = (f"{getattr(change, key):.3g}" for key in ("before", "now"))
            effect = f"{change.measure} {change.effect:.2f}"
            table.add_row(signal.name, f"{change.what} {change.name}", effect, *numbers)
    if table.row_count:
        yield table


def _segments(segments: Sequence[SegmentView]) -> Iterable[Table]:
    """Yield a table of the segments, if there are any."""
    table = Table("segment", "level", "rows", "labelled", "accuracy before", "now", "changed at")
    for segment in segments:
        counts = (f"{getattr(segment, key):,}" for key in ("rows", "labelled"))
        accuracy = (_value(getattr(segment, key)) for key in ("accuracy_before", "accuracy_now"))
        changed = "" if segment.change_row is None else f"{segment.change_row:,}"
        table.add_row(segment.name, _level(segment.level), *counts, *accuracy, changed)
    if segments:
        yield table


def _notes(calibration: Mapping[str, CalibrationView]) -> Iterable[Text]:
    """Yield what the reference cannot give, one line each."""
    for name, signal in calibration.items():
        for note in signal.notes:
            yield Text(f"{name}: {note}", style="yellow")


def versions_view(versions: Sequence[VersionView]) -> RenderableType:
    """Return one row a version, the live one marked."""
    table = Table("", "version", "parent", "made", "by", "hash", "metrics")
    for version in versions:
        if version.damage:
            table.add_row(Text("damaged", style="red"), str(version.version), *[""] * 5)
            continue
        table.add_row(
            Text("live", style="green") if version.live else "",
            str(version.version),
            "" if version.parent is None else str(version.parent),
            _when(version.created_at),
            (version.plan or {}).get("origin") or version.run_id or "config",
            version.hash[:12],
            _pairs({k: v for k, v in version.metrics.items() if isinstance(v, int | float)}),
        )
    broken = (Text(f"{v.version}: {v.damage}", style="red") for v in versions if v.damage)
    return Group(table, *broken)


def audit_view(audit: AuditView) -> RenderableType:
    """Return how a version was made: compute, what was gained and forgotten, and each bandit."""
    plan, compute = audit.plan, audit.compute
    facts = _facts(
        ("version", f"{audit.version}, from {_value(audit.training.get('start_version'))}"),
        ("run", f"{audit.run_id or 'config'}: {plan.get('origin') or _value(plan['method'])}"),
        ("verdict", {True: "accepted", False: "rejected", None: "-"}[audit.accepted]),
        ("why", audit.reason),
        ("budget", plan["budget"] or f"{_value(plan['steps'])} steps"),
        ("spent", f"{_value(compute['flops'])} FLOP; seconds: {_pairs(compute['seconds'])}"),
        ("recent rows", audit.recent),
        ("older rows", audit.older),
        ("training", audit.training),
    )
    return Group(facts, *(_bandit(name, bandit) for name, bandit in audit.bandits.items()))


def _bandit(name: str, bandit: dict[str, Any]) -> RenderableType:
    heads = "draws", "mean probability", "mean reward"
    if name == "sample":
        heads = "rounds", "came, of their due", "labels named by the model"
    table = Table(name, *heads, "first step", "last step")
    for arm in sorted(bandit["arms"], key=lambda arm: -arm["draws"]):
        numbers = (_value(arm.get(k)) for k in ("probability", "reward", "first", "last"))
        table.add_row(arm["arm"], f"{arm['draws']:,}", *numbers)
    uniform = bandit["uniform_instead"]
    if uniform is None:
        return table
    dr, logged = uniform["dr"], uniform["reward"]
    told = (
        f"if drawn uniformly: mean reward {dr['value']:.3f} ± {dr['standard_error']:.3f} instead "
        f"of {logged:.3f} (doubly robust; IPS {uniform['ips']['value']:.3f}, SNIPS "
        f"{uniform['snips']['value']:.3f})"
    )
    warned = f"; {dr['warning']}" if dr["warning"] else ""
    return Group(table, Text(told + warned))


def _facts(*rows: tuple[str, Any]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    for name, value in rows:
        table.add_row(name, value if isinstance(value, Text) else Text(_value(value)))
    return table


def _events(events: Sequence[EventView]) -> Iterable[Table]:
    if not events:
        return
    table = Table("when", "event", "what", box=None, header_style="dim")
    for event in events[-EVENTS_SHOWN:]:
        table.add_row(_when(event.at), event.kind, Text(str(event.text)))
    yield table


def _level(name: str) -> Text:
    return Text(name, style=LEVEL_STYLES.get(name, ""))


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{key} {_value(value)}" for key, value in values.items())


def _value(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, dict):
        return _pairs(value)
    if isinstance(value, list | tuple):
        return ", ".join(_value(item) for item in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def in_bytes(size: float) -> str:
    """Return a number of bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} TiB"
