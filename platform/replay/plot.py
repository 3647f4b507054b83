"""The signals of a timeline against their limits, as one picture."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from undrift.errors import ConfigError
from undrift.replay.timeline import Timeline, Trace

ENDINGS = (".svg", ".png")
_POINTS = 2_000  # across the picture; of more, the highest of each stretch is drawn
_INK, _WARN, _DRIFT, _REARMED = "#1c2024", "#c08a00", "#c62f3b", "#1d5fd1"
_LINES = (
    (("rearmed", "promoted", "rolled_back"), _REARMED, "-", "re-armed"),
    (("drift",), _DRIFT, ":", "drift decided"),
)


def check_plot(path: Path) -> None:
    """Check that a plot can be written to ``path``.

    Raises:
        ConfigError: It cannot.
    """
    if path.suffix not in ENDINGS:
        raise ConfigError(f"--plot {path}: the file must end in {' or '.join(ENDINGS)}")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"--plot {path}: there is no folder {path.parent}")


def write_plot(timeline: Timeline, path: Path, title: str) -> None:
    """Draw each signal over the rows, with its limits, change points, drifts and re-armings."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    trace = timeline.trace
    count = len(trace.names)
    with mpl.rc_context({"font.size": 9, "svg.hashsalt": "undrift"}):
        height = 1.9 * count + 1.4
        figure = Figure(figsize=(10, height))
        axes = figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0]
        figure.subplots_adjust(
            left=0.07, right=0.985, top=1 - 0.4 / height, bottom=1.0 / height, hspace=0.15
        )
        for index, axis in enumerate(axes):
            _draw(axis, trace, index, timeline)
        axes[0].set_title(f"{title}: each signal against its limits", loc="left", fontsize=10)
        axes[-1].set_xlabel("row")
        axes[-1].set_xlim(0, int(trace.row[-1]) if len(trace.row) else 1)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="lower center", ncols=len(labels), frameon=False)
        metadata = {"Date": None} if path.suffix == ".svg" else {}
        figure.savefig(path, dpi=150, metadata=metadata)


def _draw(axis: Any, trace: Trace, index: int, timeline: Timeline) -> None:
    name = trace.names[index]
    row, value = _thinned(trace.row, trace.statistic[:, index])
    axis.plot(row, value, color=_INK, linewidth=0.9, label="statistic")
    limits = (("warning", _WARN, trace.warning_at), ("drift", _DRIFT, trace.drift_at))
    for what, colour, limit in limits:
        axis.plot(trace.row, limit[:, index], color=colour, linewidth=1.1, linestyle="--",
                  label=f"{what} limit")  # fmt: skip
    entries = timeline.entries
    for kinds, colour, style, label in _LINES:
        rows = [entry.row for entry in entries if entry.kind in kinds]
        for i, at in enumerate(rows):
            axis.axvline(at, color=colour, linestyle=style, linewidth=0.9, alpha=0.8,
                         label=label if i == 0 else None)  # fmt: skip
    changed = [
        signal.change_row
        for entry in entries
        if entry.evidence is not None and entry.kind == "drift"
        for signal in entry.evidence.signals
        if signal.name == name and signal.change_row is not None
    ]
    axis.plot(changed, np.zeros(len(changed)), linestyle="", marker="^", color=_DRIFT,
              markersize=6, clip_on=False, label="change point")  # fmt: skip
    finite = trace.drift_at[:, index][np.isfinite(trace.drift_at[:, index])]
    axis.set_ylim(0.0, 1.4 * float(finite.max()) if len(finite) else None)
    axis.set_ylabel(name)
    axis.spines[["top", "right"]].set_visible(False)


def _thinned(
    row: NDArray[np.int64], value: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return at most so many points, of each stretch the highest."""
    if len(row) <= _POINTS:
        return row, value
    edges = np.linspace(0, len(row), _POINTS + 1).astype(int)
    kept = [a + int(np.argmax(value[a:b])) for a, b in pairwise(edges)]
    return row[kept], value[kept]
