"""A demo in the terminal while it runs: accuracy, signals, lifecycle, versions, events."""

from __future__ import annotations

import math
import threading
import time
from itertools import pairwise

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from undrift.demo.driver import Driver
from undrift.demo.recording import Recording, SignalPoint, Snapshot
from undrift.demo.result import Accuracy, accuracy

LINE_EVERY_S = 10.0
EVENT_LINES = 7
_BARS = " ▁▂▃▄▅▆▇█"
_STYLE = {"none": "green", "warning": "yellow", "drift": "red"}
_PHASE_STYLE = {
    "healthy": "green",
    "warning": "yellow",
    "drift": "red",
    "retraining": "magenta",
    "candidate": "magenta",
    "swapping": "cyan",
    "probation": "cyan",
    "cooldown": "red",
}
_EVENT_STYLE = {
    "warning": "yellow",
    "drift": "red",
    "retraining": "magenta",
    "candidate": "magenta",
    "promoted": "cyan",
    "rolled_back": "red",
    "failed": "red",
}


def watch(driver: Driver, console: Console | None = None) -> Recording:
    """Play a stream while showing it; an interrupt stops the driver and returns what there is.

    Args:
        driver: Not yet started.
        console: Where to show it; a live picture on a terminal, else a line every ten seconds.
    """
    console = console or Console()
    failure: list[BaseException] = []

    def play() -> None:
        try:
            driver.run()
        except BaseException as error:
            failure.append(error)

    player = threading.Thread(target=play, name="demo-driver", daemon=True)
    player.start()
    try:
        if console.is_terminal:
            _live(driver, player, console)
        else:
            _lines(driver, player, console)
    except KeyboardInterrupt:
        console.print("stopping: waiting for the answers under way")
    finally:
        driver.stop.set()
        player.join()
    if failure:
        raise failure[0]
    return driver.recording


def _live(driver: Driver, player: threading.Thread, console: Console) -> None:
    with Live(render(driver), console=console, refresh_per_second=4, screen=False) as live:
        while player.is_alive():
            player.join(0.25)
            live.update(render(driver))


def _lines(driver: Driver, player: threading.Thread, console: Console) -> None:
    told = 0
    said_at = -math.inf
    while player.is_alive():
        player.join(0.25)
        for event in driver.recording.events[told:]:
            console.print(f"  {event.kind}: {event.text}", soft_wrap=True)
            told += 1
        if time.monotonic() - said_at >= LINE_EVERY_S:
            said_at = time.monotonic()
            console.print(line(driver), soft_wrap=True)
    console.print(line(driver), soft_wrap=True)


def line(driver: Driver) -> str:
    """Return the state of the run as one line of text."""
    record, recent = driver.recording, _recent(driver)
    now = record.snapshots[-1] if record.snapshots else None
    return (
        f"row {record.sent:,}/{len(driver.stream):,}  ours {_percent(recent.ours)}  "
        f"frozen {_percent(recent.frozen)}  phase {now.phase if now else '?'}  "
        f"version {now.live_version if now else '?'}  failed {record.failed}"
    )


def render(driver: Driver) -> RenderableType:
    """Return the live picture of a run, for a terminal of about 100 by 30 characters."""
    record = driver.recording
    now = record.snapshots[-1] if record.snapshots else Snapshot(0.0, 0.0, 0)
    middle = Table.grid(expand=True)
    middle.add_column(ratio=5)
    middle.add_column(ratio=3)
    middle.add_row(_signals(now), _platform(driver, now))
    return Group(_head(driver, now), _accuracy(driver), middle, _events(record))


def _recent(driver: Driver) -> Accuracy:
    """Accuracy over the rows answered last, a twentieth of the stream."""
    answered = driver.recording.sent
    width = max(100, len(driver.stream) // 20)
    return accuracy(driver.recording, max(0, answered - width), answered)


def _head(driver: Driver, now: Snapshot) -> RenderableType:
    record, n = driver.recording, len(driver.stream)
    done = record.sent / n
    cells = int(done * 30)
    text = Text.assemble(
        ("━" * cells, "cyan"),
        ("━" * (30 - cells), "bright_black"),
        f" {done:4.0%}  row {record.sent:,} of {n:,}   phase ",
        (now.phase or "?", f"bold {_PHASE_STYLE.get(now.phase, 'white')}"),
        "   version ",
        (str(now.live_version or "?"), "bold"),
    )
    return Panel(text, title=Text(driver.stream.title, style="bold"), title_align="left")


def _accuracy(driver: Driver) -> RenderableType:
    columns = 79
    n = len(driver.stream)
    cut = np.linspace(0, n, columns + 1).astype(int)
    bins = [
        accuracy(driver.recording, int(a), int(min(b, driver.recording.sent)))
        for a, b in pairwise(cut)
        if a < driver.recording.sent
    ]
    recent = _recent(driver)
    table = Table.grid(padding=(0, 1))
    table.add_column(width=7)
    table.add_column(width=columns)
    table.add_column(justify="right", width=6)
    for name, style, values, last in (
        ("ours", "cyan", [b.ours for b in bins], recent.ours),
        ("frozen", "yellow", [b.frozen for b in bins], recent.frozen),
    ):
        rows = bars(values, height=3)
        for i, row in enumerate(rows):
            bottom = i == len(rows) - 1
            table.add_row(
                Text(name, style=f"bold {style}") if bottom else "",
                Text(row, style=style),
                Text(_percent(last), style=f"bold {style}") if bottom else "",
            )
        if name == "ours":
            table.add_row("", Text("─" * columns, style="bright_black"), "")
    return Panel(table, title=driver.recording.scores.measure, title_align="left")


def bars(values: list[float], height: int) -> list[str]:
    """Draw values in [0, 1] as columns of blocks, ``height`` lines high; NaN is left blank.

    Example:
        >>> bars([0.0, 0.5, 1.0], height=2)
        ['  █', ' ██']
    """
    lines = []
    for level in reversed(range(height)):
        filled = [0.0 if math.isnan(v) else v * height - level for v in values]
        lines.append("".join(_BARS[round(8 * min(max(f, 0.0), 1.0))] for f in filled))
    return lines


def _signals(now: Snapshot) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    table.add_column(width=12)
    table.add_column(width=24)
    table.add_column(justify="right")
    for signal in now.signals:
        style = _STYLE.get(signal.level, "white")
        table.add_row(
            Text(signal.name, style="bold"),
            meter(signal, 24),
            Text(signal.level, style=style),
        )
    lines: list[RenderableType] = [table, Text(now.reason, style="bright_black", no_wrap=True)]
    return Panel(
        Group(*lines) if now.signals else Text("no report yet", style="bright_black"),
        title="signals: the mark is warning, a full bar is drift",
        title_align="left",
        height=7,
    )


def meter(signal: SignalPoint, width: int) -> Text:
    """Draw a statistic as a bar: two thirds of it are the way to warning, the end is drift."""
    fill = fraction(signal)
    cells = round(fill * width)
    mark = round(2 / 3 * width)
    cut = [c if i != mark else "│" for i, c in enumerate("█" * cells + "·" * (width - cells))]
    text = Text("".join(cut), style=_STYLE.get(signal.level, "white"))
    text.stylize("bright_black", cells)
    return text


def fraction(signal: SignalPoint) -> float:
    """Return where a statistic stands: 0 at none, 2/3 at warning, 1 at drift or beyond.

    Example:
        >>> from undrift.demo.recording import SignalPoint
        >>> fraction(SignalPoint("input", "warning", 15.0, 10.0, 20.0)).__round__(3)
        0.833
    """
    value, warning, drift = signal.statistic, signal.warning_at, signal.drift_at
    if not math.isfinite(value) or warning <= 0:
        return 1.0 if value == math.inf else 0.0
    if value < warning:
        return 2 / 3 * max(value, 0.0) / warning
    return min(2 / 3 + (value - warning) / max(drift - warning, 1e-12) / 3, 1.0)


def _platform(driver: Driver, now: Snapshot) -> RenderableType:
    record = driver.recording
    answered = np.flatnonzero(record.version[: record.sent] > 0)[-400:]
    taken = (record.answered_at - record.due_at)[answered] * 1000.0
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bright_black")
    table.add_column(justify="right")
    table.add_row("labels joined", f"{now.labelled:,}")
    table.add_row("latency p50", f"{np.median(taken):.1f} ms" if len(taken) else "?")
    table.add_row("failed requests", Text(str(record.failed), "red" if record.failed else "green"))
    table.add_row("reconnects", str(record.reconnects))
    table.add_row("versions seen", ", ".join(map(str, sorted(record.hashes))) or "?")
    return Panel(table, title="requests", title_align="left", height=7)


def _events(record: Recording) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    table.add_column(style="bright_black", min_width=8)
    table.add_column(min_width=11)
    table.add_column(no_wrap=True, overflow="ellipsis")
    for event in record.events[-EVENT_LINES:]:
        kind = event.kind
        table.add_row(
            time.strftime("%H:%M:%S", time.localtime(event.at)),
            Text(kind.replace("_", " "), style=_EVENT_STYLE.get(kind, "white")),
            Text(event.text),
        )
    shown = table if record.events else Text("nothing yet", style="bright_black")
    return Panel(shown, title="events", title_align="left", height=EVENT_LINES + 2)


def _percent(value: float) -> str:
    return "  ?  " if math.isnan(value) else f"{value:5.1%}"
