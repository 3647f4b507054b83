"""The YAML file itself: where it is, what it says, and what it would say with changes."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic.json_schema import models_json_schema

from undrift.config.problems import names, problems
from undrift.config.sections import Config, PlatformConfig
from undrift.config.several import MODELS, address, is_long
from undrift.errors import ConfigError

CONFIG_NAME = "undrift.yaml"
CONFIG_VARIABLE = "UNDRIFT_CONFIG"
ANY, ALONE = "name one with --model", "here each needs a file, a name and a state of its own"
"""What to do about a file of several models, by a verb that can take one of them and by others."""


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


def load_config(
    path: Path | None = None, changes: Sequence[str] = (), way_out: str = ANY
) -> Config:
    """Read and check the configuration of one model; relative paths start at its own folder.

    Args:
        path: The YAML file; without it $UNDRIFT_CONFIG, then ./undrift.yaml.
        changes: What to set instead, each as ``section.key=value``, the value in YAML.
        way_out: What to do if it has several models, for the message.

    Returns:
        The configuration, with absolute paths.

    Raises:
        ConfigError: The file is missing, is not YAML, has problems, of which the text lists all,
            or has several models.
    """
    path = find_config(path)
    return parse_config(read_config(path), path, changes, way_out)


def load_platform(path: Path | None = None, changes: Sequence[str] = ()) -> PlatformConfig:
    """Read and check the configuration of any number of models; otherwise as `load_config`."""
    path = find_config(path)
    return parse_platform(read_config(path), path, changes)


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
        raise ConfigError(f"{path.name}: expected a mapping with the keys {names(Config)}")
    return data


def parse_config(
    data: Mapping[str, Any], path: Path, changes: Sequence[str] = (), way_out: str = ANY
) -> Config:
    """Check a configuration of one model; relative paths start at the folder of ``path``.

    Args:
        data: What the YAML says.
        path: The YAML file, or where it would lie.
        changes: What to set instead, each as ``section.key=value``, the value in YAML.
        way_out: What to do if it has several models, for the message.

    Raises:
        ConfigError: It has problems, of which the text lists all, or several models.
    """
    platform = parse_platform(data, path, changes)
    try:
        return platform.only(way_out)
    except ConfigError as error:
        raise ConfigError(f"{path.name}: {error}") from None


def parse_platform(
    data: Mapping[str, Any], path: Path, changes: Sequence[str] = ()
) -> PlatformConfig:
    """Check a configuration of any number of models; otherwise as `parse_config`."""
    data = changed(data, changes)
    root: type[Config | PlatformConfig] = Config
    try:
        root = PlatformConfig if is_long(data) else Config
        found = root.model_validate(data, context={"folder": path.parent})
    except ConfigError as error:
        raise ConfigError(f"{path.name}: {error}") from None
    except ValidationError as error:
        lines = [f"{path.name}: {line}" for line in problems(error, root)]
        raise ConfigError("\n".join(lines)) from None
    found._folder = path.parent
    return found if isinstance(found, PlatformConfig) else PlatformConfig.of(found)


def changed(data: Mapping[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """Return what the YAML would say with ``changes``, each as ``section.key=value``."""
    result = dict(data)
    for change in changes:
        _set(result, change)
    return result


def _set(data: dict[str, Any], change: str) -> None:
    """Set one key, as ``monitor.rows_per_false_drift=20000`` or ``state=elsewhere`` asks."""
    name, equals, text = change.partition("=")
    *sections, key = address(data, name.strip())
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
    """Return the JSON schema of the configuration in both its forms, for editors."""
    places, schema = models_json_schema([(Config, "validation"), (PlatformConfig, "validation")])
    defs = schema["$defs"]
    named = defs["ModelSettings"]
    required = [key for key in named["required"] if key != "name"]  # in the long form it is the key
    defs["NamedModel"] = named | {"title": "NamedModel", "required": required}
    defs["ModelConfig"]["properties"]["model"]["$ref"] = "#/$defs/NamedModel"
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "undrift",
        "type": "object",
        "if": {"required": [MODELS]},
        "then": places[PlatformConfig, "validation"],
        "else": places[Config, "validation"],
        "$defs": defs,
    }


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
