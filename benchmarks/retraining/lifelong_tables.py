"""The tables of ten tasks in a row."""

from __future__ import annotations

import numpy as np

from benchmarks.detection.markdown import Row, table
from benchmarks.retraining import lifelong
from benchmarks.retraining.results import Results, Values
from benchmarks.retraining.scoring import interval

OURS = "bandit"
NAMES = {
    OURS: "the loop, a third of full's operations",
    "full": "the loop, retraining in full",
    "finetune": "the loop, fine-tuning, a third of full's operations",
    lifelong.ANEW: "in full on everything so far, at the end of every task",
    lifelong.FROZEN: "the first model, left as it was",
}
WITHIN, SHARE = 0.02, 0.36  # points of accuracy; a third of the compute, and what tells it apart


def known(results: Results, sequence: str, player: str) -> Values:
    """Return (seeds, tasks) mean accuracy on all tasks so far, after each."""
    runs = results.played(sequence, player).values()
    return np.array([[np.mean(row) for row in run["accuracy"]] for run in runs])


def tables(results: Results) -> str:
    """Return accuracy and compute by sequence and player."""
    parts = []
    for sequence in results.sequences:
        rows = [
            row for player, name in NAMES.items() if (row := _row(results, sequence, player, name))
        ]
        head = ["", "seeds", *(f"after {k}" for k in (2, 4, 6, 8)), "after all",
                "ours less this, points", "TFLOP", "CPU s", "retrainings", "accepted"]  # fmt: skip
        if rows:
            parts.append(f"{lifelong.TITLES[sequence]}:\n\n{table(head, rows)}")
    return "\n\n".join(parts) or "Not in this run."


def _row(results: Results, sequence: str, player: str, name: str) -> Row | None:
    runs = results.played(sequence, player)
    if not runs:
        return None
    mean = 100 * known(results, sequence, player).mean(axis=0)
    figures = [
        np.mean([run["flops"][-1] for run in runs.values()]) / 1e12,
        np.mean([run["cpu_s"][-1] for run in runs.values()]),
        *(np.mean([run[key] for run in runs.values()]) for key in ("retrainings", "accepted")),
    ]
    gains = 100 * less(results, sequence, player)
    gain = f"{gains.mean():+.1f}" if len(gains) and player != OURS else ""
    forms = (".2f", ".0f", ".1f", ".1f")
    return [
        name, len(runs), *(f"{mean[k - 1]:.1f}" for k in (2, 4, 6, 8)), f"**{mean[-1]:.1f}**",
        gain, *(f"{value:{form}}" for value, form in zip(figures, forms, strict=True)),
    ]  # fmt: skip


def less(results: Results, sequence: str, player: str) -> Values:
    """Return final mean accuracy of ours less that of a player, seed by seed."""
    ours, other = (results.played(sequence, name) for name in (OURS, player))
    return np.array(
        [
            np.mean(ours[seed]["accuracy"][-1]) - np.mean(other[seed]["accuracy"][-1])
            for seed in sorted(set(ours) & set(other))
        ]
    )


def _share(results: Results, sequence: str, player: str) -> float:
    """Return the operations of ours as a share of a player's, over the seeds that both played."""
    ours, other = (results.played(sequence, name) for name in (OURS, player))
    seeds = set(ours) & set(other)
    spent = [sum(runs[seed]["flops"][-1] for seed in seeds) for runs in (ours, other)]
    return float(spent[0] / spent[1])


def summary(results: Results) -> list[Row]:
    """Return the target and how it fared, against both ways of retraining in full."""
    rows: list[Row] = []
    for player, name in (("full", "in the same loop"), (lifelong.ANEW, "at every task's end")):
        there = [s for s in results.sequences if len(less(results, s, player))]
        if not there:
            continue
        gains = np.concatenate([less(results, sequence, player) for sequence in there])
        mean, low, high = (100 * value for value in interval(gains))
        share = float(np.mean([_share(results, sequence, player) for sequence in there]))
        text = f"{mean:+.1f} points ({low:+.1f} to {high:+.1f}) at {share:.0%} of its operations"
        met = mean >= -100 * WITHIN and share <= SHARE
        target = "within 2 points at a third of the compute"
        verdict = "met" if met else "**not met**"
        rows.append(
            [f"ten tasks in a row, against a full retraining {name}", target, text, verdict]
        )
    return rows
