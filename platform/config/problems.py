"""What is wrong with a configuration, one line a problem, in the words of the one who wrote it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from undrift.config.sections import Config
from undrift.config.several import MODELS
from undrift.settings import Section


def problems(error: ValidationError, root: type[Section]) -> Iterable[str]:
    """Return one line a problem; of a field that may be several things, the first, or a word.

    Args:
        error: What the check of the whole found.
        root: What was checked.
    """
    found: dict[str, str] = {}
    for problem in error.errors():
        keys, section, field = _locate(problem["loc"], root)
        where = ".".join(keys)
        if where not in found:
            found[where] = _problem(problem, keys, section, field)
        elif problem["type"] == "literal_error":
            found[where] += f" or {_expected(problem, field)}"
    return found.values()


def _problem(
    problem: Mapping[str, Any], keys: list[str], section: type[Section], field: FieldInfo | None
) -> str:
    where = ".".join(keys)
    if problem["type"] == "extra_forbidden":
        keys_known = [*section.model_fields, *([MODELS] if section is Config else [])]
        close = difflib.get_close_matches(keys[-1], keys_known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"expected one of {names(section)}"
        return f"{where}: unknown key; {hint}"
    expected = _expected(problem, field)
    if problem["type"] == "missing":
        return f"{where}: missing; expected {expected}"
    if not keys and problem["type"] == "value_error":
        return expected  # a rule between sections, which names its key
    if _inner(field) and problem["type"] == "value_error":
        return f"{where}: {expected}"  # a rule between keys of one section, or between models
    return f"{where}: got {_shown(problem['input'])}, expected {expected}"


def _expected(problem: Mapping[str, Any], field: FieldInfo | None) -> str:
    """What would have been right, in the words of the validator or of the documentation."""
    if problem["type"] in ("missing", "string_pattern_mismatch") and field and field.description:
        sentence = re.split(r"[.;] ", " ".join(field.description.split()))[0].removesuffix(".")
        return sentence[0].lower() + sentence[1:]
    if problem["type"] == "model_type":
        return "a mapping of keys to values"
    text = str(problem["msg"]).removeprefix("Value error, ").partition(", unable to ")[0]
    text = text.replace("a valid tuple", "a list")
    text = re.sub(r"^(?:Input|\w+) should (?:be |(?=have ))", "", text)
    return f"a number {text}" if text.startswith(("greater ", "less ")) else text


def _locate(
    loc: Sequence[str | int], root: type[Section]
) -> tuple[list[str], type[Section], FieldInfo | None]:
    """Resolve an error's location to its keys, its section and its field.

    Pydantic appends the branches of unions to the location; only keys of sections, and what
    indexes into their values, are kept.
    """
    section = root
    keys: list[str] = []
    field: FieldInfo | None = None
    named = False  # whether the next key is a name that the user chose
    for part in loc:
        inner = _inner(field)
        if named:
            keys.append(str(part))
            named = False
        elif isinstance(part, int) and keys:
            keys[-1] += f"[{part}]"
        elif field is None or inner:
            section = inner or section
            keys.append(str(part))
            field = section.model_fields.get(str(part))
            named = field is not None and _by_name(field)
    return keys, section, field


def _by_name(field: FieldInfo) -> bool:
    """Tell whether a field holds sections by name."""
    return get_origin(field.annotation) is dict and _inner(field) is not None


def _inner(field: FieldInfo | None) -> type[Section] | None:
    """Return the section that a field is, or holds by name or in a list."""
    kind: Any = field.annotation if field else None
    for each in (kind, *get_args(kind)):
        if isinstance(each, type) and issubclass(each, Section):
            return each
    return None


def names(section: type[Section]) -> str:
    """Return the keys of a section, for a sentence."""
    return ", ".join(section.model_fields)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
