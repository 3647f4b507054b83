"""What a power cut leaves unfinished in the log of a Delta Lake table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from undrift.store.files import sync


def set_torn_aside(log: Path) -> list[Path]:
    """Rename what is unfinished, so that the table opens and it can still be looked at.

    Args:
        log: The directory ``_delta_log`` of the table; nobody may write to it meanwhile.

    Returns:
        What was set aside, newest entry first.
    """
    torn = []
    for entry in sorted(log.glob("*.json"), reverse=True):
        if is_whole(entry, log.parent):
            break
        torn.append(_set_aside(entry))
    torn += [_set_aside(p) for p in log.glob("*.checkpoint.parquet") if not _is_parquet(p)]
    hint = log / "_last_checkpoint"
    if hint.exists() and not _leads_on(hint):
        torn.append(_set_aside(hint))  # without it the log is listed
    if torn:
        sync(log)
    return torn


def actions_of(entry: Path) -> list[dict[str, Any]]:
    """Return what a log entry says."""
    return [json.loads(line) for line in entry.read_text(encoding="utf-8").splitlines()]


def added(entry: Path) -> list[str]:
    """Return the data files that a log entry adds."""
    return [unquote(action["add"]["path"]) for action in actions_of(entry) if "add" in action]


def _set_aside(path: Path) -> Path:
    aside = path.with_suffix(".torn")
    return path.replace(aside)


def _is_parquet(path: Path) -> bool:
    try:
        pq.read_metadata(path)
    except (OSError, pa.ArrowException):
        return False
    return True


def _leads_on(hint: Path) -> bool:
    """Tell whether the checkpoint that Delta Lake is sent to is there."""
    try:
        version = json.loads(hint.read_bytes())["version"]
    except (ValueError, TypeError, KeyError):
        return False
    return (hint.parent / f"{version:020}.checkpoint.parquet").exists()


def is_whole(entry: Path, root: Path) -> bool:
    """Tell whether a log entry can be read, and every file that it adds has its size."""
    try:
        actions = actions_of(entry)
        files = [action["add"] for action in actions if "add" in action]
        sizes = [(root / unquote(file["path"])).stat().st_size for file in files]
    except (ValueError, TypeError, KeyError, FileNotFoundError):
        return False
    return bool(actions) and sizes == [file["size"] for file in files]
