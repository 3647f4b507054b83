"""The manifests in `kuberay/`, composed as `kubectl kustomize` composes them.

Of Kustomize, what these use is here: `resources`, `patches` in JSON 6902 with a target of kind and
name, and `configMapGenerator` from files, under fixed names. A test compares the result with
kubectl's.
"""

from __future__ import annotations

import json
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


def monitoring() -> list[Manifest]:
    """Return what Prometheus and Grafana need: monitors, alert rules and the dashboard."""
    return _build(folder() / "monitoring")


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
    return objects + [_config_map(path, made) for made in wanted.get("configMapGenerator", ())]


def _config_map(path: Path, wanted: Manifest) -> Manifest:
    named = (entry.split("=") for entry in wanted["files"])
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": wanted["name"], "labels": wanted["options"]["labels"]},
        "data": {key: (path / name).read_text(encoding="utf-8") for key, name in named},
    }


def _load(path: Path) -> list[Any]:
    """Return the documents of a file; what is an anchor there is shared by none of them here."""
    return [json.loads(json.dumps(d)) for d in yaml.safe_load_all(path.read_text(encoding="utf-8"))]
