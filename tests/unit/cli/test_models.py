"""Verbs on a file of several models, and on a state folder from before models had their own."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from tests.helpers.tuning import project
from undrift.app import prepare_state
from undrift.cli.verbs import app
from undrift.config import load_config
from undrift.errors import ConfigError, StoreError
from undrift.jobs.submit import packed
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
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        shared["serve"] = {"port": probe.getsockname()[1]}
    path.write_text(yaml.safe_dump({"models": {"m": data, "n": data}, **shared}), encoding="utf-8")
    return path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_check_looks_at_every_model(several: Path) -> None:
    result = run("config", "check", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["models"].keys() == {"m", "n"}


@pytest.mark.parametrize("verb", ["status", "retrain", "pause", "replay"])
def test_verb_that_is_for_one_model_asks_which(several: Path, verb: str) -> None:
    result = run(*verb.split())
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {several.name}: models: there are several, m, n; name one")


@pytest.mark.parametrize(
    "verb", ["tune", "up --address auto", "k8s render", "k8s apply", "k8s status", "k8s delete"]
)
def test_verb_that_takes_one_model_alone_says_what_each_needs(several: Path, verb: str) -> None:
    result = run(*verb.split())
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    head = f"error: {several.name}: models: there are several, m, n"
    assert line == f"{head}; here each needs a file, a name and a state of its own"


def test_several_models_do_not_travel_by_job(several: Path) -> None:
    with (
        pytest.raises(ConfigError, match="several, m, n; here each needs a file, a name"),
        packed(several, ["state=/mnt/undrift"]),
    ):
        pass


@pytest.mark.parametrize("verb", ["status", "drift", "versions", "pause", "rollback", "retrain"])
def test_verb_for_one_model_takes_its_name(several: Path, verb: str) -> None:
    result = run(*verb.split(), "--model", "n")
    assert "start it with `undrift up`" in result.stderr
    result = run(*verb.split(), "--model", "x")
    assert result.stderr == "error: no model 'x'; there are m, n\n"


def test_models_of_a_platform_that_does_not_run_are_listed_added_and_removed(
    several: Path, tmp_path: Path
) -> None:
    rows = json.loads(run("models", "--json").stdout)
    assert [(row["name"], row["state"]) for row in rows] == [
        ("m", "nothing runs"),
        ("n", "nothing runs"),
    ]
    (tmp_path / "o").mkdir()
    other = project(tmp_path / "o")
    other.write_text(other.read_text(encoding="utf-8").replace("name: m", "name: o"), "utf-8")
    assert "takes effect at the next `undrift up`" in run("models", "add", str(other)).stdout
    assert run("models", "remove", "m").exit_code == 0
    assert [row["name"] for row in json.loads(run("models", "--json").stdout)] == ["n", "o"]
    assert run("models", "remove", "m").stderr == "error: no model 'm'; there are n, o\n"
    assert run("down").stdout.startswith("nothing runs on")


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
