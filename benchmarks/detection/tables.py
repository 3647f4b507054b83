"""Writes docs/detection.md: every figure in it is measured by this benchmark."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.detection import plots
from benchmarks.detection.figures import (
    OURS,
    Cell,
    Results,
    change_errors,
    compare,
    quartiles,
    realised,
)
from benchmarks.detection.scoring import Score, delays, missed
from benchmarks.detection.streams import AFTER, BEFORE, DRIFTS, NO_DRIFT
from benchmarks.detection.tasks import (
    DRIFT,
    HARMLESS,
    LAGS,
    PUBLISHED,
    PUBLISHED_WARNING,
    QUIET,
    RIVALS,
    WARNING,
)
from benchmarks.detection.worlds import Folders
from undrift.events import Level

PURE_CONCEPT = ("mnist-swap", "sea", "stagger", "sine", "mixed")
Cost = dict[str, list[float]]
Row = Sequence[object]


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
        "defaults": lambda: defaults(results),
        "harmless": lambda: harmless(results),
        "change": lambda: change_points(results),
        "kinds": lambda: kinds(results),
        "calibration": lambda: calibration(results),
        "cost": lambda: costs(cost),
    }
    for name, section in sections.items():
        text = text.replace(f"<!-- {name} -->", section())
    (docs / "detection.md").write_text(
        text.replace("{seeds}", str(results.seeds)), encoding="utf-8"
    )


def table(head: Row, rows: Iterable[Row]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def spread(values: Sequence[float] | np.ndarray, form: str = ".0f") -> str:
    """Return a median and, in brackets, the quartiles."""
    middle, low, high = quartiles(values)
    return f"{middle:{form}} [{low:{form}}, {high:{form}}]"


def verdict(met: bool) -> str:
    """Return how a target fared."""
    return "met" if met else "**not met**"


def summary(results: Results, cost: Cost) -> str:
    """Return the table of targets."""
    rows: list[Row] = []
    for stream, least in (("independent", 1.0), ("ar1", 0.7), ("electricity", 0.7)):
        ratios = [realised(results, stream, point)[0] for point in QUIET]
        met = min(ratios) >= least and max(ratios) <= 5
        text = f"{min(ratios):.2f} to {max(ratios):.2f}"
        name = f"false alarms, {NO_DRIFT[stream].title}: realised / stated"
        rows.append([name, f"{least} to 5", text, verdict(met)])
    rows += [published_row(results), *comparison_rows(results)]
    rows += [concept_row(results), harmless_row(results), change_row(results)]
    ours, river, rolling = (np.array(cost[k]) for k in ("signals", "river", "rolling"))
    rows.append(
        ["cost, µs a row", "at most 10", spread(ours, ".1f"), verdict(float(np.median(ours)) <= 10)]
    )
    for name, other in (("once a batch", river), ("every 50 rows, as in the tables", rolling)):
        ratio = other / ours
        met = float(np.median(ratio)) >= 10
        what = f"cost, River and KS per feature {name} / ours"
        rows.append([what, "at least 10", spread(ratio, ".1f"), verdict(met)])
    return table(["measure", "target", "measured", ""], rows)


def published_row(results: Results) -> Row:
    scores = results.our_scores("mnist-usps", PUBLISHED, 0)
    found, gone = delays(scores, AFTER), missed(scores)
    total, false = results.calibration("mnist", PUBLISHED)
    mtfa = total / max(false, 1)
    met = gone == 0 and found.mean() <= 13 and mtfa >= 1_000
    text = f"missed {gone:.0%}, mean delay {found.mean():.1f}, {mtfa:,.0f}"
    target = "missed 0 %, mean delay at most 13, MTFA at least 1,000"
    return ["MNIST to USPS, lag 0, drift at a budget of 1,000", target, text, verdict(met)]


def comparison_rows(results: Results) -> list[Row]:
    rows: list[Row] = []
    named = (("drift, against rivals with labels", DRIFT), ("first alarm, against all", WARNING))
    for name, point in named:
        found = compare(results.cells(point))
        text = f"{found.won:.0%} of {found.cells} cells, worst {found.worst:.2f} times, "
        text += f"at most 1.5 times in {found.within:.0%}"
        met = found.won >= 0.7 and found.worst <= 1.5
        target = "70 % of cells shorter, never above 1.5 times"
        rows.append(
            [f"delay at equal false alarms: {name}, best of each cell", target, text, verdict(met)]
        )
        text = f"{found.won_rival:.0%} shorter than {found.rival}"
        rows.append(
            [
                f"delay at equal false alarms: {name}, best over all cells",
                "70 %",
                text,
                verdict(found.won_rival >= 0.7),
            ]
        )
    return rows


def concept_row(results: Results) -> Row:
    gone = max(
        missed(results.our_scores(stream, DRIFT, lag)) for stream in PURE_CONCEPT for lag in LAGS
    )
    swap = [
        f"{np.median(delays(results.our_scores('mnist-swap', DRIFT, lag), AFTER + lag)) - lag:.0f}"
        for lag in LAGS
    ]
    text = f"missed at most {gone:.0%}; permuted labels: {', '.join(swap)} labels (lags {LAGS})"
    return ["pure concept drift, any lag", "missed 0 %", text, verdict(gone == 0)]


def harmless_row(results: Results) -> Row:
    shares = [
        float(np.mean(fine))
        for stream, spec in DRIFTS.items()
        if spec.harmless
        for lag in LAGS
        for fine in [_harmless(results, stream, lag)]
    ]
    text = f"{min(shares):.0%} to {max(shares):.0%}"
    return [
        "harmless shift: a warning and no drift",
        "95 % of runs",
        text,
        verdict(min(shares) >= 0.95),
    ]


def change_row(results: Results) -> Row:
    found = {
        shape: float(np.median(np.concatenate([
            change_errors(results.outcomes(stream, DRIFT, lag))
            for stream, spec in DRIFTS.items() if spec.hurts and spec.shape == shape for lag in LAGS
        ])))
        for shape in ("abrupt", "gradual", "growing")
    }  # fmt: skip
    text = ", ".join(f"{shape} {value:.1%}" for shape, value in found.items())
    return [
        "change point, median error / segment",
        "at most 10 %",
        text,
        verdict(max(found.values()) <= 0.1),
    ]


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
            rows.append([spec.title, level, stated, f"{total:,}", false, interval, spread(each)])
    head = [
        "stream",
        "alarm",
        "stated rows between false alarms",
        "rows",
        "false",
        "realised / stated (95 %)",
        "false a seed",
    ]
    return table(head, rows)


def published(results: Results) -> str:
    """Return MNIST to USPS at the published rate of false alarms."""
    rows: list[Row] = [
        ["published, majority of six signals", "", "252.5", "26.3 (mean)", "11.1 %", ""]
    ]
    world = DRIFTS["mnist-usps"].world
    for name, point in (("drift", PUBLISHED), ("first alarm", PUBLISHED_WARNING)):
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
            shares = [f"{np.mean(_harmless(results, stream, lag)):.0%}" for lag in LAGS]
            rows.append([spec.title, f"{before:.4f}", f"{after:.4f}", *shares])
    return table(["stream", "error before", "error after", *(f"lag {lag}" for lag in LAGS)], rows)


def _harmless(results: Results, stream: str, lag: int) -> list[bool]:
    outcomes = results.outcomes(stream, HARMLESS, lag)
    return [o["warned"] and o["detected"] is None for o in outcomes]


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
            outcomes = [o for o in results.outcomes(stream, DRIFT, 0) if o["detected"] is not None]
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
            thresholds = [f"{f['threshold']:.3g} ({f['false']})" for f in found]
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
