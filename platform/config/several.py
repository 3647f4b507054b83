"""The two forms of the YAML file as it stands: one model at the top, or `models` by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from undrift.config.sections import ModelConfig, PlatformConfig
from undrift.errors import ConfigError
from undrift.serve.settings import ListenSettings

MODELS = "models"
_OWN = ModelConfig.model_fields.keys() - PlatformConfig.model_fields.keys()


def is_long(data: Mapping[str, Any]) -> bool:
    """Tell whether the models are listed by name.

    Raises:
        ConfigError: There is a model at the top, too.
    """
    if MODELS not in data:
        return False
    if both := [key for key in data if key in _OWN]:
        raise ConfigError(
            f"{MODELS}: the file lists models and also has one at the top ({', '.join(both)}); "
            f"move that into an entry of {MODELS}, or leave {MODELS} out"
        )
    return True


def address(data: Mapping[str, Any], name: str) -> list[str]:
    """Return the keys that lead to what a change names.

    In a file of one model a key of that model needs no ``models.NAME`` before it, whatever the
    form. Names of models may have dots.

    Args:
        data: What the YAML says.
        name: As ``monitor.rows_per_false_drift``, or ``models.NAME.monitor.rows_per_false_drift``.

    Raises:
        ConfigError: There are several models, and it is not said whose key it is.
    """
    models = data.get(MODELS)
    head, _, rest = name.partition(".")
    if not isinstance(models, dict) or not models:
        return name.split(".")
    if head == MODELS:
        for model in sorted(map(str, models), key=len, reverse=True):
            if rest.startswith(f"{model}."):
                return [MODELS, model, *rest.removeprefix(f"{model}.").split(".")]
        return name.split(".")
    if head not in ModelConfig.model_fields or (
        head == "serve" and rest in ("", *ListenSettings.model_fields)
    ):
        return name.split(".")
    if len(models) > 1:
        raise ConfigError(
            f"{name}: whose? There are several models; say {MODELS}.NAME.{name}, NAME one of "
            f"{', '.join(map(str, models))}"
        )
    return [MODELS, str(next(iter(models))), *name.split(".")]


def short_form(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a checked file of one model says, with that model at the top."""
    if MODELS not in data:
        return dict(data)
    ((name, entry),) = data[MODELS].items()
    shared = {key: value for key, value in data.items() if key != MODELS}
    serve = {**(entry.get("serve") or {}), **(shared.get("serve") or {})}
    told = {**entry, "model": {"name": name, **entry["model"]}, **shared}
    return told | ({"serve": serve} if serve else {})
