"""Verbs on a file of several models, and on a state folder from before models had their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from tests.helpers.tuning import project
from undrift.app import prepare_state
from undrift.cli.verbs import app
from undrift.config import load_config
from undrift.errors import StoreError
from undrift.store.store import Store


@pytest.fixture
def several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that lists the project's model twice."""
    path = project(tmp_path)
    monkeypatch.setenv("UNDRIFT_CONFIG", str(path))
    monkeypatch.setenv("COLUMNS", "300")
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    data["model"].pop("name")
    shared = {key: data.pop(key) for key in ("state", "serve", "kubernetes") if key in data}
    shared.pop("serve", None)
    path.write_text(yaml.safe_dump({"models": {"m": data, "n": data}, **shared}), encoding="utf-8")
    return path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_check_looks_at_every_model_and_says_that_one_is_served(several: Path) -> None:
    result = run("config", "check", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["models"].keys() == {"m", "n"}
    assert "`undrift up` will refuse it" in run("config", "check").stdout


@pytest.mark.parametrize(
    "verb",
    ["up", "up -d", "down", "status", "retrain", "replay", "tune", "k8s render", "k8s status"],
)
def test_every_other_verb_answers_with_one_error(several: Path, verb: str) -> None:
    result = run(*verb.split())
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {several.name}: models: this release serves one model")


def test_state_of_before_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    config = load_config(project(tmp_path))
    Store(config.state)
    with pytest.raises(StoreError, match="before each model had a folder of its own"):
        prepare_state(config)
    assert not config.model_state.exists()


def test_new_state_keeps_what_is_durable_in_the_folder_of_the_model(tmp_path: Path) -> None:
    config = load_config(project(tmp_path))
    prepare_state(config)
    assert [path.name for path in config.state.iterdir()] == ["models"]
    assert [m.version for m in Store(config.model_state, read_only=True).versions()] == [1]
