"""The tables of docs/retraining.md, and the page."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.detection.markdown import Row, table
from benchmarks.retraining import plots
from benchmarks.retraining.design import (
    DEVELOPMENT_SEEDS,
    FULL,
    HEADLINE,
    INGREDIENTS,
    OURS,
    SHARES,
    settings_for,
)
from benchmarks.retraining.results import Results, Values
from benchmarks.retraining.rivals import METHODS as RIVALS
from benchmarks.retraining.runs import SCRATCH
from benchmarks.retraining.scoring import WITHIN, allowed_forgetting, effects, interval
from benchmarks.retraining.tasks import TASKS


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
        "headline": headline,
        "ranks": ranks,
        "forgetting": forgetting,
        "cost": cost,
        "ablation": ablation,
        "settings": settings,
    }
    for name, section in sections.items():
        text = text.replace(f"<!-- {name} -->", section(results))
    machine = f"{os.cpu_count()} {platform.machine()} cores, torch {torch.__version__}"
    values = {"seeds": results.seeds, "machine": machine, "first": DEVELOPMENT_SEEDS[0]}
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", str(value))
    (docs / "retraining.md").write_text(text, encoding="utf-8")


def summary(results: Results) -> str:
    """Return the targets and how they fared."""
    rows = [close_row(results), time_row(results), rank_row(results), *forgetting_rows(results)]
    if results.ablations:
        rows.append(ingredients_row(results))
    return table(["measure", "must reach", "reached", ""], rows)


def close_row(results: Results) -> Row:
    gaps = {
        task: results.median(task, OURS, HEADLINE, "mean") - results.median(task, FULL, 1.0, "mean")
        for task in results.tasks
    }
    close = sum(gap >= -WITHIN for gap in gaps.values())
    worst = min(gaps, key=lambda task: gaps[task])
    needed = -(-5 * len(gaps) // 7)  # five of seven, rounded up
    text = f"{close} of {len(gaps)}; worst {100 * gaps[worst]:+.1f} points ({TASKS[worst].title})"
    name = "accuracy (mean of new and old) at 25 % of a full retrain's operations"
    target = f"within 1.0 point of the full retrain on {needed} of {len(gaps)} tasks"
    return [name, target, text, verdict(close >= needed)]


def time_row(results: Results) -> Row:
    wall, cpu = (
        {task: results.ratio(task, OURS, HEADLINE, name) for task in results.tasks}
        for name in ("seconds", "cpu_s")
    )
    text = f"{min(wall.values()):.0%} to {max(wall.values()):.0%}"
    text += f" (CPU time {min(cpu.values()):.0%} to {max(cpu.values()):.0%})"
    target = "at most 40 % of the full retrain's on every task"
    return ["wall time of that run", target, text, verdict(max(wall.values()) <= 0.4)]


def rank_row(results: Results) -> Row:
    found = results.ranks()
    first = sorted(found, key=lambda name: found[name])
    other = next(name for name in first if name != OURS)
    text = f"{found[OURS]:.2f} of {len(found)}; {other} {found[other]:.2f}"
    return ["mean rank over tasks and shares", "first", text, verdict(first[0] == OURS)]


def forgetting_rows(results: Results) -> list[Row]:
    cells = [(task, share) for task in results.tasks for share in SHARES]
    rows: list[Row] = []

    def of(method: str, task: str, share: float) -> float:
        return results.median(task, method, share, "forgetting")

    kept = sum(of(OURS, *cell) <= allowed_forgetting(of("finetune", *cell)) for cell in cells)
    target = "at most half of fine-tuning's, or one point, in every cell"
    text = f"{kept} of {len(cells)} cells"
    rows.append(["forgetting", target, text, verdict(kept == len(cells))])
    hard = [cell for cell in cells if TASKS[cell[0]].class_incremental]
    if hard and "der++" in results.methods:
        kept = sum(of(OURS, *cell) <= of("der++", *cell) for cell in hard)
        target = "at most DER++'s in every cell"
        text = f"{kept} of {len(hard)} cells"
        rows.append(["forgetting, new classes", target, text, verdict(kept == len(hard))])
    return rows


def ingredients_row(results: Results) -> Row:
    found = {name: interval(gains) for name, gains in ingredient_gains(results).items()}
    text = ", ".join(f"{name} {100 * mean:+.2f}" for name, (mean, _, _) in found.items())
    met = all(low > 0 for _, low, _ in found.values())
    target = "each adds accuracy, or is off by default"
    return ["ablation, points of accuracy", target, text, "met" if met else "see the table"]


def ingredient_gains(results: Results) -> dict[str, Values]:
    """Return what each ingredient adds to the accuracy, for every task and seed."""
    gains: dict[str, list[Values]] = {name: [] for name in INGREDIENTS}
    for task in results.tasks:
        runs = results.ablation(task)
        scores = {on: np.array([run["mean"] for run in some]) for on, some in runs.items()}
        for position, name in enumerate(INGREDIENTS):
            gains[name].append(effects(scores, position))
    return {name: np.concatenate(some) for name, some in gains.items()}


def rivals(results: Results) -> str:
    """Return what is said of the rival library."""
    if any(name in RIVALS for name in results.methods):
        return (
            "Methods called *avalanche* are those of Avalanche 0.6.0 (Carta et al., JMLR 2023), "
            "run by its own code in an environment of its own. They get the same rows, base "
            "models, batches, schedules and operations, counted as rows run forward and backward. "
            "The base model of synaptic intelligence (*avalanche si*) is trained by it, since "
            "it measures importance along the way."
        )
    return "**Avalanche was left out of this run**, so no rival's own implementation is compared."


def tasks(results: Results) -> str:
    """Return what the tasks are, and what the base model and the references reach."""
    rows: list[Row] = []
    for name in results.tasks:
        whole = results.runs(name, FULL, 1.0)
        stale = 100 * np.median([run["accuracy"][0][0] for run in whole])
        kinds = sorted({run["kind"] for run in whole})
        flops = np.median([run["full_flops"] for run in whole]) / 1e9
        seconds = results.median(name, FULL, 1.0, "seconds")
        full, scratch = (points(results, name, m, 1.0, "mean") for m in (FULL, SCRATCH))
        steps = len(whole[0]["ahead"])
        rows.append([TASKS[name].title, steps, ", ".join(kinds), f"{stale:.1f}", full, scratch,
                     f"{flops:,.0f}", f"{seconds:.1f}"])  # fmt: skip
    head = ["task", "steps", "the monitor says", "base model on its own regime", "full",
            "from scratch", "full, GFLOP", "full, s"]  # fmt: skip
    return table(head, rows)


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
    return [TASKS[task].title for task in results.tasks]


def _lines(results: Results) -> list[tuple[str, str, float]]:
    at_share = [(method, method, HEADLINE) for method in results.methods]
    return [("full, at 100 %", FULL, 1.0), *at_share]


def _apart(results: Results) -> list[Row]:
    def cell(task: str, method: str, share: float) -> str:
        new, old = (results.median(task, method, share, name) for name in ("new", "old"))
        return f"{100 * new:.1f} / {100 * old:.1f}"

    return [
        [label, *(cell(task, method, share) for task in results.tasks)]
        for label, method, share in _lines(results)
    ]


def ranks(results: Results) -> str:
    """Return mean ranks by share and over all."""
    overall = results.ranks()
    by_share = [results.ranks((share,)) for share in SHARES]
    rows = [
        [name, f"{overall[name]:.2f}", *(f"{found[name]:.2f}" for found in by_share)]
        for name in sorted(overall, key=lambda name: overall[name])
    ]
    return table(["method", "all", *(f"{share:.0%}" for share in SHARES)], rows)


def forgetting(results: Results) -> str:
    """Return forgetting at the headline share, and of ours beside others at every share."""
    shown = [m for m in (OURS, "finetune", "random", "replay", "der++") if m in results.methods]
    rows = [
        [TASKS[task].title, f"{share:.0%}",
         *(f"{100 * results.median(task, m, share, 'forgetting'):.1f}" for m in shown)]
        for task in results.tasks for share in SHARES
    ]  # fmt: skip
    by_share = table(["task", "share", *shown], rows)
    return f"{matrix(results, 'forgetting')}\n\nMedians at every share:\n\n{by_share}"


def cost(results: Results) -> str:
    """Return what a run at the headline share costs."""
    rows: list[Row] = []
    for method in (*results.methods, FULL):
        share = 1.0 if method == FULL else HEADLINE
        ratios = {
            name: [results.ratio(task, method, share, name) for task in results.tasks]
            for name in ("flops", "seconds", "cpu_s")
        }
        memory = np.median([results.median(t, method, share, "peak_mb") for t in results.tasks])
        refused = sum(
            run["refused"] for t in results.tasks for run in results.runs(t, method, share)
        )
        rows.append([
            method, *(f"{np.median(r):.0%} ({max(r):.0%})" for r in ratios.values()),
            f"{memory:.0f}", int(refused),
        ])  # fmt: skip
    head = ["method", "operations", "wall time", "CPU time", "peak memory, MiB", "steps refused"]
    return table(head, rows)


def ablation(results: Results) -> str:
    """Return what each ingredient adds, and every combination."""
    if not results.ablations:
        return "Not in this run."
    rows: list[Row] = []
    for name, gains in ingredient_gains(results).items():
        mean, low, high = (100 * value for value in interval(gains))
        each = np.median(gains.reshape(len(results.tasks), -1), axis=1)
        helped = f"{int((each > 0).sum())} of {len(each)}"
        said = "adds" if low > 0 else "costs" if high < 0 else "not told from noise"
        rows.append([name, f"{mean:+.2f} ({low:+.2f} to {high:+.2f})", helped, said])
    effects_table = table(["ingredient", "points of accuracy", "tasks on which it adds", ""], rows)
    return effects_table + "\n\n" + combinations(results)


def combinations(results: Results) -> str:
    """Return accuracy and wall time of every combination of ingredients, over tasks."""
    scores: dict[tuple[bool, ...], list[float]] = {}
    seconds: dict[tuple[bool, ...], list[float]] = {}
    for task in results.tasks:
        whole = results.median(task, FULL, 1.0, "seconds")
        for on, runs in results.ablation(task).items():
            scores.setdefault(on, []).append(float(np.median([run["mean"] for run in runs])))
            spent = float(np.median([run["seconds"] for run in runs]))
            seconds.setdefault(on, []).append(spent / whole)
    rows = [
        [*("yes" if used else "-" for used in on), f"{100 * np.mean(scores[on]):.2f}",
         f"{np.median(seconds[on]):.0%}"]
        for on in sorted(scores, key=lambda on: -float(np.mean(scores[on])))
    ]  # fmt: skip
    return table([*INGREDIENTS, "mean accuracy over tasks", "wall time, of full"], rows)


def settings(results: Results) -> str:
    """Return the settings that were chosen on development seeds."""
    rows: list[Row] = []
    for method in (*results.methods, FULL):
        cells = []
        for task in results.tasks:
            found = dict(settings_for(results.tuned, task, method))
            cells.append(", ".join(f"{value:g}" for value in found.values()) or "default")
        rows.append([method, *cells])
    return table(["method", *results.tasks], rows)


def points(results: Results, task: str, method: str, share: float, name: str) -> str:
    """Return the median of a figure in points, and its range over seeds."""
    values = 100 * results.values(task, method, share, name)
    return f"{np.median(values):.1f} [{values.min():.1f}, {values.max():.1f}]"


def verdict(met: bool) -> str:
    """Return how a target fared."""
    return "met" if met else "**not met**"
