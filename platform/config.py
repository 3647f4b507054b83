"""The one YAML file: found, read, checked whole, and reported on as a person would want it.

Each section is defined beside its owner; this module only composes them. Nothing that it imports
pulls in PyTorch or Ray, so that the command line starts at once.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, PrivateAttr, ValidationError
from pydantic.fields import FieldInfo

from undrift.control.settings import LifecycleSettings
from undrift.errors import ConfigError
from undrift.k8s.settings import KubernetesSettings
from undrift.model.settings import ModelSettings
from undrift.monitor.settings import MonitorSettings
from undrift.serve.settings import ServeSettings
from undrift.settings import Folder, InputFile, Section
from undrift.train.settings import TrainSettings

CONFIG_NAME = "undrift.yaml"
CONFIG_VARIABLE = "UNDRIFT_CONFIG"


class Config(Section):
    """Everything that undrift can be told."""

    model: ModelSettings
    """The model to serve."""

    reference: InputFile
    """Held-out labelled rows: an `.npz` file with `x`, (n, *input_shape), and `y`, (n,) class
    index, in order of time; `row`, (n,), where each stood in its stream, if they are not
    consecutive."""

    state: Folder = Field(default=Path("state"), validate_default=True)
    """Folder for everything that outlives a restart; created if missing."""

    serve: ServeSettings = ServeSettings()
    """HTTP and replicas."""

    monitor: MonitorSettings = MonitorSettings()
    """What counts as drift."""

    train: TrainSettings = TrainSettings()
    """How to retrain."""

    lifecycle: LifecycleSettings = LifecycleSettings()
    """When to act."""

    kubernetes: KubernetesSettings = KubernetesSettings()
    """Where and how `undrift k8s` deploys."""

    _folder: Path = PrivateAttr(default_factory=Path.cwd)

    @property
    def artifacts(self) -> tuple[ModelSettings, Path, Path, int]:
        """What `undrift.model.artifacts.load_inputs` reads."""
        return self.model, self.reference, self.folder, self.monitor.min_reference_rows

    @property
    def folder(self) -> Path:
        """Folder of the YAML file; the model's module is imported from there."""
        return self._folder


def find_config(path: Path | None = None) -> Path:
    """Return the configuration file: ``path``, else $UNDRIFT_CONFIG, else ./undrift.yaml.

    Raises:
        ConfigError: There is no such file.
    """
    named = path or (Path(os.environ[CONFIG_VARIABLE]) if os.environ.get(CONFIG_VARIABLE) else None)
    found = (named or Path(CONFIG_NAME)).expanduser().absolute()
    if found.is_file():
        return found
    if named is None:
        raise ConfigError(
            f"no {CONFIG_NAME} in {found.parent}; `undrift init` writes one, "
            f"or name yours with --config or {CONFIG_VARIABLE}"
        )
    origin = "--config" if path else CONFIG_VARIABLE
    raise ConfigError(f"{named}: no such file (named by {origin})")


def load_config(path: Path | None = None, changes: Sequence[str] = ()) -> Config:
    """Read and check the configuration; relative paths in it start at its own folder.

    Args:
        path: The YAML file; without it $UNDRIFT_CONFIG, then ./undrift.yaml.
        changes: What to set instead, each as ``section.key=value``, the value in YAML.

    Returns:
        The configuration, with absolute paths.

    Raises:
        ConfigError: The file is missing, is not YAML, or has problems; the text lists them all.
    """
    path = find_config(path)
    return parse_config(read_config(path), path, changes)


def read_config(path: Path) -> dict[str, Any]:
    """Return what a YAML file says, unchecked.

    Raises:
        ConfigError: The file is not a YAML mapping.
    """
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigError(f"{path.name}: {where}{error.problem or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name}: not a YAML file: {error}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path.name}: expected a mapping with the keys {_names(Config)}")
    return data


def parse_config(data: Mapping[str, Any], path: Path, changes: Sequence[str] = ()) -> Config:
    """Check a configuration; relative paths in it start at the folder of ``path``.

    Args:
        data: What the YAML says.
        path: The YAML file, or where it would lie.
        changes: What to set instead, each as ``section.key=value``, the value in YAML.

    Raises:
        ConfigError: It has problems; the text lists them all.
    """
    data = changed(data, changes)
    try:
        config = Config.model_validate(data, context={"folder": path.parent})
    except ValidationError as error:
        raise ConfigError("\n".join(f"{path.name}: {line}" for line in _problems(error))) from None
    config._folder = path.parent
    return config


def changed(data: Mapping[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """Return what the YAML would say with ``changes``, each as ``section.key=value``."""
    result = dict(data)
    for change in changes:
        _set(result, change)
    return result


def _set(data: dict[str, Any], change: str) -> None:
    """Set one key, as ``monitor.rows_per_false_drift=20000`` or ``state=elsewhere`` asks."""
    name, equals, text = change.partition("=")
    *sections, key = name.strip().split(".")
    if not (equals and key and all(sections)):
        raise ConfigError(
            f"{change!r}: expected section.key=value, as monitor.rows_per_false_drift=20000"
        )
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError:
        raise ConfigError(f"{change!r}: the value is not YAML") from None
    for section in sections:
        inner = data.get(section) or {}
        if not isinstance(inner, dict):
            return  # the check of the whole tells what is wrong with it
        data[section] = dict(inner)
        data = data[section]
    data[key] = value


def config_schema() -> dict[str, Any]:
    """Return the JSON schema of the configuration, for editors."""
    schema = Config.model_json_schema()
    return (
        {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema | {"title": "undrift"}
    )


class _Loader(yaml.SafeLoader):
    """YAML with 1.2 booleans (`off` is a word here, not False) that rejects repeated keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"key {key.value!r} appears twice", problem_mark=key.start_mark
                )
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


_BOOLEAN = "tag:yaml.org,2002:bool"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOLEAN]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    _BOOLEAN, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def _problems(error: ValidationError) -> Iterable[str]:
    """One line a problem; of a field that may be several things, the first that failed."""
    seen = set()
    for problem in error.errors():
        keys, section, field = _locate(problem["loc"])
        where = ".".join(keys)
        if where in seen:
            continue
        seen.add(where)
        if problem["type"] == "extra_forbidden":
            names = list(section.model_fields)
            close = difflib.get_close_matches(keys[-1], names, n=1)
            hint = f"did you mean {close[0]}?" if close else f"expected one of {_names(section)}"
            yield f"{where}: unknown key; {hint}"
            continue
        expected = _expected(problem, field)
        if problem["type"] == "missing":
            yield f"{where}: missing; expected {expected}"
        elif _section_of(field) and isinstance(problem["input"], dict):
            yield f"{where}: {expected}"  # a rule between keys of one section
        else:
            yield f"{where}: got {_shown(problem['input'])}, expected {expected}"


def _expected(problem: Mapping[str, Any], field: FieldInfo | None) -> str:
    """What would have been right, in the words of the validator or of the documentation."""
    if problem["type"] in ("missing", "string_pattern_mismatch") and field and field.description:
        sentence = re.split(r"[.;] ", " ".join(field.description.split()))[0].removesuffix(".")
        return sentence[0].lower() + sentence[1:]
    if problem["type"] == "model_type":
        return "a mapping of keys to values"
    text = str(problem["msg"]).removeprefix("Value error, ").partition(", unable to ")[0]
    text = re.sub(r"^(?:Input|\w+) should (?:be |(?=have ))", "", text)
    return f"a number {text}" if text.startswith(("greater ", "less ")) else text


def _locate(loc: Sequence[str | int]) -> tuple[list[str], type[Section], FieldInfo | None]:
    """Resolve an error's location to its keys, its section and its field.

    Pydantic appends the branches of unions to the location; only keys of sections, and what
    indexes into their values, are kept.
    """
    section: type[Section] = Config
    keys: list[str] = []
    field: FieldInfo | None = None
    for part in loc:
        inner = _section_of(field)
        if field is None or inner:
            section = inner or section
            keys.append(str(part))
            field = section.model_fields.get(str(part))
        elif isinstance(part, int):
            keys[-1] += f"[{part}]"
    return keys, section, field


def _section_of(field: FieldInfo | None) -> type[Section] | None:
    kind = field.annotation if field else None
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def _names(section: type[Section]) -> str:
    return ", ".join(section.model_fields)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
