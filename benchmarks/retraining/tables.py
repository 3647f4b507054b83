"""The tables of docs/retraining.md, and the page, of whatever runs are there."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.detection.markdown import Row, table
from benchmarks.retraining import lifelong_tables, plots
from benchmarks.retraining.design import (
    DEVELOPMENT_SEEDS,
    DEVELOPMENT_TASKS,
    FULL,
    HEADLINE,
    OURS,
    SHARES,
    settings_for,
    toggled,
)
from benchmarks.retraining.results import Results, Values
from benchmarks.retraining.rivals import METHODS as RIVALS
from benchmarks.retraining.runs import SCRATCH
from benchmarks.retraining.scoring import WITHIN, allowed_forgetting, interval
from benchmarks.retraining.tasks import TASKS
from undrift.train.settings import TrainSettings

NONE = "-"


def write(results: Results, docs: Path) -> None:
    """Write the page and its plots."""
    folder = docs / "retraining"
    folder.mkdir(parents=True, exist_ok=True)
    plots.draw(results, folder)
    text = (Path(__file__).parent / "page.md").read_text(encoding="utf-8")
    sections: dict[str, Callable[[Results], str]] = {
        "summary": summary,
        "rivals": rivals,
        "tasks": tasks,
        "gains": gains,
        "headline": headline,
        "ranks": ranks,
        "forgetting": forgetting,
        "cost": cost,
        "ablation": ablation,
        "lifelong": lifelong_tables.tables,
        "settings": settings,
    }
    for name, section in sections.items():
        text = text.replace(f"<!-- {name} -->", section(results))
    machine = f"{os.cpu_count()} {platform.machine()} cores, torch {torch.__version__}"
    values = {
        "made": results.made,
        "seeds": results.seeds,
        "machine": machine,
        "first": DEVELOPMENT_SEEDS[0],
    }
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", str(value))
    (docs / "retraining.md").write_text(text, encoding="utf-8")


def summary(results: Results) -> str:
    """Return the targets and how they fared, on the tasks on which nothing was chosen."""
    rows = [
        *close_rows(results), *rank_rows(results), *forgetting_rows(results),
        *parts_rows(results), *lifelong_tables.summary(results),
    ]  # fmt: skip
    return table(["measure", "must reach", "reached", ""], rows)


def close_rows(results: Results) -> list[Row]:
    """Return how ours compares with the full retrain, in accuracy and in time."""
    found = {task: results.gains(task, FULL, 1.0) for task in results.reported}
    means = {task: float(gains.mean()) for task, gains in found.items() if len(gains)}
    if not means:
        return []
    close, needed = sum(gap >= -WITHIN for gap in means.values()), -(-5 * len(means) // 7)
    worst = min(means, key=lambda task: means[task])
    name = "accuracy (mean of new and old) at 25 % of a full retrain's operations"
    target = f"within 1.0 point of the full retrain on {needed} of {len(means)} tasks"
    text = f"{close} of {len(means)}; worst {100 * means[worst]:+.1f} points ({TASKS[worst].title})"
    rows: list[Row] = [[name, target, text, verdict(close >= needed)]]
    for name, figure in (("CPU time", "cpu_s"), ("wall time", "seconds")):
        ratios = [np.median(results.ratios(task, OURS, HEADLINE, figure)) for task in means]
        text = f"{min(ratios):.0%} to {max(ratios):.0%}"
        target = "at most 40 % of the full retrain's on every task"
        rows.append([f"{name} of that run", target, text, verdict(max(ratios) <= 0.4)])
    return rows


def rank_rows(results: Results) -> list[Row]:
    """Return how ours ranks."""
    found, cells = results.ranks()
    first = sorted(found, key=lambda name: found[name])
    other = next((name for name in first if name != OURS), None)
    if other is None:
        return []
    text = f"{found[OURS]:.2f} of {len(found)}; {other} {found[other]:.2f}; {cells} cells"
    return [["mean rank over tasks and shares", "first", text, verdict(first[0] == OURS)]]


def forgetting_rows(results: Results) -> list[Row]:
    """Return whether ours forgets less than fine-tuning, and than DER++ where classes are new."""
    rows: list[Row] = []
    hard = [task for task in results.reported if TASKS[task].class_incremental]
    kinds: list[tuple[str, str, str, list[str], Callable[[float], float]]] = [
        ("forgetting", "finetune", "at most half of fine-tuning's, or one point, in every cell",
         list(results.reported), allowed_forgetting),
        ("forgetting, new classes", "der++", "at most DER++'s in every cell", hard, lambda v: v),
    ]  # fmt: skip
    for name, rival, target, some, allowed in kinds:
        pairs = [
            [results.median(task, method, share, "forgetting") for method in (OURS, rival)]
            for task in some
            for share in SHARES
        ]
        both = [pair for pair in pairs if not np.isnan(pair).any()]
        kept = sum(ours <= allowed(other) for ours, other in both)
        if both:
            text = f"{kept} of {len(both)} cells"
            rows.append([name, target, text, verdict(kept == len(both))])
    return rows


def parts_rows(results: Results) -> list[Row]:
    """Return what the parts of ours add, in short."""
    found = {name: parts for name, parts in part_gains(results).items() if len(parts)}
    if not found:
        return []
    lows = {name: interval(parts) for name, parts in found.items()}
    text = ", ".join(f"{name} {100 * mean:+.2f}" for name, (mean, _, _) in lows.items())
    met = all(low > 0 for name, (_, low, _) in lows.items() if name.startswith("without"))
    target = "each part that is on adds accuracy"
    return [["default less one part, points of accuracy", target, text, verdict(met)]]


def part_gains(results: Results) -> dict[str, Values]:
    """Return accuracy of ours less that with one part off (or on), for all tasks and seeds."""
    return {
        name: np.concatenate([results.parts(task, changed) for task in results.reported])
        for name, changed in toggled().items()
    }


def rivals(results: Results) -> str:
    """Return what is said of the rival library."""
    if any(name in RIVALS for name in results.methods):
        return (
            "Methods called *avalanche* are those of Avalanche 0.6.0 (Carta et al., JMLR 2023), "
            "run by its own code in an environment of its own. They get the same rows, base "
            "models, schedules and operations, counted as rows run forward and backward."
        )
    return "**Avalanche was left out of this run**, so no rival's own implementation is compared."


def tasks(results: Results) -> str:
    """Return what the tasks are, and what the base model and the references reach."""
    rows: list[Row] = []
    for name in results.tasks:
        whole = list(results.runs(name, FULL, 1.0).values())
        if not whole:
            continue
        stale = 100 * np.median([run["accuracy"][0][0] for run in whole])
        kinds = sorted({run["kind"] for run in whole})
        flops = np.median([run["full_flops"] for run in whole]) / 1e9
        cpu = results.median(name, FULL, 1.0, "cpu_s")
        full, scratch = (points(results, name, m, 1.0, "mean") for m in (FULL, SCRATCH))
        steps = len(whole[0]["ahead"])
        rows.append([title(name), len(whole), steps, ", ".join(kinds), f"{stale:.1f}", full,
                     scratch, f"{flops:,.0f}", f"{cpu:.1f}"])  # fmt: skip
    head = ["task", "seeds", "steps", "the monitor says", "base model on its own regime", "full",
            "from scratch", "full, GFLOP", "full, CPU s"]  # fmt: skip
    return table(head, rows)


def title(task: str) -> str:
    """Return the title of a task, and whether settings were chosen on it."""
    mark = " (development)" if task in DEVELOPMENT_TASKS else ""
    return TASKS[task].title + mark


def gains(results: Results) -> str:
    """Return ours less each other, pair by pair, at the headline share."""
    others = [(f"{FULL}, at 100 %", FULL, 1.0)]
    others += [(method, method, HEADLINE) for method in results.methods if method != OURS]
    rows: list[Row] = []
    for label, method, share in others:
        found = {task: results.gains(task, method, share) for task in results.tasks}
        apart = np.concatenate([found[task] for task in results.reported])
        cells = [f"{100 * some.mean():+.1f}" if len(some) else NONE for some in found.values()]
        rows.append([label, spread(apart), *cells])
    together = "all" if results.reported == results.tasks else "all but development"
    return table(["ours less", together, *titles(results)], rows)


def spread(values: Values) -> str:
    """Return a mean difference in points with its interval, and the number of pairs."""
    if not len(values):
        return NONE
    mean, low, high = (100 * value for value in interval(values))
    return f"**{mean:+.2f}** ({low:+.2f} to {high:+.2f}; {len(values)} pairs)"


def headline(results: Results) -> str:
    """Return accuracy at the headline share, and what it is made of."""
    whole, apart = matrix(results, "mean"), table(["method", *titles(results)], _apart(results))
    return f"{whole}\n\nNew / old, medians:\n\n{apart}"


def matrix(results: Results, name: str) -> str:
    """Return a figure at the headline share by method and task, beside that of full retrains."""
    rows = [
        [label, *(points(results, task, method, share, name) for task in results.tasks)]
        for label, method, share in _lines(results)
    ]
    return table(["method", *titles(results)], rows)


def titles(results: Results) -> list[str]:
    """Return the titles of the tasks."""
    return [title(task) for task in results.tasks]


def _lines(results: Results) -> list[tuple[str, str, float]]:
    at_share = [(method, method, HEADLINE) for method in results.methods]
    return [("full, at 100 %", FULL, 1.0), *at_share]


def _apart(results: Results) -> list[Row]:
    def cell(task: str, method: str, share: float) -> str:
        return " / ".join(
            number(100 * results.median(task, method, share, name)) for name in ("new", "old")
        )

    return [
        [label, *(cell(task, method, share) for task in results.tasks)]
        for label, method, share in _lines(results)
    ]


def ranks(results: Results) -> str:
    """Return mean ranks by share and over all."""
    overall, _ = results.ranks()
    by_share = {share: results.ranks((share,)) for share in SHARES}
    rows = [
        [name, f"{overall[name]:.2f}",
         *(f"{found[name]:.2f}" if found else NONE for found, _ in by_share.values())]
        for name in sorted(overall, key=lambda name: overall[name])
    ]  # fmt: skip
    counts = [f"{share:.0%} ({cells} tasks)" for share, (_, cells) in by_share.items()]
    return table(["method", "all", *counts], rows)


def forgetting(results: Results) -> str:
    """Return forgetting at the headline share, and of ours beside others at every share."""
    shown = [m for m in (OURS, "finetune", "random", "replay", "der++") if m in results.methods]
    rows = [
        [title(task), f"{share:.0%}",
         *(number(100 * results.median(task, m, share, "forgetting")) for m in shown)]
        for task in results.tasks for share in SHARES if results.runs(task, OURS, share)
    ]  # fmt: skip
    by_share = table(["task", "share", *shown], rows)
    return f"{matrix(results, 'forgetting')}\n\nMedians at every share:\n\n{by_share}"


def cost(results: Results) -> str:
    """Return what a run at the headline share costs."""
    rows: list[Row] = []
    for method in (*results.methods, FULL):
        share = 1.0 if method == FULL else HEADLINE
        there = [
            task for task in results.tasks if len(results.ratios(task, method, share, "cpu_s"))
        ]
        if not there:
            continue
        ratios = {
            name: [np.median(results.ratios(task, method, share, name)) for task in there]
            for name in ("flops", "cpu_s", "seconds")
        }
        cpu, memory, steps = (
            np.median([results.median(task, method, share, name) for task in there])
            for name in ("cpu_s", "peak_mb", "steps")
        )
        refused = sum(
            run["refused"] for t in there for run in results.runs(t, method, share).values()
        )
        rows.append([
            method, *(f"{np.median(r):.0%} ({max(r):.0%})" for r in ratios.values()),
            f"{cpu:.1f}", f"{steps:.0f}", f"{memory:.0f}", int(refused),
        ])  # fmt: skip
    head = ["method", "operations", "CPU time", "wall time", "CPU s", "steps", "peak memory, MiB",
            "steps refused"]  # fmt: skip
    return table(head, rows)


def ablation(results: Results) -> str:
    """Return what each part of ours adds, pair by pair."""
    rows: list[Row] = []
    for name, changed in toggled().items():
        found = {task: results.parts(task, changed) for task in results.tasks}
        apart = np.concatenate([found[task] for task in results.reported])
        cpu = np.concatenate([results.parts(task, changed, "cpu_s") for task in results.reported])
        cells = [f"{100 * some.mean():+.1f}" if len(some) else NONE for some in found.values()]
        rows.append([name, spread(apart), f"{cpu.mean():+.2f}" if len(cpu) else NONE, *cells])
    head = ["default less ours", "points of accuracy", "CPU s", *titles(results)]
    return table(head, rows)


def settings(results: Results) -> str:
    """Return the settings of the methods."""
    names = ("batch_size", "learning_rate", "strength")
    rows: list[Row] = []
    for method in (*results.methods, FULL):
        found = dict(settings_for(results.tuned, method))
        shipped = TrainSettings()
        cells = [f"{found.get(name, getattr(shipped, name)):g}" for name in names[:2]]
        rows.append([method, *cells, f"{found['strength']:g}" if "strength" in found else NONE])
    return table(["method", *(name.replace("_", " ") for name in names)], rows)


def points(results: Results, task: str, method: str, share: float, name: str) -> str:
    """Return the median of a figure in points, and its range over seeds."""
    values = 100 * results.values(task, method, share, name)
    if not len(values):
        return NONE
    return f"{np.median(values):.1f} [{values.min():.1f}, {values.max():.1f}]"


def number(value: float) -> str:
    """Return a number with one decimal."""
    return NONE if np.isnan(value) else f"{value:.1f}"


def verdict(met: bool) -> str:
    """Return how a target fared."""
    return "met" if met else "**not met**"
