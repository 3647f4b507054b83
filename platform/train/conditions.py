"""Under which conditions a version was trained: what has to be the same to train it again."""

from __future__ import annotations

import hashlib
import platform
import sys
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import undrift.bandits
import undrift.model
import undrift.train
from undrift.model.settings import ModelSettings
from undrift.records import Reference
from undrift.train.pool import REFERENCE_ROW, Pool
from undrift.train.settings import TrainSettings

_CODE = (undrift.bandits, undrift.model, undrift.train)
_MODEL = {"factory", "input_shape", "inputs", "task", "classes", "embedding", "output"}
_FIELDS = ("x", "y", "embedding", "output", "recent", "rows")


def conditions(
    settings: TrainSettings,
    model: ModelSettings,
    pool: Pool,
    reference: Reference,
    device: torch.device | str,
) -> dict[str, Any]:
    """Return the conditions of a training, plain JSON values.

    Args:
        settings: How it trains.
        model: The model section of the configuration; its factory has been imported.
        pool: The labelled rows as they were read.
        reference: Reference of the base version.
        device: Where the model runs.
    """
    return {
        **rows(pool, reference),
        "settings": settings.model_dump(mode="json"),
        "device": torch.device(device).type,
        **machine(model),
    }


def rows(pool: Pool, reference: Reference) -> dict[str, Any]:
    """Return the first row of a pool, how many rows it has, and a SHA-256 of all that it holds."""
    live = pool.row[pool.row != REFERENCE_ROW]
    arrays = [getattr(pool, name) for name in pool.__slots__ if name != "answered"]
    arrays += [*(pool.answered or ()), *(getattr(reference, name) for name in _FIELDS)]
    return {
        "first_row": int(live.min()) if len(live) else None,
        "rows": len(live),
        "rows_hash": _sha256(
            part
            for array in map(np.asarray, arrays)
            for part in (f"{array.dtype.str}{array.shape}".encode(), _bytes(array))
        ),
    }


def machine(model: ModelSettings) -> dict[str, Any]:
    """Return what computes here, by its name for people."""
    found = {name: version(name) for name in ("undrift", "torch", "numpy")}
    return {
        **found,
        "threads": torch.get_num_threads(),
        "processor": f"{_processor()}, {torch.backends.cpu.get_cpu_capability()}",
        "code of undrift": _sha256(_sources()),
        "code of the model": _sha256(_of_model(model)),
    }


def _sources() -> Iterable[bytes]:
    for package in _CODE:
        root = Path(package.__path__[0])
        for path in sorted(root.rglob("*.py")):
            yield f"{package.__name__}/{path.relative_to(root).as_posix()}".encode()
            yield path.read_bytes()


def _of_model(model: ModelSettings) -> Iterable[bytes]:
    yield model.model_dump_json(include=_MODEL).encode()
    module = sys.modules.get(model.factory.partition(":")[0])
    path = getattr(module, "__file__", None)
    if path is not None:
        yield Path(path).read_bytes()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def _bytes(array: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _sha256(parts: Iterable[bytes | memoryview]) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(len(part).to_bytes(8, "little"))
        found.update(part)
    return found.hexdigest()
