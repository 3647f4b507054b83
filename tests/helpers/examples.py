"""The folders of `examples/`, copied and made ready as their READMEs say."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.ray.running import UNDRIFT, environment

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = sorted(path.parent.name for path in EXAMPLES.glob("*/undrift.yaml"))
STREAM = ("--data", "stream.parquet", "--label", "label", "--lag", "100")


_BOTH = """\
import runpy, sys
runpy.run_path("../prepare.py", run_name="__main__")
from undrift.cli.verbs import app
app(sys.argv[1:])
"""


def replayed(name: str, folder: Path) -> dict[str, Any]:
    """Train the first model of an example and replay its stream, in one process."""
    verb = (sys.executable, "-c", _BOTH, "replay", *STREAM, "--json")
    found: dict[str, Any] = json.loads(run(copied(name, folder), *verb))
    return found


def prepared(name: str, folder: Path) -> Path:
    """Copy an example, and train its first model."""
    there = copied(name, folder)
    run(there, sys.executable, "../prepare.py")
    return there


def copied(name: str, folder: Path) -> Path:
    """Copy an example without what was made there."""
    kept = shutil.ignore_patterns("*.safetensors", "*.npz", "*.parquet", "state", "undrift-demo")
    shutil.copy(EXAMPLES / "prepare.py", folder)
    return Path(shutil.copytree(EXAMPLES / name, folder / name, ignore=kept))


def told(folder: Path, verb: str, *arguments: str) -> dict[str, Any]:
    """Run a verb on an example's stream, and return its JSON."""
    found: dict[str, Any] = json.loads(run(folder, *UNDRIFT, verb, *STREAM, "--json", *arguments))
    return found


def run(folder: Path, *command: str) -> str:
    """Run a program that has to succeed, and return what it says."""
    done = subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
