"""The plots of docs/detection.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from benchmarks.detection.figures import LABELS, OURS, Cell, Results
from benchmarks.detection.ours import Point, ticks
from benchmarks.detection.rows import Stream
from benchmarks.detection.scoring import delays
from benchmarks.detection.streams import AFTER, DRIFTS, build
from benchmarks.detection.tasks import DRIFT, FRONTIER, RIVALS, WARNING
from benchmarks.detection.worlds import Folders
from undrift.evidence import SignalReport
from undrift.monitor.monitor import Monitor

# Okabe and Ito's palette, safe for colour-blind readers; ours is black and thick.
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#0072B2", "#D55E00", "#999999")
MARKERS = "sD^vPX*"
SIGNALS = {"input": "#0072B2", "output": "#E69F00", "performance": "#D55E00"}
TIMELINE_LAG = 200
LOW, HIGH = 5, 3_000  # delays at the ends of the colour scale
TIMELINE_ROWS = slice(2_600, 3_500)
STYLE: Any = {
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
    "svg.hashsalt": "undrift", "legend.frameon": False,
}  # fmt: skip


def draw(results: Results, folder: Path, folders: Folders) -> None:
    """Draw every plot into ``folder``."""
    with mpl.rc_context(STYLE):
        _save(frontier(results), folder / "frontier.svg")
        _save(timeline(build(folders, "mnist-usps", 0)), folder / "timeline.svg")
        _save(heat_map(results), folder / "delays.svg")


def frontier(results: Results) -> Figure:
    """Draw mean delay against the realised mean time between false alarms."""
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    axes = figure.subplots(1, 2)
    for ax, stream in zip(axes, ("mnist-usps", "sea"), strict=True):
        _frontier(ax, results, stream)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center")
    return figure


def timeline(stream: Stream) -> Figure:
    """Draw the three signals on one stream, in units of their limits."""
    rows, reports = _watched(stream)
    figure = Figure(figsize=(10, 5.2), layout="constrained")
    axes = figure.subplots(len(SIGNALS), 1, sharex=True)
    assert stream.onset is not None
    for ax, (name, colour) in zip(axes, SIGNALS.items(), strict=True):
        _signal(ax, name, colour, rows, [r[name] for r in reports])
        ax.axvline(stream.onset, color="black", linewidth=0.8, linestyle=":")
        ax.set_xlim(TIMELINE_ROWS.start, TIMELINE_ROWS.stop)
    axes[0].annotate(
        "USPS begins", (stream.onset, 1.02), xycoords=("data", "axes fraction"), ha="center"
    )
    axes[-1].set_xlabel(f"newest row (labels are {TIMELINE_LAG} rows late)")
    return figure


def heat_map(results: Results) -> Figure:
    """Draw the mean delay of every detector on every stream at lag 0."""
    figure = Figure(figsize=(12.5, 8), layout="constrained")
    drift, first = results.cells(DRIFT), results.cells(WARNING)
    axes = figure.subplots(1, 2, width_ratios=[8, 12])
    titles = (
        "drift, and rivals that see labels\n(tuned to our rate of false drifts)",
        "first alarm, and all rivals\n(tuned to our rate of false alarms)",
    )
    for ax, cells, title in zip(axes, (drift, first), titles, strict=True):
        image = _heat(ax, [cell for cell in cells if cell.lag == 0])
        ax.set_title(title)
    figure.colorbar(image, ax=axes, label="mean delay, rows (a miss counts as 3,000)", shrink=0.5)
    return figure


def _frontier(ax: Axes, results: Results, stream: str) -> None:
    spec = DRIFTS[stream]
    ours = [results.calibration(spec.world, p) for p in FRONTIER]
    times = [rows / max(false, 1) for rows, false in ours]
    means = [delays(results.our_scores(stream, p, 0), AFTER).mean() for p in FRONTIER]
    with_labels = [rival for rival in RIVALS if rival.labels]
    tuned = results.tuned(spec.world)
    for rival, colour, marker in zip(with_labels, COLOURS, MARKERS, strict=True):
        counts = [tuned[rival.name][str(p)]["false"] for p in FRONTIER]
        x = [ours[0][0] / max(count, 1) for count in counts]
        y = [
            delays(results.rival_scores(stream, rival.name, str(p), 0), AFTER).mean()
            for p in FRONTIER
        ]
        ax.plot(x, y, color=colour, marker=marker, markersize=5, linewidth=1, label=rival.name)
        x0 = ours[0][0] / max(tuned[rival.name]["default"], 1)
        y0 = delays(results.rival_scores(stream, rival.name, "default", 0), AFTER).mean()
        ax.plot(x0, y0, color=colour, marker=marker, markersize=8, fillstyle="none", linestyle="")
    ax.plot(times, means, color="black", marker="o", linewidth=2.5, label=OURS)
    ax.set(xscale="log", yscale="log", title=spec.title)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 3)))
        axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("rows between false alarms (filled: tuned, open: default)")
    ax.set_ylabel("mean delay, rows")
    ax.grid(alpha=0.25)


def _watched(stream: Stream) -> tuple[list[int], list[dict[str, SignalReport]]]:
    point = Point(100_000, WARNING.level)
    monitor = Monitor(point.settings, stream.reference.reference(), 1)
    rows, reports = [], []
    for newest in ticks(monitor, stream.rows, TIMELINE_LAG, tick=5):
        if newest > TIMELINE_ROWS.stop:
            break
        if newest >= TIMELINE_ROWS.start:
            rows.append(newest)
            reports.append({s.name: s for s in monitor.evidence().signals})
    return rows, reports


def _signal(ax: Axes, name: str, colour: str, rows: list[int], reports: list[SignalReport]) -> None:
    ax.plot(rows, [r.statistic for r in reports], color=colour, linewidth=1.6)
    warning, drift = reports[0].warning_at, reports[0].drift_at
    for limit, text in ((warning, "warning"), (drift, "drift")):
        ax.axhline(limit, color="#666666", linewidth=0.8, linestyle="--")
        ax.text(TIMELINE_ROWS.start + 5, limit, text, va="bottom", color="#666666", fontsize=8)
    ax.set_ylabel(f"{name}\nlog10 evidence")
    ax.set_ylim(bottom=0, top=max(drift * 1.5, min(max(r.statistic for r in reports), drift * 2)))
    alarmed = [(row, r) for row, r in zip(rows, reports, strict=True) if r.level > 0]
    if alarmed:
        row, report = alarmed[0]
        ax.annotate(
            f"raised at row {row}\nchange estimated at {report.change_row}",
            (row, report.statistic), xytext=(28, -4), textcoords="offset points",
            arrowprops={"arrowstyle": "->", "color": colour}, color=colour, va="top",
        )  # fmt: skip


def _heat(ax: Axes, cells: list[Cell]) -> Any:
    names = [OURS, *(n for n in LABELS if any(n in cell.scores for cell in cells))]
    values = np.array(
        [[cell.mean(n) if n in cell.scores else np.nan for n in names] for cell in cells]
    )
    image = ax.imshow(values, norm=LogNorm(LOW, HIGH), cmap="cividis_r", aspect="auto")
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            dark = np.log(value / LOW) > 0.55 * np.log(HIGH / LOW)
            best = value <= np.nanmin(row)
            text = "" if np.isnan(value) else f"{value:.0f}"
            ax.text(
                j, i, text, ha="center", va="center", fontsize=7,
                color="white" if dark else "black", fontweight="bold" if best else "normal",
            )  # fmt: skip
    ax.set_xticks(range(len(names)), names, rotation=60, ha="right")
    ax.set_yticks(range(len(cells)), [DRIFTS[cell.stream].title for cell in cells])
    ax.tick_params(length=0)
    for side in ("left", "bottom"):
        ax.spines[side].set_visible(False)
    return image


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None})
