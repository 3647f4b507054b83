"""Tokens: where that of the state folder goes, and those that are made for others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from tests.helpers import views
from tests.helpers.support import ModelServer
from tests.helpers.tuning import project
from undrift.cli.verbs import app
from undrift.config import Config, load_config
from undrift.host.process import ProcessFile


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    path = project(tmp_path)
    monkeypatch.setenv("UNDRIFT_CONFIG", str(path))
    monkeypatch.setenv("COLUMNS", "300")
    return load_config(path)


def test_token_of_the_state_folder_goes_to_what_our_record_names_alone(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    runfile = ProcessFile(config.state)
    runfile.token(create=True)
    path = config.folder / "undrift.yaml"
    with ModelServer() as server:  # in the place of a platform that is down
        with path.open("a", encoding="utf-8") as file:
            file.write(f"\nserve: {{port: {server.port}}}\n")
        server.replies["pause"] = (200, json.dumps(views.status()).encode())
        assert run("pause").exit_code == 0
        runfile.claim(server.url)
        runfile.path.chmod(0o666)
        assert run("pause").exit_code == 0
        monkeypatch.setenv("UNDRIFT_TOKEN", "given")
        assert run("pause").exit_code == 0
    assert [header for *_, header in server.seen] == ["", "", "Bearer given"]
