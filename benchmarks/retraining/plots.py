"""The plots of docs/retraining.md."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter

from benchmarks.retraining import lifelong, lifelong_tables
from benchmarks.retraining.design import FULL, HEADLINE, OURS, SHARES
from benchmarks.retraining.results import Results
from benchmarks.retraining.rivals import METHODS as RIVALS
from benchmarks.retraining.tasks import TASKS

# Okabe and Ito's palette, safe for colour-blind readers; ours is black and thick.
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#0072B2", "#D55E00", "#999999")
MARKERS = "sD^vPX*<>ph"
STYLE = {
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
    "svg.hashsalt": "undrift", "legend.frameon": False,
}  # fmt: skip
ROW = 4
SHOWN = 25.0  # points below a full retrain; what lies lower is cut off


def draw(results: Results, folder: Path) -> None:
    """Draw every plot into ``folder``, of the tasks of which there are runs."""
    there = tuple(task for task in results.tasks if results.runs(task, OURS, HEADLINE))
    results = replace(results, tasks=there or results.tasks)
    with mpl.rc_context(STYLE):
        made = {"frontier": frontier(results), "forgetting": forgetting(results)}
        if results.sequences:
            made["lifelong"] = in_a_row(results)
        for name, figure in made.items():
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})


def _grid(results: Results, height: float) -> tuple[Figure, list[Axes]]:
    columns = min(ROW, len(results.tasks))
    rows = -(-len(results.tasks) // columns)
    figure = Figure(figsize=(1.5 + 2.9 * columns, 0.4 + height * rows), layout="constrained")
    axes = list(np.ravel(figure.subplots(rows, columns, squeeze=False)))
    for ax in axes[len(results.tasks) :]:
        ax.set_visible(False)
    for ax, task in zip(axes, results.tasks, strict=False):
        ax.set_title(TASKS[task].title, fontsize=9)
    return figure, axes


def style(results: Results, method: str) -> dict[str, object]:
    """Return how a method's line looks; rivals' own implementations are dashed."""
    if method == OURS:
        return {"color": "black", "marker": "o", "linewidth": 2.8, "zorder": 5}
    others = [name for name in results.methods if name != OURS]
    place = others.index(method)
    return {
        "color": COLOURS[place % len(COLOURS)],
        "marker": MARKERS[place % len(MARKERS)],
        "linestyle": "--" if method in RIVALS else "-",
        "linewidth": 1.0,
        "markersize": 4,
    }


def frontier(results: Results) -> Figure:
    """Draw accuracy against the share of a full retrain's operations."""
    figure, axes = _grid(results, 2.8)
    for ax, task in zip(axes, results.tasks, strict=False):
        lows = []
        for method in reversed(results.methods):
            values = [100 * results.median(task, method, share, "mean") for share in SHARES]
            lows += [value for value in values if value == value]
            ax.plot(SHARES, values, label=method, **style(results, method))  # type: ignore[arg-type]
        whole = 100 * results.median(task, FULL, 1.0, "mean")
        if lows and whole == whole:
            ax.axhline(whole, color="#666666", linewidth=0.8, linestyle=":")
            ax.text(
                1.0, whole, "full", transform=ax.get_yaxis_transform(),
                va="bottom", ha="right", fontsize=7, color="#666666",
            )  # fmt: skip
            ax.set_ylim(bottom=max(min(lows) - 1.0, whole - SHOWN))
        ax.set(xscale="log")
        ax.xaxis.set_major_locator(FixedLocator(SHARES))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        ax.grid(alpha=0.25)
    for ax in axes[::ROW]:
        ax.set_ylabel("accuracy, mean of new and old, %")
    figure.supxlabel(
        f"share of a full retrain's operations (over {SHOWN:.0f} points below full is cut off)",
        fontsize=9,
    )
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles[::-1], names[::-1], loc="outside right center")
    return figure


def forgetting(results: Results) -> Figure:
    """Draw what each method forgets at the headline share."""
    figure, axes = _grid(results, 0.6 + 0.19 * len(results.methods))
    names = list(reversed(results.methods))
    for i, (ax, task) in enumerate(zip(axes, results.tasks, strict=False)):
        for m in names:
            values = 100 * results.values(task, m, HEADLINE, "forgetting")
            middle = float(np.median(values)) if len(values) else 0.0
            error = [[middle - values.min()], [values.max() - middle]] if len(values) else None
            colour = "black" if m == OURS else "#9ecae1" if m in RIVALS else "#bbbbbb"
            ax.barh(m, middle, xerr=error, color=colour, error_kw={"linewidth": 0.8})
        ax.axvline(0.0, color="black", linewidth=0.6)
        ax.tick_params(axis="y", labelsize=8)
        if i % ROW:
            ax.set_yticklabels([])
        ax.grid(axis="x", alpha=0.25)
    figure.supxlabel(
        f"forgetting at {HEADLINE:.0%}, points of accuracy (bars: median; lines: range over seeds)",
        fontsize=9,
    )
    return figure


def in_a_row(results: Results) -> Figure:
    """Draw accuracy on all tasks so far after each of ten tasks."""
    played = lifelong_tables.known
    sequences = [s for s in results.sequences if len(played(results, s, OURS))]
    sequences = sequences or list(results.sequences)
    figure = Figure(figsize=(3.6 * len(sequences), 3.2), layout="constrained")
    axes = figure.subplots(1, len(sequences), squeeze=False)[0]
    styles = {OURS: ("black", "o"), FULL: (COLOURS[4], "s"), "finetune": (COLOURS[5], "D"),
              lifelong.ANEW: (COLOURS[2], "^"), lifelong.FROZEN: (COLOURS[6], "v")}  # fmt: skip
    for ax, sequence in zip(axes, sequences, strict=True):
        ax.set_title(lifelong.TITLES[sequence], fontsize=8)
        for player, (colour, marker) in styles.items():
            mean = lifelong_tables.known(results, sequence, player)
            if len(mean):
                after = np.arange(1, mean.shape[1] + 1)
                label = lifelong_tables.NAMES[player]
                ax.plot(after, 100 * mean.mean(axis=0), color=colour, marker=marker, label=label)
        ax.set_xlabel("tasks so far")
        ax.grid(alpha=0.25)
    axes[0].set_ylabel("accuracy on all tasks so far, %")
    legends = [ax.get_legend_handles_labels() for ax in axes]
    handles, names = max(legends, key=lambda legend: len(legend[0]))
    figure.legend(handles, names, loc="outside lower center", ncols=2)
    return figure
