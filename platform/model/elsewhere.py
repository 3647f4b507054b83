"""Where somebody else has left the weights of a model, brought into one safetensors file."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from undrift.errors import ModelError
from undrift.model.network import load_safetensors
from undrift.model.usercode import one_line

_MLFLOW = ("models:", "runs:", "mlflow-artifacts:")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_INDEX = ".safetensors.index.json"
HOW = (
    "save them as safetensors: safetensors.torch.save_model(model, path), or of a Hugging Face "
    "model model.save_pretrained(folder)"
)
_EXTRA = (
    "; MLflow keeps such a file beside its own: "
    "mlflow.pytorch.log_model(model, name='model', extra_files=['new.safetensors'])"
)


def find_weights(source: str, scratch: Path) -> Path:
    """Return one whole safetensors file with the weights at a source; nothing is unpickled.

    Args:
        source: A safetensors file; a folder with one, or with shards and their index, as
            ``save_pretrained`` and MLflow write it; or an MLflow model, as ``models:/name/1`` or
            ``runs:/id/model``.
        scratch: An empty folder for what has to be fetched or put together.

    Raises:
        ModelError: There is nothing of the kind, or more than one.
    """
    path = _fetched(source, scratch) if source.startswith(_MLFLOW) else Path(source)
    if path.is_dir():
        path = _in_folder(path, source, scratch)
    elif not path.exists():
        raise ModelError(f"there is no file or folder {source}")
    try:
        load_safetensors(path)
    except ModelError:
        if not _is_pickle(path):
            raise
        told = f"{source} is pickled, and unpickling runs what is in it; {HOW}"
        raise ModelError(told) from None
    return path


def _fetched(source: str, scratch: Path) -> Path:
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    try:
        artifacts: Any = importlib.import_module("mlflow.artifacts")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "mlflow":
            raise _broken(source, error) from error
        raise ModelError(
            f"{source} takes MLflow, which is not installed: pip install mlflow"
        ) from None
    except Exception as error:  # beside versions of other packages that it does not bear
        raise _broken(source, error) from error
    try:
        return Path(artifacts.download_artifacts(artifact_uri=source, dst_path=str(scratch)))
    except Exception as error:  # whatever the registry, its store or its client raise
        told = " ".join(str(error).split())[:300]
        raise ModelError(f"MLflow cannot fetch {source}: {told}") from error


def _broken(source: str, error: Exception) -> ModelError:
    return ModelError(f"{source} takes MLflow, which cannot be imported: {one_line(error)}")


def _in_folder(folder: Path, source: str, scratch: Path) -> Path:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    indices = [path for path in files if path.name.endswith(_INDEX)]
    shards = {path for index in indices for path in _shards(index)}
    single = [path for path in files if path.suffix == ".safetensors" and path not in shards]
    found = [*indices, *single]
    if len(found) > 1:
        names = ", ".join(str(path.relative_to(folder)) for path in found[:5])
        raise ModelError(f"{source} has {len(found)} sets of weights ({names}); name one of them")
    if indices:
        return _joined(shards, scratch / "joined.safetensors")
    if single:
        return single[0]
    traced = [path.name for path in files if path.suffix == ".pt2"]
    pickles = [path.name for path in files if path.name not in traced and _is_pickle(path)]
    what = "no safetensors file"
    if traced or pickles:
        kind = "only a traced program" if traced else "only pickled weights"
        what = f"{kind}, {(traced or pickles)[0]}"
    extra = _EXTRA if (folder / "MLmodel").exists() else ""
    raise ModelError(f"{source} has {what}; {HOW}{extra}")


def _shards(index: Path) -> set[Path]:
    try:
        names = set(json.loads(index.read_bytes())["weight_map"].values())
        plain = all(Path(name).name == name for name in names)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        plain = False
    if not plain:
        raise ModelError(f"{index} does not name the files of its weights in a weight_map")
    return {index.parent / name for name in names}


def _joined(shards: Iterable[Path], path: Path) -> Path:
    tensors: dict[str, torch.Tensor] = {}
    for shard in sorted(shards):
        tensors |= load_safetensors(shard)
    save_file(tensors, path)
    return path


def _is_pickle(path: Path) -> bool:
    """Tell whether a file that is no safetensors file is pickled, also within a zip archive."""
    with path.open("rb") as file:
        head = file.read(2)
    return head == b"PK" or head[:1] == b"\x80" or path.suffix in _PICKLES
