"""A live version that is damaged: what the start says, and the way out that it names."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from tests.helpers.tuning import project
from undrift.app import prepare_state
from undrift.cli.verbs import app
from undrift.config import Config, load_config
from undrift.control.story import recover
from undrift.errors import StoreError
from undrift.events import Codec, PromoteRequested, Swapped
from undrift.host.process import process_start
from undrift.store.journal import Journal
from undrift.store.store import Store


@pytest.fixture
def damaged(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Config:
    """A state whose live version, the second of two, is damaged."""
    path = project(tmp_path)
    monkeypatch.setenv("UNDRIFT_CONFIG", str(path))
    monkeypatch.setenv("COLUMNS", "300")
    config = load_config(path)
    prepare_state(config)
    store, journal = Store(config.model_state), Journal(config.model_state)
    weights, reference = store.state_dict(1), store.reference(1)
    store.add_version(weights, parent=1, reference=reference, metrics={}, plan=None)
    for event in (
        PromoteRequested(at=1.0, version=2),
        Swapped(at=2.0, run_id="run-1", version=2),
    ):
        journal.append(Codec.encode(event), event.at)
    folder = store.weights_path(2).parent
    (folder / getattr(request, "param", "model.safetensors")).write_bytes(b"")
    return config


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize(
    "damaged", ["model.safetensors", "reference.safetensors", "manifest.json"], indirect=True
)
def test_start_names_the_command_that_lets_it_start(damaged: Config) -> None:
    with pytest.raises(StoreError, match=r"is damaged|cannot read") as refused:
        prepare_state(damaged)
    command = "undrift rollback --offline"
    assert str(refused.value).endswith(f"to serve version 1 instead: {command}")
    result = run(*command.split()[1:])
    assert result.exit_code == 0, result.output
    assert "version 1 is live from the next" in result.stdout
    prepare_state(damaged)
    assert recover(Journal(damaged.model_state).read(), damaged.lifecycle)[0].live == 1
    assert not (damaged.state / "run.json").exists()


def test_nothing_is_changed_under_a_platform_that_runs(damaged: Config) -> None:
    running = {"pid": os.getppid(), "started": process_start(os.getppid()), "url": ""}
    (damaged.state / "run.json").write_text(json.dumps(running), encoding="utf-8")
    events = Journal(damaged.model_state).read()
    result = run("rollback", "--offline")
    assert result.exit_code == 1
    assert f"process {os.getppid()} already runs on" in result.stderr
    assert Journal(damaged.model_state).read() == events
