"""Setting keys in a YAML file while everything else in it, comments too, stays as it is."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import yaml

from undrift.config import load_config
from undrift.errors import ConfigError
from undrift.tune.space import SECTIONS

HEAD = "# Tuned by `undrift tune`."

_Edit = tuple[int, int, str]


def rewritten(text: str, settings: Mapping[str, str], evidence: Sequence[str] = ()) -> str:
    r"""Return a YAML file with other values.

    Args:
        text: The file.
        settings: New values by ``section.key``, as YAML text.
        evidence: Lines of a comment at the top; that of an earlier tuning is replaced.

    Raises:
        ConfigError: The file is no block of ``section:`` lines.

    Example:
        >>> print(rewritten("train:\n  steps: 600   # or more\n", {"train.steps": "200"}), end="")
        train:
          steps: 200   # or more
    """
    if text.startswith(HEAD):
        text = text.partition("\n\n")[2]
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode) or root.flow_style:
        raise ConfigError("expected a YAML file of lines such as `train:`")
    wanted: dict[str, dict[str, str]] = {}
    for name, value in settings.items():
        section, _, key = name.partition(".")
        wanted.setdefault(section, {})[key] = value
    model = _only_model(root)
    there = {key.value: value for key, value in model.value}
    inner = " " * model.start_mark.column + "  "
    edits = [*_edits(text, there, wanted, inner)]
    missing = [
        f"{section}:\n" + "".join(f"{inner}{key}: {value}\n" for key, value in values.items())
        for section, values in sorted(wanted.items())
        if section not in there
    ]
    if (
        model is not root
    ):  # before its first key; after its last one another part of the file goes on
        first = model.start_mark.index
        edits += [(first, first, "".join(part + inner[:-2] for part in missing))]
    for start, stop, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[stop:]
    if model is root:
        text = "\n\n".join([text.rstrip(), *missing]) if missing else text
    head = [HEAD, *(f"# {line}".rstrip() for line in evidence)]
    return "\n".join(head) + "\n\n" + text if evidence else text


def _only_model(root: yaml.MappingNode) -> yaml.MappingNode:
    """Return the mapping that has the model's sections: that of the one model, else the whole."""
    models = next((value for key, value in root.value if key.value == "models"), None)
    if models is None:
        return root
    model = models.value[0][1]
    if models.flow_style or model.flow_style:
        raise ConfigError("expected a model of lines such as `train:`")
    found: yaml.MappingNode = model
    return found


def _edits(
    text: str,
    there: Mapping[str, yaml.Node],
    wanted: Mapping[str, Mapping[str, str]],
    inner: str,
) -> Iterable[_Edit]:
    for section, values in wanted.items():
        node = there.get(section)
        if isinstance(node, yaml.MappingNode):
            yield from _in_mapping(node, values)
        elif node is not None:  # nothing after the colon
            lines = "".join(f"\n{inner}{key}: {value}" for key, value in values.items())
            colon = text.rindex(":", 0, node.start_mark.index + 1) + 1
            yield colon, node.end_mark.index, lines


def _in_mapping(node: yaml.MappingNode, values: Mapping[str, str]) -> Iterable[_Edit]:
    there = {key.value: value for key, value in node.value}
    for key in values.keys() & there.keys():
        old = there[key]
        space = " " if old.start_mark.index == old.end_mark.index else ""
        yield old.start_mark.index, old.end_mark.index, space + values[key]
    lines = [f"{key}: {value}" for key, value in values.items() if key not in there]
    if not lines:
        return
    if not node.value:  # {}
        yield node.start_mark.index, node.end_mark.index, "{" + ", ".join(lines) + "}"
        return
    first = node.value[0][0].start_mark
    between = ", " if node.flow_style else "\n" + " " * first.column
    yield first.index, first.index, between.join([*lines, ""])


def write_tuned(
    source: Path, out: Path, settings: Mapping[str, str], evidence: Sequence[str]
) -> None:
    """Write a configuration with other values, once it is known to load as exactly that.

    Args:
        source: The present configuration.
        out: The file to write, in the same folder, since paths in it start there.
        settings: New values by ``section.key``.
        evidence: Lines of a comment at the top.

    Raises:
        ConfigError: The file cannot be edited; the text has the values to set by hand.
    """
    wanted = load_config(source, [f"{key}={value}" for key, value in settings.items()])
    descriptor, name = tempfile.mkstemp(prefix=".tmp-", suffix=".yaml", dir=out.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(rewritten(source.read_text(encoding="utf-8"), settings, evidence))
        found = load_config(temporary)
        if any(getattr(found, name) != getattr(wanted, name) for name in SECTIONS):
            raise ConfigError("the edited file says something else")
        os.replace(temporary, out)
    except ConfigError as error:
        values = ", ".join(f"{key}={value}" for key, value in settings.items())
        raise ConfigError(f"{source}: cannot be edited ({error}); set by hand: {values}") from None
    finally:
        temporary.unlink(missing_ok=True)
