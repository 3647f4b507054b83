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
from undrift.app import prepare_state
from undrift.cli.verbs import app
from undrift.config import Config, load_config
from undrift.errors import StoreError
from undrift.host.process import ProcessFile
from undrift.serve.tokens import Tokens, TokenScope, digest


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


def test_token_for_another_is_shown_once_and_taken_until_it_is_removed(config: Config) -> None:
    made = run("token", "shop", "--scope", "feedback", "--scope", "read", "--json")
    told = json.loads(made.stdout)
    assert (told["name"], told["scopes"]) == ("shop", ["feedback", "read"])
    tokens = Tokens(digest("secret"), config.state / "tokens")
    tokens.check(f"Bearer {told['token']}", TokenScope.FEEDBACK)
    assert run("token", "shop", "--remove").stdout == "the token of shop is no longer taken\n"
    assert "has no token of 'shop'" in run("token", "shop", "--remove").stderr


@pytest.mark.parametrize("options", [[], ["--scope", "read", "--remove"], ["--scope", "all"]])
def test_token_without_a_scope_is_wrong_usage(config: Config, options: list[str]) -> None:
    assert run("token", "shop", *options).exit_code == 2
    assert not config.state.exists()


def test_start_refuses_a_damaged_file_of_tokens(config: Config) -> None:
    config.state.mkdir(mode=0o700)
    (config.state / "tokens").write_text("shop\n", encoding="utf-8")
    with pytest.raises(StoreError, match="tokens, line 1: expected NAME SCOPE"):
        prepare_state(config)
