"""The rival library's environment, and the exchange of tasks and results with it."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.retraining.place import Place
from benchmarks.retraining.worlds import world

PREFIX = "avalanche "
METHODS = tuple(PREFIX + name for name in ("ewc", "mas", "der++"))
PACKAGES = ("torch==2.13.0", "torchvision==0.28.0", "avalanche-lib==0.6.0")
_ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = _ROOT / "build" / "avalanche"


def prepare(folder: Path = ENVIRONMENT) -> Path:
    """Return the interpreter of an environment with Avalanche; it is made on first use.

    Torch comes from PyTorch's index of CPU builds, unless pip is configured otherwise.
    """
    python = folder / "bin" / "python"
    ready = folder / ".ready"
    if ready.exists() and ready.read_text(encoding="utf-8") == "\n".join(PACKAGES):
        return python
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    index = "https://download.pytorch.org/whl/cpu"
    extra = [] if "PIP_FIND_LINKS" in os.environ else ["--extra-index-url", index]
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *extra, *PACKAGES], check=True)
    ready.write_text("\n".join(PACKAGES), encoding="utf-8")
    return python


def run(task: str, seed: int, jobs: Sequence[dict[str, Any]], place: Place) -> list[dict[str, Any]]:
    """Run jobs of one task and seed in one process of the rival's environment.

    Args:
        task: A key of ``TASKS``.
        seed: Of rows, base model and retraining.
        jobs: ``method`` of ``METHODS``, ``share`` of a full retrain, ``settings``: learning rate,
            batch size and, where there is a penalty, its strength.
        place: Where data and files are.

    Returns:
        The figures of each job, as `runs.run_one` returns them.
    """
    folder = place.out / "exchange" / f"{task}-{seed}-{os.getpid()}"
    folder.mkdir(parents=True)
    files = [folder / name for name in ("world.npz", "jobs.json", "results.json")]
    try:
        np.savez(files[0], **export(task, seed, place))  # type: ignore[arg-type]
        plain = [
            {**job, "seed": seed, "method": job["method"].removeprefix(PREFIX)} for job in jobs
        ]
        files[1].write_text(json.dumps(plain), encoding="utf-8")
        python = ENVIRONMENT / "bin" / "python"
        script = ["-m", "benchmarks.retraining.avalanche_runs"]
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        done = subprocess.run(
            [str(python), *script, *(str(file.absolute()) for file in files)],
            cwd=_ROOT, env=environment, check=False, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"Avalanche on {task}, seed {seed}, failed:\n{done.stderr[-2000:]}")
        results: list[dict[str, Any]] = json.loads(files[2].read_text(encoding="utf-8"))
    finally:
        shutil.rmtree(folder)
    return [{**result, "method": PREFIX + result["method"]} for result in results]


def export(task: str, seed: int, place: Place) -> dict[str, NDArray[Any]]:
    """Return everything that the rival's environment needs as named arrays.

    The old rows are those of the first pool; a buffer may hold as many.
    """
    it = world(task, seed, place)
    steps = [it.step(number) for number in range(1, len(it.regimes))]
    old = steps[0].candidates()[0]
    parts = {"old": old, "test0": it.regimes[0].test}
    for number, step in enumerate(steps, 1):
        parts[f"new{number}"] = step.candidates()[1]
        parts[f"test{number}"] = it.regimes[number].test
        parts[f"ahead{number}"] = it.regimes[number].ahead
    meta = {
        "task": task,
        "seed": seed,
        "net": [
            str(Path(inspect.getsourcefile(it.task.net) or "").absolute()),
            it.task.net.__name__,
        ],
        "steps": len(steps),
        "memory": len(old),
        "full_flops": [step.full_flops for step in steps],
        "row_flops": steps[0].row_flops,
    }
    arrays: dict[str, NDArray[Any]] = {"meta": np.array(json.dumps(meta))}
    for name, rows in parts.items():
        arrays |= {f"{name}/x": rows.x, f"{name}/y": rows.y}
    return arrays | {f"state/{name}": tensor.numpy() for name, tensor in it.state.items()}
