"""The one YAML file: found, read, checked whole, and reported on as a person would want it.

Each section is defined beside its owner; this package only composes them. Nothing that it imports
pulls in PyTorch or Ray, so that the command line starts at once.
"""

from undrift.config.added import Added, Wanted, load_model, names_in, wanted
from undrift.config.files import (
    ALONE,
    CONFIG_NAME,
    CONFIG_VARIABLE,
    changed,
    config_schema,
    find_config,
    load_config,
    load_platform,
    parse_config,
    parse_platform,
    read_config,
)
from undrift.config.sections import Config, ModelConfig, PlatformConfig
from undrift.config.several import short_form

__all__ = [
    "ALONE",
    "CONFIG_NAME",
    "CONFIG_VARIABLE",
    "Added",
    "Config",
    "ModelConfig",
    "PlatformConfig",
    "Wanted",
    "changed",
    "config_schema",
    "find_config",
    "load_config",
    "load_model",
    "load_platform",
    "names_in",
    "parse_config",
    "parse_platform",
    "read_config",
    "short_form",
    "wanted",
]
