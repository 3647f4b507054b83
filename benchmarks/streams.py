"""Accuracy of the whole platform on real drifting streams, beside the model left as it was.

Each run is one `undrift demo`: a real platform, asked through HTTP at the stated pace, labels late.
The rival, the first model frozen, is judged on the same rows of the same run. A run that is done is
kept, so an interrupted benchmark goes on where it stopped.

    python benchmarks/streams.py --data-dir DIR    # INSECTS, Electricity and digits, three seeds

DIR holds `insects_gradual/gradual_balanced_24150.csv.xz` (Souza et al. 2020, 24,150 rows, 33
features, 6 classes) and `elec2/elec.csv.gz` (Harries 1999, 45,312 rows, 6 features, 2 classes).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Task:
    title: str
    arguments: tuple[str, ...]
    name: str
    lag: int
    pace: int


def tasks(data: Path) -> list[Task]:
    insects = data / "insects_gradual" / "gradual_balanced_24150.csv.xz"
    elec = data / "elec2" / "elec.csv.gz"
    return [
        Task("INSECTS gradual", ("--data", str(insects)), "gradual_balanced_24150", 500, 200),
        Task("Electricity", ("--data", str(elec), "--label", "class"), "elec", 100, 200),
        Task("digits, tilting", ("digits",), "digits", 200, 75),
    ]


def run(task: Task, seed: int, out: Path) -> dict[str, Any]:
    """Return the result of one demo, from disk if it is there."""
    folder = out / f"{task.name}-{seed}"
    kept = folder / "kept.json"
    if not kept.exists():
        command = [sys.executable, "-m", "undrift.cli", "demo", *task.arguments, "--json"]
        options = {"--lag": task.lag, "--pace": task.pace, "--seed": seed, "--out": folder}
        command += [str(part) for option in options.items() for part in option]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        result = json.loads(done.stdout)
        if result["rows"] == result["stream_rows"]:
            kept.write_text(json.dumps(result), encoding="utf-8")
        return dict(result)
    return dict(json.loads(kept.read_text(encoding="utf-8")))


def spread(values: list[float], form: str) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"


def row(task: Task, results: list[dict[str, Any]]) -> str:
    part = [r["last_three_fifths"] for r in results]
    last = [r["fifths"][-1] for r in results]
    alarms = [a for r in results for a in r["adaptations"]]
    soon = [r["after_drift"] for r in results if r["after_drift"]]
    cells = [
        task.title,
        f"{task.pace} rows/s, {task.lag} rows",
        spread([p["frozen"] for p in part], ".3f"),
        spread([p["ours"] for p in part], ".3f"),
        spread([100 * (p["ours"] - p["frozen"]) for p in part], "+.1f"),
        spread([100 * (p["ours"] - p["frozen"]) for p in last], "+.1f"),
        spread([100 * (p["ours"] - p["frozen"]) for p in soon], "+.1f") if soon else "none",
        spread([a["seconds"] for a in alarms], ".1f") if alarms else "none",
        spread([a["promoted_row"] - a["drift_row"] for a in alarms], ".0f") if alarms else "none",
        spread([r["counts"]["promoted"] for r in results], ".0f"),
        spread([r["counts"]["rolled_back"] for r in results], ".0f"),
        str(sum(r["failed_requests"] + r["mixed_answers"] for r in results)),
    ]
    return "| " + " | ".join(cells) + " |"


HEAD = """\
# Real streams through the whole platform

Written by `python benchmarks/streams.py`. Accuracy is prequential: each row is answered before its
label is known. "Frozen" is the first model, left as it was, on the same rows of the same run.
Cells are median (lowest to highest) over the runs ({seeds} of each), or over all their drifts.
"After the alarm" is from one second to eleven seconds after the first drift was told, when the
first model still is live: what heads that learn from labels add until a retraining is done.
"Last three fifths" is of the whole file; the first fifth trains the first model.

| stream | pace, label lag | frozen | undrift | gain, last three fifths, points \
| gain, last fifth | gain after the alarm | drift to live, s | in rows | promotions \
| rollbacks | failed or mixed |
|---|---|---|---|---|---|---|---|---|---|---|---|
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("build/streams"))
    parser.add_argument("--table", type=Path, default=Path("docs/streams.md"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="", help="part of a stream's title")
    options = parser.parse_args()
    chosen = [t for t in tasks(options.data_dir) if options.only.lower() in t.title.lower()]
    rows = []
    for task in chosen:
        results = []
        for seed in range(options.seeds):
            results.append(run(task, seed, options.out))
            print(row(task, results[-1:]), flush=True)
        rows.append(row(task, results))
    options.table.parent.mkdir(exist_ok=True)
    options.table.write_text(HEAD.format(seeds=options.seeds) + "\n".join(rows) + "\n")
    print(options.table.read_text())


if __name__ == "__main__":
    main()
