"""The base of every configuration section; each section is defined beside its owner."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    ValidationInfo,
)


class Section(BaseModel):
    """A frozen part of the configuration that rejects keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def _resolved(path: Path, info: ValidationInfo) -> Path:
    if path.parts and path.parts[0].endswith(":"):
        raise ValueError("a path on this machine; URLs of object stores are not supported yet")
    folder = (info.context or {}).get("folder")
    return path.expanduser() if folder is None else (folder / path.expanduser()).resolve()


def _existing(path: Path, info: ValidationInfo) -> Path:
    path = _resolved(path, info)
    if info.context is not None and not path.is_file():
        raise ValueError(f"an existing file; there is none at {path}")
    return path


Folder = Annotated[Path, AfterValidator(_resolved)]


InputFile = Annotated[Path, AfterValidator(_existing)]
