"""The page of figures, made of all runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from benchmarks.serving.bodies import CASES
from benchmarks.serving.rivals import OFF, OTHERS, OURS, RIVALS, STOPPED
from benchmarks.serving.summary import Ratio, Run, median, of, per_busiest, per_cpu, rate, ratio

TEMPLATE = Path(__file__).with_name("page.md")


def page(runs: Sequence[Run]) -> str:
    """Return the page in Markdown."""
    text = TEMPLATE.read_text(encoding="utf-8")
    parts = {"goals": _goals(runs), "cases": _cases(runs), "rivals": _rivals(runs)}
    for name, part in parts.items():
        text = text.replace(f"<!-- {name} -->", part)
    return text


def show(value: float) -> str:
    """Return a figure with three digits that count; a dash if there is none.

    Example:
        >>> show(1234.5), show(0.98765), show(float("nan"))
        ('1,234', '0.988', '-')
    """
    if math.isnan(value):
        return "-"
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:,.{digits}f}"


def _spread(found: Ratio | None) -> str:
    if found is None:
        return "- | -"
    return f"{show(found.median)} | {show(found.least)} to {show(found.most)}, {found.rounds}"


def _goals(runs: Sequence[Run]) -> str:
    """Return the table of what has to be reached, a ratio to a line."""
    ours = OURS.name
    lines = [
        "| requests a second of undrift, monitoring on, over those of | case | goal | median "
        "| least to most, rounds |",
        "|---|---|---|---|---|",
    ]
    goals = {"Ray Serve": "12", "FastAPI + uvicorn": "0.9"}
    for case in CASES:
        for rival in OTHERS:
            binary = case.name == "binary-64" and rival.name in ("KServe", "MLServer")
            small = case.name == "small-32"
            goal = "3" if binary else goals.get(rival.name, "2.5") if small else ""
            found = ratio(runs, (case.name, ours), (case.name, rival.name), rate)
            if found is not None:
                lines.append(f"| {rival.name} | {case.name} | {goal} | {_spread(found)} |")
    found = ratio(runs, ("binary-64", ours), ("json-64", ours), rate)
    lines.append(f"| its own JSON | binary-64 | 5 | {_spread(found)} |")
    before = "undrift, before"
    for case in CASES:
        for other in (OFF.name, STOPPED.name, before):
            found = ratio(runs, (case.name, ours), (case.name, other), rate)
            goal = "0.97" if other == OFF.name else ""
            if found is not None:
                lines.append(f"| {other} | {case.name} | {goal} | {_spread(found)} |")
    for case in CASES:
        p99 = ratio(runs, (case.name, ours), (case.name, OFF.name), lambda run: run["p99_ms"])
        if p99 is not None:
            goal = "at most 1.05"
            lines.append(f"| {OFF.name}: p99 instead | {case.name} | {goal} | {_spread(p99)} |")
    return "\n".join(lines)


def _cases(runs: Sequence[Run]) -> str:
    """Return a table for each case, a server to a line."""
    parts = []
    names = [rival.name for rival in RIVALS]
    names.insert(3, "undrift, before")
    for case in CASES:
        lines = [
            f"### {case.title}",
            "",
            "| server | requests a second | p50, ms | p99, ms | requests per CPU second | "
            "per one of its busiest process | CPUs taken | memory, MB | not answered | runs |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        for name in names:
            found = list(of(runs, case.name, name).values())
            if not found:
                continue
            columns = [
                median(found, rate),
                median(found, lambda run: run["p50_ms"]),
                median(found, lambda run: run["p99_ms"]),
                median(found, per_cpu),
                median(found, per_busiest),
                median(found, lambda run: run["cpu_s"] / run["seconds"]),
                median(found, lambda run: run["memory"] / 1e6),
            ]
            lost = sum(run["refused"] + run["lost"] for run in found)
            lines.append(f"| {name} | {' | '.join(map(show, columns))} | {lost:,} | {len(found)} |")
        if len(lines) > 4:
            parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _rivals(runs: Sequence[Run]) -> str:
    """Return who was there, and who was not and why."""
    told = {}
    for run in runs:
        if run["round"] < 0:
            where = f", {run['case']}" if run["case"] else ""
            told[run["rival"] + where] = run.get("version") or f"not measured: {run['why']}"
    return "\n".join(f"- {name}: {text}" for name, text in told.items())
