"""The base of every configuration section; each section is defined beside its owner."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
)

_URL = re.compile(r"s3://[^/\s]+(/[^/\s]+)+")


class Section(BaseModel):
    """A frozen part of the configuration that rejects keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def _resolved(path: Path, info: ValidationInfo) -> Path:
    if path.parts and path.parts[0].endswith(":"):
        raise ValueError("a path on this machine")
    folder = (info.context or {}).get("folder")
    return path.expanduser() if folder is None else (folder / path.expanduser()).resolve()


def _existing(path: Path, info: ValidationInfo) -> Path:
    path = _resolved(path, info)
    if info.context is not None and not path.is_file():
        raise ValueError(f"an existing file; there is none at {path}")
    return path


def is_state_url(text: str) -> bool:
    """Tell whether a text is ``s3://bucket/prefix``."""
    return _URL.fullmatch(text) is not None


def _state(where: Any, info: ValidationInfo) -> Path | str:
    expected = "a path on this machine, or s3://bucket/prefix"
    if not isinstance(where, str | Path):
        raise ValueError(expected)
    url = str(where).rstrip("/")
    if is_state_url(url):
        return url
    if re.match(r"\w+:/", url):
        raise ValueError(expected)
    return _resolved(Path(where), info)


State = Annotated[
    Path | str,
    PlainValidator(_state),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "format": "path"}),
]


Folder = Annotated[Path, AfterValidator(_resolved)]


InputFile = Annotated[Path, AfterValidator(_existing)]
