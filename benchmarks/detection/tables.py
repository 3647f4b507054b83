"""Writes docs/detection.md: every figure in it is measured by this benchmark."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.detection import frozen_errors, plots
from benchmarks.detection.figures import (
    OURS,
    Cell,
    Results,
    change_errors,
    realised,
)
from benchmarks.detection.markdown import Row, spread, table
from benchmarks.detection.scoring import Score, delays, missed
from benchmarks.detection.streams import AFTER, BEFORE, DRIFTS, NO_DRIFT
from benchmarks.detection.summary import Cost, frozen_cells, stayed_a_warning, summary
from benchmarks.detection.tasks import (
    DRIFT,
    LAGS,
    PUBLISHED,
    PUBLISHED_LOSS,
    PUBLISHED_WARNING,
    QUIET,
    RIVALS,
    SHIPPED,
    WARNING,
)
from benchmarks.detection.worlds import Folders
from undrift.evidence import Level


def write(results: Results, folders: Folders, docs: Path, cost: Cost) -> None:
    """Write the page and its plots."""
    folder = docs / "detection"
    folder.mkdir(parents=True, exist_ok=True)
    plots.draw(results, folder, folders)
    text = (Path(__file__).parent / "page.md").read_text(encoding="utf-8")
    sections: dict[str, Callable[[], str]] = {
        "summary": lambda: summary(results, cost),
        "quiet": lambda: quiet(results),
        "published": lambda: published(results),
        "drift": lambda: cells(results.cells(DRIFT)),
        "warning": lambda: cells(results.cells(WARNING)),
        "frozen": lambda: frozen_errors.table(frozen_cells(results)),
        "defaults": lambda: defaults(results),
        "harmless": lambda: harmless(results),
        "change": lambda: change_points(results),
        "kinds": lambda: kinds(results),
        "calibration": lambda: calibration(results),
        "cost": lambda: costs(cost),
    }
    for name, section in sections.items():
        text = text.replace(f"<!-- {name} -->", section())
    for name in ("seeds", "calibration_seeds"):
        text = text.replace(f"{{{name}}}", str(getattr(results, name)))
    (docs / "detection.md").write_text(text, encoding="utf-8")


def quiet(results: Results) -> str:
    """Return realised against stated false alarms."""
    rows: list[Row] = []
    for stream, spec in NO_DRIFT.items():
        for point in QUIET:
            total, false, each = results.quiet(stream, point)
            middle, low, high = realised(results, stream, point)
            stated = f"{point.rows_per_false_alarm:,.0f}"
            level = point.level.name.lower()
            interval = f"{middle:.2f} ({low:.2f} to {high:.2f})"
            alert = f"{results.alert(stream, point):.1%}"
            counts = [f"{total:,}", false, interval, spread(each), alert]
            rows.append([spec.title, level, stated, *counts])
    head = [
        "stream",
        "alarm",
        "stated rows between false alarms",
        "rows",
        "false",
        "realised / stated (95 %)",
        "false a seed",
        "under warning",
    ]
    return table(head, rows)


def published(results: Results) -> str:
    """Return MNIST to USPS at the published rate of false alarms."""
    rows: list[Row] = [
        ["published, majority of six signals", "", "252.5", "26.3 (mean)", "11.1 %", ""]
    ]
    world = DRIFTS["mnist-usps"].world
    watched = (
        ("drift", PUBLISHED),
        ("drift, by losses", PUBLISHED_LOSS),
        ("first alarm", PUBLISHED_WARNING),
    )
    for name, point in watched:
        total, false = results.calibration(world, point)
        scores = results.our_scores("mnist-usps", point, 0)
        rows.append(
            _published(
                f"{OURS}, {name}",
                f"{point.rows_per_false_alarm:,.0f}",
                total / max(false, 1),
                scores,
            )
        )
        for rival in RIVALS:
            if point.level is Level.WARNING or rival.labels:
                scores = results.rival_scores("mnist-usps", rival.name, str(point), 0)
                counted = results.tuned(world)[rival.name][str(point)]["false"]
                rows.append(
                    _published(f"{rival.name}, tuned to it", "", total / max(counted, 1), scores)
                )
    head = ["detector", "budget", "mean time between false alarms", "delay", "missed", "mean delay"]
    return table(head, rows)


def _published(name: str, budget: str, mtfa: float, scores: Sequence[Score]) -> Row:
    found = delays(scores, AFTER)
    return [
        name,
        budget,
        f"{mtfa:,.0f}",
        spread(found),
        f"{missed(scores):.0%}",
        f"{found.mean():.1f}",
    ]


def cells(found: Sequence[Cell]) -> str:
    """Return our delay and that of each cell's best rival."""
    rows: list[Row] = []
    for cell in found:
        best = cell.best
        rows.append([
            DRIFTS[cell.stream].title, cell.lag,
            spread(delays(cell.scores[OURS], cell.horizon)), f"{cell.mean(OURS):.0f}",
            f"{missed(cell.scores[OURS]):.0%}",
            best, spread(delays(cell.scores[best], cell.horizon)), f"{cell.mean(best):.0f}",
            f"{missed(cell.scores[best]):.0%}",
            f"{cell.ratio:.2f}" if cell.ratio <= 1.5 else f"**{cell.ratio:.2f}**",
        ])  # fmt: skip
    head = [
        "stream",
        "lag",
        "ours",
        "mean",
        "missed",
        "best rival",
        "its delay",
        "mean",
        "missed",
        "ratio",
    ]
    return table(head, rows)


def defaults(results: Results) -> str:
    """Return the rivals at their defaults, at lag 0."""
    rows: list[Row] = []
    hurting = [stream for stream, spec in DRIFTS.items() if spec.hurts]
    for rival in RIVALS:
        by_stream = {s: results.rival_scores(s, rival.name, "default", 0) for s in hurting}
        rows.append(_default_row(rival.name, by_stream))
    for name, point in (("drift", DRIFT), ("first alarm", WARNING)):
        by_stream = {s: results.our_scores(s, point, 0) for s in hurting}
        rows.append(_default_row(f"{OURS}, {name}", by_stream))
    short = [DRIFTS[s].title for s in hurting]
    return table(["detector", "false per 10,000 rows", "missed", *short], rows)


def _default_row(name: str, by_stream: dict[str, list[Score]]) -> Row:
    every = [s for scores in by_stream.values() for s in scores]
    rate = np.mean([s.false for s in every]) / BEFORE * 10_000
    medians = [f"{np.median(delays(scores, AFTER)):.0f}" for scores in by_stream.values()]
    return [name, f"{rate:.1f}", f"{missed(every):.0%}", *medians]


def harmless(results: Results) -> str:
    """Return how harmless shifts fare as shipped."""
    rows: list[Row] = []
    for stream, spec in DRIFTS.items():
        if spec.harmless:
            runs = results.ours[stream]
            before, after = (
                float(np.mean([run[f"error_{when}"] for run in runs]))
                for when in ("before", "after")
            )
            shares = [f"{np.mean(stayed_a_warning(results, stream, lag)):.0%}" for lag in LAGS]
            rows.append([spec.title, f"{before:.4f}", f"{after:.4f}", *shares])
    return table(["stream", "error before", "error after", *(f"lag {lag}" for lag in LAGS)], rows)


def change_points(results: Results) -> str:
    """Return errors of change points by stream, over all lags."""
    rows: list[Row] = []
    for stream, spec in DRIFTS.items():
        if spec.hurts:
            errors = [change_errors(results.outcomes(stream, DRIFT, lag)) for lag in LAGS]
            rows.append([spec.title, *(spread(100 * e, ".1f") for e in errors)])
    return table(["stream", *(f"lag {lag}, %" for lag in LAGS)], rows)


def kinds(results: Results) -> str:
    """Return what the monitor said had changed."""
    rows: list[Row] = []
    for stream, spec in DRIFTS.items():
        if spec.hurts:
            outcomes = [
                o for o in results.outcomes(stream, SHIPPED, 0) if o["detected"] is not None
            ]
            said = [o["kind"] for o in outcomes]
            counts = ", ".join(f"{kind} {said.count(kind)}" for kind in sorted(set(said)))
            moved = next((", ".join(o["moved"][:3]) for o in outcomes if o["moved"]), "")
            rows.append([spec.title, counts, moved])
    return table(["stream", "kind, of all seeds", "what moved most, one seed"], rows)


def calibration(results: Results) -> str:
    """Return the false alarms that rivals were tuned to, and the thresholds found."""
    rows: list[Row] = []
    for world in dict.fromkeys(spec.world for spec in DRIFTS.values()):
        for point in (DRIFT, WARNING):
            total, false = results.calibration(world, point)
            tuned = results.tuned(world)
            found = [tuned[rival.name][str(point)] for rival in RIVALS]
            thresholds = [
                f"{f['threshold']:.3g} ({f['false']})" if f["false"] <= f["allowed"] else "none"
                for f in found
            ]
            name = f"{point.level.name.lower()}, {point.rows_per_false_alarm:,.0f}"
            rows.append([world, name, f"{total:,}", false, *thresholds])
    return table(["world", "budget", "rows", "ours", *(r.name for r in RIVALS)], rows)


def costs(cost: Cost) -> str:
    """Return CPU time per row."""
    names = {
        "signals": "three signals",
        "monitor": "whole monitor: label join, signals, evidence",
        "river": "ADWIN on uncertainty and on errors; KS test per feature, once a batch",
        "rolling": "the same, KS test of the last 200 rows every 50 rows, as in the tables above",
        "kswin": "River's KSWIN per feature, which tests at every row",
    }
    ours = np.array(cost["signals"])
    rows = [
        [text, spread(cost[key], ".1f"), spread(np.array(cost[key]) / ours, ".1f")]
        for key, text in names.items()
    ]
    return table(["job", "µs a row", "times the three signals"], rows)
