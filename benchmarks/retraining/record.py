"""The runs behind the published page, kept beside it: seeds add up, and anybody can check them."""

from __future__ import annotations

import json
import lzma
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path("docs/retraining/runs.jsonl.xz")

Runs = Mapping[str, dict[str, Any]]


@cache
def recorded(file: Path, version: int) -> Runs:
    """Return the runs of a version by the name of their result; {} without a file."""
    if not file.exists():
        return {}
    with lzma.open(file, "rt", encoding="utf-8") as lines:
        found = [json.loads(line) for line in lines]
    return {line["name"]: line["run"] for line in found if line["version"] == version}


def write(file: Path, version: int, runs: Runs) -> None:
    """Write the runs of a version, and nothing else, in the order of their names."""
    lines = [
        json.dumps({"version": version, "name": name, "run": _rounded(run)}) + "\n"
        for name, run in sorted(runs.items())
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_bytes(lzma.compress("".join(lines).encode(), preset=9))
    partial.replace(file)


def _rounded(value: Any) -> Any:
    """Return plain JSON values with what no table shows left out: six digits are kept."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, list):
        return [_rounded(part) for part in value]
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    return value
