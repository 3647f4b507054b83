"""What README tells people to type is there to be typed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from undrift.cli.verbs import app

README = Path(__file__).parents[3] / "README.md"
ROOT = typer.main.get_command(app)


def commands() -> list[str]:
    """Every line of README that runs `undrift`, and every one named in its text."""
    text = README.read_text(encoding="utf-8")
    blocks = re.findall(r"^ {4}(?:\S*/)?undrift (.+)$", text, re.M)
    spans = re.findall(r"`undrift ([^`]+)`", text)
    lines = [part for line in blocks + spans for part in line.split("#")[0].split("&&")[:1]]
    return sorted({line.strip() for line in lines})


def inner(command: Any) -> dict[str, Any]:
    found: dict[str, Any] = getattr(command, "commands", {})
    return found


def verbs_and_options(line: str) -> tuple[list[Any], list[str]]:
    """The commands that a line names, and the options that it gives them.

    ``a | b`` in it stands for two commands. What follows a verb and is no option is its value.
    """
    found: list[Any] = []
    group = ROOT
    for word in re.split(r"[\s|]+", line):
        if word.startswith("-"):
            break
        if word in inner(group):
            found.append(inner(group)[word])
            group = found[-1] if inner(found[-1]) else group
        elif not found or found[-1] is group:
            raise LookupError(f"`undrift {line}`: no verb {word!r}")
    return found, re.findall(r"(?<!\S)--?[a-z][a-z-]*", line)


def options(command: Any) -> set[str]:
    return {o for p in command.params for o in (*p.opts, *p.secondary_opts)} | {"--help"}


def test_readme_names_verbs() -> None:
    assert len(commands()) > 15


@pytest.mark.parametrize("line", commands())
def test_verbs_and_options_of_the_readme_exist(line: str) -> None:
    found, named = verbs_and_options(line)
    assert found, f"`undrift {line}` names no verb"
    missing = set(named) - options(found[-1])
    assert not missing, f"`undrift {line}`: no option {', '.join(sorted(missing))}"


def leaves(command: Any) -> list[Any]:
    return [leaf for c in inner(command).values() for leaf in leaves(c)] or [command]


def test_every_verb_has_json_as_the_readme_says() -> None:
    assert "Every verb has `--json`" in README.read_text(encoding="utf-8")
    without = [c.name for c in leaves(ROOT) if "--json" not in options(c)]
    assert without == ["schema", "reference"]  # which print JSON and Markdown, and nothing else


@pytest.mark.parametrize("line", ["nonsense", "config nonsense", "status --nonsense"])
def test_what_does_not_exist_is_found_out(line: str) -> None:
    with pytest.raises((LookupError, AssertionError), match="nonsense"):
        test_verbs_and_options_of_the_readme_exist(line)
