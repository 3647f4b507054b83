"""The user's project, model code, weights and reference, as a ConfigMap."""

from __future__ import annotations

import base64
from pathlib import Path

from undrift.config import Config
from undrift.dashboard.cargo import modules_in
from undrift.errors import ConfigError
from undrift.k8s.manifests import Manifest

NAME = "undrift-project"
MOUNT = "/app/project"
MAX_BYTES = 1_000_000  # the API server takes 1 MiB of keys and values


def inside(path: Path, config: Config) -> str:
    """Return a path relative to the project's folder.

    Raises:
        ConfigError: It lies elsewhere, so it would be missing in the pods.
    """
    path, root = path.resolve(), config.folder.resolve()
    if not path.is_relative_to(root):
        raise ConfigError(
            f"{path} must lie in {root}: only the project's folder reaches the cluster"
        )
    return path.relative_to(root).as_posix()


def config_map(config: Config) -> Manifest:
    """Return the ConfigMap that holds the project.

    Args:
        config: The configuration, as read on this machine.

    Raises:
        ConfigError: The project is too large for a ConfigMap.
    """
    content = {path: (config.folder / path).read_bytes() for path in files(config)}
    size = sum(len(data) for data in content.values())
    if size > MAX_BYTES:
        largest = max(content, key=lambda path: len(content[path]))
        raise ConfigError(
            f"the project has {size:,} bytes, {largest} most of them; a ConfigMap holds "
            f"{MAX_BYTES:,}: build an image with it at {MOUNT}, and set kubernetes.project=image"
        )
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": NAME, "labels": {"app.kubernetes.io/name": "undrift"}},
        "binaryData": {
            _key(path): base64.b64encode(data).decode() for path, data in content.items()
        },
    }


def volume(config: Config) -> Manifest:
    """Return the volume of that ConfigMap, with every file in its folder."""
    items = [{"key": _key(path), "path": path.as_posix()} for path in files(config)]
    return {"name": "project", "configMap": {"name": NAME, "items": items}}


def mount() -> Manifest:
    """Return how the containers mount that volume."""
    return {"name": "project", "mountPath": MOUNT, "readOnly": True}


def files(config: Config) -> list[Path]:
    """Return the files that the model needs, relative to the project's folder, sorted."""
    named = {Path(inside(path, config)) for path in (config.model.weights, config.reference)}
    return sorted(named | set(modules_in(config.folder, config.state)))


def _key(path: Path) -> str:
    return path.as_posix().replace("/", "..")
