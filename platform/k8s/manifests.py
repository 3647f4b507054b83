"""The manifests in `kuberay/`, composed as `kubectl kustomize` composes them.

Of Kustomize, what the overlays use is here: `resources`, and `patches` in JSON 6902 with a target
of kind and name. A test compares the result with kubectl's.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonpatch
import yaml

from undrift.errors import ConfigError

Manifest = dict[str, Any]


def folder() -> Path:
    """Return the folder of the base and the overlays."""
    return Path(str(files("undrift.kuberay")))


def overlays() -> list[str]:
    """Return the names of the overlays."""
    return sorted(path.name for path in (folder() / "overlays").iterdir())


def compose(overlay: str) -> list[Manifest]:
    """Return the objects of an overlay, as they are before a configuration is filled in.

    Args:
        overlay: Its name.

    Raises:
        ConfigError: There is no such overlay.
    """
    if overlay not in overlays():
        raise ConfigError(f"no overlay {overlay!r}; there are {', '.join(overlays())}")
    return _build(folder() / "overlays" / overlay)


def one(objects: list[Manifest], kind: str, name: str) -> Manifest:
    """Return the object of that kind and name."""
    return next(o for o in objects if (o["kind"], o["metadata"]["name"]) == (kind, name))


def _build(path: Path) -> list[Manifest]:
    """Return the objects of a folder with a `kustomization.yaml`."""
    wanted = _load(path / "kustomization.yaml")[0]
    objects: list[Manifest] = []
    for resource in wanted["resources"]:
        where = path / resource
        objects += _build(where) if where.is_dir() else _load(where)
    for patch in wanted.get("patches", ()):
        steps = (
            _load(path / patch["path"])[0] if "path" in patch else yaml.safe_load(patch["patch"])
        )
        target = one(objects, patch["target"]["kind"], patch["target"]["name"])
        jsonpatch.apply_patch(target, steps, in_place=True)
    return objects


def _load(path: Path) -> list[Any]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
