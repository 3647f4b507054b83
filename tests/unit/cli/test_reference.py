"""The page of settings is current, and tells of every key all that the schema knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from undrift.cli.reference import markdown, sections
from undrift.cli.verbs import app
from undrift.config import config_schema

PAGE = Path(__file__).parents[3] / "docs" / "settings.md"


def keys(schema: dict[str, Any], part: dict[str, Any], path: str = "") -> dict[str, dict[str, Any]]:
    """Return the schema of each key that is no section, by its full path."""
    found: dict[str, dict[str, Any]] = {}
    for key, field in part["properties"].items():
        target = schema["$defs"][field["$ref"].split("/")[-1]] if "$ref" in field else field
        name = f"{path}{key}"
        inner = "properties" in target
        found |= keys(schema, target, f"{name}.") if inner else {name: {**target, **field}}
    return found


def test_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == markdown(config_schema()), "run `make docs`"


def test_verb_prints_the_page() -> None:
    assert CliRunner().invoke(app, ["config", "reference"]).output == markdown(config_schema())


def test_every_key_has_type_default_limits_and_description() -> None:
    schema = config_schema()
    wanted = keys(schema, schema["$defs"]["Config"])
    rows = {f"{s.path}.{row.key}".lstrip("."): row for s in sections(schema) for row in s.settings}
    assert rows.keys() == wanted.keys()
    for name, field in wanted.items():
        row = rows[name]
        assert row.text == " ".join(field["description"].split()), name
        assert row.kind not in ("", "anything"), name
        assert bool(row.default) == ("default" in field or field.get("type") == "object"), name
        numbers = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "pattern")
        assert row.limits or not any(limit in field for limit in numbers), name


def test_long_form_has_no_key_of_its_own_but_models() -> None:
    schema = config_schema()
    short = keys(schema, schema["$defs"]["Config"]).keys()
    model = keys(schema, schema["$defs"]["ModelConfig"]).keys()
    platform = keys(schema, schema["$defs"]["PlatformConfig"]).keys() - {"models"}
    assert model | platform | {"model.name"} == short
    assert not model & platform


def test_every_section_says_what_it_is_about() -> None:
    found = list(sections(config_schema()))
    assert len(found) > 5
    assert all(section.text for section in found)
