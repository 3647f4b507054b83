"""Draws the dashboard as Grafana would lay it out, from what Prometheus answered during a test.

DASHBOARD_JSON=build/dashboard.json python -m pytest tests/ray/test_seen.py
python -m tests.helpers.dashboard_page build/dashboard.json build/dashboard.png
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

FIGURES = "DASHBOARD_JSON"
_WIDTH = 24  # of Grafana's grid


def named(legend: str, labels: dict[str, str]) -> str:
    """Return the name of a series.

    Example:
        >>> named("{{trigger}}: {{outcome}}", {"trigger": "drift", "outcome": "promoted"})
        'drift: promoted'
    """
    return re.sub(r"{{(\w+)}}", lambda found: labels.get(found[1], ""), legend)


def _draw(axis: Axes, panel: dict[str, Any], begun: float) -> None:
    for series in panel["series"]:
        at = [when - begun for when, _ in series["values"]]
        axis.plot(at, [float(value) for _, value in series["values"]], ".-", label=series["name"])
    axis.set_title(f"{panel['title']} [{panel['type']}, {panel['unit']}]", fontsize=9)
    axis.tick_params(labelsize=7)
    axis.set_ylim(panel["min"], panel["max"])
    if panel["series"]:
        axis.legend(fontsize=7)


def draw(panels: list[dict[str, Any]], path: Path) -> None:
    """Write the picture."""
    times = [when for panel in panels for one in panel["series"] for when, _ in one["values"]]
    height = max(panel["grid"]["y"] + panel["grid"]["h"] for panel in panels)
    figure = Figure(figsize=(20, height / 2))
    cells = GridSpec(height, _WIDTH, figure, 0.01, 0.01, 0.99, 0.99, 0, 0)
    for panel in panels:
        x, y, w, h = (panel["grid"][key] for key in "xywh")
        _draw(figure.add_subplot(cells[y + 1 : y + h, x + 1 : x + w]), panel, min(times))
    figure.savefig(path, dpi=70)


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]))
