"""The report of a demo: one HTML file that needs nothing else."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from statistics import median
from typing import Any

from undrift.demo.charts import accuracy_chart, legend, signals_chart, versions_chart
from undrift.demo.result import DemoResult, Goal
from undrift.demo.style import STYLE

MAX_FIGURES = 60
SHOWN_FIGURES = 4


def write_report(result: DemoResult, path: Path, goal: Goal | None = None) -> None:
    """Write the report of ``result`` to ``path``.

    Args:
        result: What the demo showed.
        path: An ``.html`` file; its folder must exist.
        goal: What it had to show.
    """
    path.write_text(render_report(result, goal), encoding="utf-8")


def render_report(result: DemoResult, goal: Goal | None = None) -> str:
    """Return the report of ``result`` as HTML text."""
    body = [
        f'<header><div class="brand">undrift</div><h1>{escape(result.title)}</h1>'
        f'<p class="lead">{escape(result.task)}</p></header>',
        _verdict(result, goal),
        _tiles(result),
        f"<h2>{_named(result)} over the stream</h2>",
        '<p class="note">Each row is answered before its label is known. The dotted line is the '
        "first model, left as it was; both are judged on the same rows.</p>",
        legend(),
        accuracy_chart(result),
        versions_chart(result),
        _phase_legend(),
        _fifths(result),
        "<h2>What the signals saw</h2>",
        '<p class="note">Each statistic starts anew when a new version is live. Over the lower '
        "line it is a warning, over the upper line drift.</p>",
        signals_chart(result),
        _adaptations(result),
        _versions(result),
        _events(result),
        _requests(result),
        _how(result),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>undrift: {escape(result.title)}</title><style>\n{STYLE}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


def _verdict(result: DemoResult, goal: Goal | None) -> str:
    closed, missing = result.closed(goal)
    if closed:
        said = (
            "Drift was noticed, the model was retrained on late labels and swapped under traffic, "
            "and no request failed."
        )
        return f'<div class="verdict"><b>The loop closed.</b><span>{said}</span></div>'
    items = "".join(f"<li>{escape(m)}</li>" for m in missing)
    return f'<div class="verdict open"><b>The loop did not close:</b><ul>{items}</ul></div>'


def _named(result: DemoResult) -> str:
    """Return what quality is called, at the beginning of a sentence."""
    return result.measure[0].upper() + result.measure[1:]


def _tiles(result: DemoResult) -> str:
    last, late = result.fifths[-1], result.adaptations
    promoted = result.counts["promoted"]
    tiles = [
        (
            f"{_named(result)}, last fifth",
            f'<span class="ours">{_percent(last.ours)}</span>',
            f"frozen model {_percent(last.frozen)}, {_points(last.gap_points)} points",
        ),
        (
            "Failed requests",
            f"{result.failed_requests:,}",
            f"{result.rows:,} rows answered, {result.mixed_answers} by a wrong version",
        ),
        (
            "From drift to new version",
            f"{median(a.seconds for a in late):.1f} s" if late else "none",
            f"median of {len(late)}; {median(a.rows for a in late):,.0f} rows at "
            f"{result.pace:.0f} rows/s"
            if late
            else "no drift ended in a new version",
        ),
        (
            "Versions put live",
            f"{promoted}",
            f"{_count(result.counts['drift'], 'drift')}, "
            f"{_count(result.counts['rolled_back'], 'rollback')}",
        ),
    ]
    cells = "".join(
        f'<div class="tile"><div class="what">{what}</div><div class="value">{value}</div>'
        f'<div class="more">{more}</div></div>'
        for what, value, more in tiles
    )
    return f'<div class="tiles">{cells}</div>'


def _phase_legend() -> str:
    items = [
        ("", "healthy"),
        ("warning", "warning"),
        ("drift", "drift"),
        ("retraining", "retraining and swapping"),
        ("probation", "new version on probation"),
    ]
    spans = "".join(f'<span><i class="swatch {css}"></i>{text}</span>' for css, text in items)
    return f'<p class="legend">{spans}</p>'


def _fifths(result: DemoResult) -> str:
    named = [(f"Fifth {i + 1}", a) for i, a in enumerate(result.fifths)]
    named += [("Last three fifths", result.last_three_fifths), ("All", result.overall)]
    rows = [
        (
            name,
            f"{a.start:,} to {a.stop - 1:,}",
            f"{a.rows:,}",
            _percent(a.ours),
            _percent(a.frozen),
            _points(a.gap_points),
        )
        for name, a in named
    ]
    heads = ("Stretch", "Rows", "n:Judged", "n:undrift", "n:Frozen", "n:Points")
    return _table(heads, rows, compact=True)


def _adaptations(result: DemoResult) -> str:
    if not result.adaptations:
        return ""
    rows = [
        (f"{a.drift_row:,}", f"{a.promoted_row:,}", f"{a.rows:,}", f"{a.seconds:.1f} s")
        for a in result.adaptations
    ]
    heads = ("Drift at row", "New version at row", "n:Rows between", "n:Time between")
    return f"<h2>From drift to new version</h2>{_table(heads, rows, compact=True)}"


def _versions(result: DemoResult) -> str:
    if not result.versions:
        return ""
    served: dict[int, int] = {}
    for start, stop, version in result.spans:
        served[version] = served.get(version, 0) + stop - start
    rows = []
    for v in result.versions:
        number, plan = v.version, v.plan or {}
        rows.append(
            (
                str(number),
                f"{served.get(number, 0):,}",
                "" if v.parent is None else str(v.parent),
                escape(str(plan.get("method", ""))),
                f"<code>{escape(v.hash[:12])}</code>",
                _figures(v.metrics) + _audit(plan),
            )
        )
    heads = ("Version", "n:Rows answered", "Made from", "Method", "Weights", "Gate and plan")
    return f"<h2>Versions</h2>{_table(heads, rows)}"


def _figures(metrics: Mapping[str, Any]) -> str:
    flat = list(_flat(metrics))[:MAX_FIGURES]
    shown = "".join(f"{escape(k)} {escape(v)}<br>" for k, v in flat[:SHOWN_FIGURES])
    if len(flat) <= SHOWN_FIGURES:
        return shown
    return f"{shown}<details><summary>more</summary>{_pairs(flat[SHOWN_FIGURES:])}</details>"


def _audit(plan: Any) -> str:
    if not plan:
        return ""
    text = json.dumps(plan, indent=1, default=str)
    return f"<details><summary>plan</summary><pre>{escape(text[:4000])}</pre></details>"


def _flat(value: Any, prefix: str = "") -> Iterable[tuple[str, str]]:
    """Yield every plain value of nested mappings with its path."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix} {key}".strip().replace("_", " "))
    elif isinstance(value, bool) or not isinstance(value, float):
        yield prefix, str(value)[:200]
    else:
        yield prefix, f"{value:.4g}"


def _events(result: DemoResult) -> str:
    if not result.events:
        return ""
    start = min(e.at for e in result.events)
    start = min([start, *(s.at for s in result.timeline[:1])])
    rows = [
        (
            f"{e.row or 0:,}",
            f"{e.at - start:.1f} s",
            f"kind:{e.kind}",
            escape(e.text),
        )
        for e in result.events
    ]
    return f"<h2>What happened</h2>{_table(('Row', 'n:Time', 'Event', 'In words'), rows)}"


def _requests(result: DemoResult) -> str:
    latency = [(name, f"{ms:.1f} ms") for name, ms in result.latency_ms.items()]
    counts = [
        ("Rows sent", f"{result.rows:,} of {result.stream_rows:,}"),
        ("Pace", f"{result.pace:.1f} rows/s of {result.pace_asked:g} asked"),
        ("Duration", f"{result.seconds:.0f} s"),
        ("Failed requests", f"{result.failed_requests:,}"),
        ("Reconnects", f"{result.reconnects:,}"),
        ("Answers by a wrong version", f"{result.mixed_answers:,}"),
        ("Labels taken", f"{result.labels_sent:,}"),
        ("Labels refused", f"{result.labels_rejected:,}"),
    ]
    failures = "".join(f"<li>{escape(f)}</li>" for f in result.failures)
    return (
        '<h2>Requests</h2><div class="columns">'
        f"<div>{_pairs(counts)}</div>"
        '<div><p class="note">Latency, from the moment the schedule says to the answer, a '
        f"reconnect included:</p>{_pairs(latency)}</div></div>"
        + (f"<ul>{failures}</ul>" if failures else "")
    )


def _how(result: DemoResult) -> str:
    lag = result.label_lag_rows
    about = [
        ("Stream", result.name),
        ("Label lag", "no labels" if math.isnan(lag) else f"{lag:,.0f} rows (median)"),
        *((key, value) for key, value in result.how.items()),
        ("Written", time.strftime("%Y-%m-%d %H:%M %Z")),
    ]
    notes = "".join(f"<p>{escape(note)}</p>" for note in result.notes)
    return (
        '<div class="columns"><section><h2>How to read this</h2>'
        "<p>The model answers every row over HTTP. The true label of a row arrives late, by its "
        "inference id, and is compared with the answer that was given at the time.</p>"
        "<p>Three signals watch the inputs, the outputs and the late labels. Inputs and outputs "
        "alone can only warn; labels decide. A drift starts a retraining on the rows that the "
        "signals point to; a gate compares the candidate with the live model on recent labels and "
        "on what it knew before; then all replicas change version between two batches.</p>"
        "<p>A new version is on probation until late labels show that it is no worse than the one "
        "it replaced; if it is, the platform goes back by itself.</p></section>"
        f"<section><h2>How it was run</h2>{_pairs(about)}{notes}</section></div>"
    )


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], compact: bool = False) -> str:
    """Return a table; ``n:`` before a head makes a column of numbers, ``kind:`` a coloured cell.

    Cells are HTML.
    """
    numeric = [head.startswith("n:") for head in heads]
    head = "".join(
        f"<th{' class=n' if n else ''}>{h.removeprefix('n:')}</th>"
        for h, n in zip(heads, numeric, strict=True)
    )
    body = []
    for row in rows:
        cells = []
        for cell, n in zip(row, numeric, strict=True):
            if cell.startswith("kind:"):
                kind = escape(cell.removeprefix("kind:"))
                cells.append(f'<td class="kind {kind}">{kind.replace("_", " ")}</td>')
            else:
                cells.append(f"<td{' class=n' if n else ''}>{cell}</td>")
        body.append(f"<tr>{''.join(cells)}</tr>")
    width = ' class="compact"' if compact else ""
    return (
        f'<div class="wide"><table{width}><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _pairs(items: Iterable[tuple[str, str]]) -> str:
    inner = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in items)
    return f"<dl>{inner}</dl>"


def _percent(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.1%}"


def _points(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:+.1f}".replace("-", "\u2212")


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
