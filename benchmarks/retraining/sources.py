"""Digests of the source files behind results, so that a change of code makes them anew."""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import undrift.bandits
import undrift.train

HERE = Path(__file__).parent
_RIVAL_FILES = ("avalanche_runs", "rivals")
_SHARED = ("base", "data", "figures", "memory", "nets", "tasks", "worlds")
# What a retraining offline does not touch.
_SHELLS = {"actor", "attempt", "audit", "environment", "gate", "result", "start", "worker"}


@cache
def source_digest(group: str) -> str:
    """Return a digest of the source files behind a group of results, blind to comments.

    Args:
        group: ``product``, ``rival``, or ``base`` for base models.
    """
    shared = [HERE / f"{name}.py" for name in _SHARED]
    detection = HERE.parent / "detection" / "data.py"
    trains = [_folder(undrift.train), _folder(undrift.bandits)]
    cores = [p for d in trains for p in sorted(d.rglob("*.py")) if p.stem not in _SHELLS]
    budget = [_folder(undrift.train) / name for name in ("blocks.py", "pool.py")]
    files = {
        "base": [HERE / f"{name}.py" for name in ("base", "data", "nets", "tasks")],
        "product": [*shared, HERE / "runs.py", *cores],
        "rival": [*shared, *(HERE / f"{name}.py" for name in _RIVAL_FILES), *budget],
    }[group]
    text = "".join(_code(path) for path in (detection, *files))
    return hashlib.sha256(text.encode()).hexdigest()


def _folder(package: Any) -> Path:
    return Path(str(package.__file__)).parent


def _code(path: Path) -> str:
    """Return the syntax of a module without its docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        if documented and ast.get_docstring(node):
            node.body = node.body[1:]
    return ast.dump(tree)
