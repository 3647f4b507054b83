"""The plots of a report as inline SVG; colours come from the style sheet around it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

from undrift.demo.recording import Snapshot
from undrift.demo.result import DemoResult

WIDTH, LEFT, RIGHT = 960.0, 52.0, 104.0
CHANGING = ("retraining", "candidate", "swapping")
_MARKS = {
    "warning": ("warn", "M0,-5 L5,4 L-5,4 Z"),
    "drift": ("drift", "M0,-6 L6,0 L0,6 L-6,0 Z"),
    "promoted": ("ours", "M-5,0 A5,5 0 1,1 5,0 A5,5 0 1,1 -5,0 Z"),
    "rolled_back": ("drift", "M-5,-5 H5 V5 H-5 Z"),
    "failed": ("muted", "M-5,-5 L5,5 M5,-5 L-5,5"),
}
_MARK_NAMES = {
    "warning": "warning",
    "drift": "drift",
    "promoted": "new version live",
    "rolled_back": "rolled back",
    "failed": "attempt failed",
}


@dataclass(frozen=True, slots=True)
class Frame:
    """Maps rows to x and values to y within one plot.

    Attributes:
        rows: Rows of the whole stream.
        top: Upper edge.
        height: Height of the plot.
        high: Value at the upper edge; the lower edge is 0.
    """

    rows: int
    top: float
    height: float
    high: float

    def x(self, row: float) -> float:
        """Return the horizontal position of a row."""
        return LEFT + (WIDTH - LEFT - RIGHT) * row / max(self.rows, 1)

    def y(self, value: float) -> float:
        """Return the vertical position of a value, kept inside the plot."""
        return self.top + self.height * (1.0 - min(max(value / self.high, 0.0), 1.0))

    @property
    def bottom(self) -> float:
        """Lower edge."""
        return self.top + self.height


def accuracy_chart(result: DemoResult) -> str:
    """Return the accuracy, or R2, of the platform and of the frozen model over the stream."""
    frame = Frame(result.stream_rows, top=44.0, height=250.0, high=1.0)
    middle = [(b.start + b.stop) / 2 for b in result.curve]
    ours = [b.ours for b in result.curve]
    frozen = [b.frozen for b in result.curve]
    parts = [
        *_shades(frame, result.timeline),
        *(_level(frame, v, f"{v:.0%}", "grid") for v in (0.0, 0.25, 0.5, 0.75, 1.0)),
        *_drift_start(frame, result.drift_row),
        *_swap_lines(frame, result),
        _between(frame, middle, ours, frozen),
        _path(frame, middle, frozen, "line frozen"),
        _path(frame, middle, ours, "line ours"),
        *_end_labels(frame, ours, frozen),
        *_marks(frame, result, y=22.0),
        *_row_axis(frame, frame.bottom),
    ]
    return _svg(
        parts,
        frame.bottom + 40,
        f"{result.measure[0].upper()}{result.measure[1:]} over {result.stream_rows} rows",
    )


def versions_chart(result: DemoResult) -> str:
    """Return which version answered, and in which phase the lifecycle was."""
    frame = Frame(result.stream_rows, top=4.0, height=24.0, high=1.0)
    parts = [_lane("version", 20), _lane("phase", 52)]
    for start, stop, version in result.spans:
        a, b = frame.x(start), frame.x(stop)
        tone = "odd" if version % 2 else "even"
        parts.append(
            f'<rect class="span {tone}" x="{a:.1f}" y="4" width="{b - a:.1f}" height="24" rx="3">'
            f"<title>version {version}: rows {start:,} to {stop:,}</title></rect>"
        )
        if b - a > 22:
            parts.append(f'<text class="onspan" x="{(a + b) / 2:.1f}" y="20">v{version}</text>')
    for start, stop, phase in phases(result.timeline):
        a, b = frame.x(start), frame.x(stop)
        parts.append(
            f'<rect class="phase {escape(phase)}" x="{a:.1f}" y="40" '
            f'width="{max(b - a, 1.0):.1f}" height="14" rx="2">'
            f"<title>{escape(phase)}: rows {start:,} to {stop:,}</title></rect>"
        )
    return _svg(parts, 60, "Version and phase over the stream")


def signals_chart(result: DemoResult) -> str:
    """Return the statistics of the signals against their limits, one strip each."""
    names = list(dict.fromkeys(s.name for snap in result.timeline for s in snap.signals))
    parts: list[str] = []
    top, frame = 12.0, Frame(result.stream_rows, 12.0, 86.0, 1.0)
    for index, name in enumerate(names):
        points = [(snap.row, s) for snap in result.timeline for s in snap.signals if s.name == name]
        last = points[-1][1]
        frame = Frame(result.stream_rows, top, 86.0, 1.35 * max(last.drift_at, 1e-9))
        rows = [row for row, _ in points]
        values = [s.statistic for _, s in points]
        parts += _shades(frame, result.timeline)
        parts += _over(frame, rows, values, last.warning_at, last.drift_at, f"signal{index}")
        parts += [
            _level(frame, 0.0, "0", "grid"),
            _limit(frame, last.warning_at, "warning", "warn"),
            _limit(frame, last.drift_at, "drift", "drift"),
            _path(frame, rows, values, "line signal"),
            f'<text class="name" x="{LEFT + 6}" y="{top + 14:.1f}">{escape(name)}</text>',
            *_swap_lines(frame, result),
        ]
        top = frame.bottom + 18
    parts += _row_axis(frame, frame.bottom)
    return _svg(parts, frame.bottom + 40, "Signals against their limits")


def legend() -> str:
    """Return the meaning of the marks above the accuracy, as HTML."""
    items = [
        f'<span><svg width="14" height="14" viewBox="-7 -7 14 14" aria-hidden="true">'
        f'<path class="mark {css}" d="{shape}"/></svg>{_MARK_NAMES[kind]}</span>'
        for kind, (css, shape) in _MARKS.items()
    ]
    items.append('<span><i class="swatch shade"></i>retraining and swapping</span>')
    return f'<p class="legend">{"".join(items)}</p>'


def phases(timeline: Sequence[Snapshot]) -> list[tuple[int, int, str]]:
    """Return stretches of rows in one phase: (start, stop, phase)."""
    if not timeline:
        return []
    starts = [(next(group).row, phase) for phase, group in groupby(timeline, lambda s: s.phase)]
    stops = [*(row for row, _ in starts[1:]), timeline[-1].row]
    return [(row, stop, phase) for (row, phase), stop in zip(starts, stops, strict=True) if phase]


def _svg(parts: Iterable[str], height: float, label: str) -> str:
    return (
        f'<div class="plot"><svg viewBox="0 0 {WIDTH:.0f} {height:.0f}" role="img" '
        f'aria-label="{escape(label)}">{"".join(parts)}</svg></div>'
    )


def _path(frame: Frame, rows: Sequence[float], values: Sequence[float], css: str) -> str:
    """Draw a line, broken where a value is NaN."""
    steps, pen = [], "M"
    for row, value in zip(rows, values, strict=True):
        if math.isnan(value):
            pen = "M"
            continue
        steps.append(f"{pen}{frame.x(row):.1f},{frame.y(value):.1f}")
        pen = "L"
    return f'<path class="{css}" d="{" ".join(steps)}"/>'


def _between(
    frame: Frame, rows: Sequence[float], upper: Sequence[float], lower: Sequence[float]
) -> str:
    known = [
        (frame.x(r), frame.y(a), frame.y(b))
        for r, a, b in zip(rows, upper, lower, strict=True)
        if not math.isnan(a)
    ]
    there = [f"{x:.1f},{a:.1f}" for x, a, _ in known]
    back = [f"{x:.1f},{b:.1f}" for x, _, b in reversed(known)]
    return f'<polygon class="between" points="{" ".join(there + back)}"/>'


def _over(
    frame: Frame,
    rows: Sequence[float],
    values: Sequence[float],
    warning: float,
    drift: float,
    name: str,
) -> list[str]:
    """Fill what lies over the warning limit, and more strongly what lies over the drift limit."""
    known = [(r, v) for r, v in zip(rows, values, strict=True) if not math.isnan(v)]
    if not known:
        return []
    line = " ".join(f"{frame.x(r):.1f},{frame.y(v):.1f}" for r, v in known)
    start, end = frame.x(known[0][0]), frame.x(known[-1][0])
    area = f"{start:.1f},{frame.bottom:.1f} {line} {end:.1f},{frame.bottom:.1f}"
    parts = []
    for css, low, high in (("warn", warning, drift), ("drift", drift, frame.high)):
        clip = f"{name}-{css}"
        parts.append(
            f'<clipPath id="{clip}"><rect x="0" width="{WIDTH:.0f}" y="{frame.y(high):.1f}" '
            f'height="{frame.y(low) - frame.y(high):.1f}"/></clipPath>'
            f'<polygon class="over {css}" clip-path="url(#{clip})" points="{area}"/>'
        )
    return parts


def _level(frame: Frame, value: float, text: str, css: str) -> str:
    y = frame.y(value)
    return (
        f'<line class="{css}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="tick end" x="{LEFT - 8}" y="{y + 4:.1f}">{text}</text>'
    )


def _limit(frame: Frame, value: float, text: str, css: str) -> str:
    y = frame.y(value)
    return (
        f'<line class="limit {css}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="tick {css}" x="{WIDTH - RIGHT + 8}" y="{y + 4:.1f}">{text}</text>'
    )


def _shades(frame: Frame, timeline: Sequence[Snapshot]) -> list[str]:
    return [
        f'<rect class="changing" x="{frame.x(a):.1f}" y="{frame.top:.1f}" '
        f'width="{max(frame.x(b) - frame.x(a), 1.0):.1f}" height="{frame.height:.1f}"/>'
        for a, b, phase in phases(timeline)
        if phase in CHANGING
    ]


def _swap_lines(frame: Frame, result: DemoResult) -> list[str]:
    return [
        f'<line class="swap" x1="{frame.x(start):.1f}" x2="{frame.x(start):.1f}" '
        f'y1="{frame.top:.1f}" y2="{frame.bottom:.1f}"/>'
        for start, _, _ in result.spans[1:]
    ]


def _drift_start(frame: Frame, row: int | None) -> list[str]:
    if row is None:
        return []
    x = frame.x(row)
    return [
        f'<line class="truth" x1="{x:.1f}" x2="{x:.1f}" y1="{frame.top}" y2="{frame.bottom}"/>',
        f'<text class="tick" x="{x + 6:.1f}" y="{frame.bottom - 8:.1f}">the change begins</text>',
    ]


def _marks(frame: Frame, result: DemoResult, y: float) -> list[str]:
    parts = []
    for event in result.events:
        kind = event.kind
        if kind not in _MARKS:
            continue
        css, shape = _MARKS[kind]
        row, named = event.row or 0, kind.replace("_", " ")
        title = escape(f"row {row:,}: {named}: {event.text}")
        parts.append(
            f'<path class="mark {css}" d="{shape}" '
            f'transform="translate({frame.x(row):.1f},{y})"><title>{title}</title></path>'
        )
    return parts


def _end_labels(frame: Frame, ours: Sequence[float], frozen: Sequence[float]) -> list[str]:
    known = [(a, b) for a, b in zip(ours, frozen, strict=True) if not math.isnan(a)]
    if not known:
        return []
    high, low = frame.y(known[-1][0]), frame.y(known[-1][1])
    middle, apart = (high + low) / 2, 9.0 if high <= low else -9.0
    if abs(high - low) < 18:
        high, low = middle - apart, middle + apart
    x = WIDTH - RIGHT + 8
    return [
        f'<text class="ends ours" x="{x}" y="{high + 4:.1f}">undrift</text>',
        f'<text class="ends frozen" x="{x}" y="{low + 4:.1f}">frozen</text>',
    ]


def _row_axis(frame: Frame, y: float) -> list[str]:
    parts = []
    step = _nice(frame.rows / 6)
    for row in range(0, frame.rows + 1, step):
        x = frame.x(row)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{y}" y2="{y + 5}"/>')
        parts.append(f'<text class="tick mid" x="{x:.1f}" y="{y + 19}">{row:,}</text>')
    parts.append(f'<text class="tick end" x="{LEFT - 8}" y="{y + 19}">row</text>')
    return parts


def _nice(step: float) -> int:
    """Return a round step of at least ``step``."""
    power = 10.0 ** math.floor(math.log10(max(step, 1.0)))
    return int(next(power * m for m in (1, 2, 5, 10) if power * m >= step - 1e-9))


def _lane(text: str, y: float) -> str:
    return f'<text class="tick end" x="{LEFT - 8}" y="{y}">{text}</text>'
