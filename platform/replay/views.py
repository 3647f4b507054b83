"""What `undrift replay` prints for people."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from undrift.evidence import Evidence, Level
from undrift.replay.run import Replayed
from undrift.replay.timeline import Entry

ENTRIES_SHOWN = 60
_MOVED_SHOWN = 3
_STYLES = {
    "warning": "yellow",
    "drift": "bold red",
    "calm": "green",
    "promoted": "cyan",
    "rearmed": "cyan",
    "rolled_back": "magenta",
    "failed": "magenta",
}


def replay_view(found: Replayed) -> RenderableType:
    """Return the timeline, the totals and the notes."""
    entries = found.timeline.entries
    table = Table("row", "what", "kind", "signals, since row", "changed at", "what moved, or why")
    table.columns[0].justify = table.columns[4].justify = "right"
    for entry in entries[-ENTRIES_SHOWN:]:
        table.add_row(*_cells(entry))
    parts: list[RenderableType] = []
    if len(entries) > ENTRIES_SHOWN:
        hidden = len(entries) - ENTRIES_SHOWN
        parts.append(Text(f"{hidden:,} earlier entries are left out; --json has all", style="dim"))
    parts.append(table if entries else Text("nothing happened", style="green"))
    parts.append(_facts(found))
    parts += [Text(note, style="dim") for note in found.notes]
    return Group(*parts)


def _cells(entry: Entry) -> tuple[str | Text, ...]:
    what = Text(entry.kind.replace("_", " "), style=_STYLES.get(entry.kind, ""))
    evidence = entry.evidence
    if evidence is None:
        return f"{entry.row:,}", what, "", "", "", Text(entry.text)
    changed = "" if evidence.change_row is None else f"{evidence.change_row:,}"
    moved = _moved(evidence) or entry.text
    return f"{entry.row:,}", what, str(evidence.kind), _signals(evidence), changed, Text(moved)


def _signals(evidence: Evidence) -> Text:
    text = Text()
    for signal in evidence.signals:
        if signal.level > Level.NONE:
            name = signal.level.name.lower()
            since = "" if signal.since_row is None else f" {signal.since_row:,}"
            text.append(f"{', ' if text else ''}{signal.name}{since}", style=_STYLES[name])
    return text


def _moved(evidence: Evidence) -> str:
    changes = [change for signal in evidence.signals for change in signal.changes]
    changes.sort(key=lambda change: -abs(change.effect))
    return ", ".join(
        f"{c.what if c.name == c.what else f'{c.what} {c.name}'} {c.before:.3g} -> {c.now:.3g}"
        for c in changes[:_MOVED_SHOWN]
    )


def _facts(found: Replayed) -> Table:
    totals = found.totals
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    ((how, training_s),) = totals["training_s"].items()
    rows: list[tuple[str, str]] = [
        ("replayed", found.source),
        ("found", f"{totals['warnings']} warnings, {totals['drifts']} drifts"),
        ("rows", f"{totals['rows']:,}, {totals['labels']:,} with a label"),
        (
            "retrainings",
            f"{totals['retrainings']} on {totals['labels_trained_on']:,} labels; "
            f"{training_s:.1f} s of training, {how}",
        ),
        *_accuracy(found.accuracy, found.measure),
        *_decisions(totals),
        ("replay", f"{totals['replay_s']:.1f} s, {totals['rows_per_s']:,.0f} rows a second"),
    ]
    for name, value in rows:
        table.add_row(name, Text(value))
    return table


def _accuracy(accuracy: dict[str, dict[str, float | None]], measure: str) -> list[tuple[str, str]]:
    return [
        (
            f"{measure}, {name}",
            ", ".join(f"{part.replace('_', ' ')} {_share(value)}" for part, value in parts.items()),
        )
        for name, parts in accuracy.items()
    ]


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1%}"


def _decisions(totals: dict[str, Any]) -> list[tuple[str, str]]:
    if "decisions" not in totals:
        return []
    live, same = totals["decisions"]["live"], totals["decisions"]["same"]
    lines = [("live decisions", f"{same} of {live} made again on the same evidence, byte for byte")]
    gone = {what: count for what, count in totals["gone"].items() if count}
    if gone:
        told = ", ".join(f"{count:,} {what}" for what, count in gone.items())
        lines.append(("no longer kept", f"{told}: the replay begins after them"))
    return lines
