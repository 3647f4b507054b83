"""The verbs that need no running platform, on a state in a bucket."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from tests.helpers.tuning import project
from undrift.app import prepare_state
from undrift.cli.verbs import app
from undrift.config import Config, load_config
from undrift.errors import StoreError
from undrift.events import Codec, PromoteRequested, Swapped
from undrift.store.bucket import Bucket
from undrift.store.journal import Journal
from undrift.store.lease import holder_of
from undrift.store.store import Store


@pytest.fixture
def config(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A state with two versions, of which the second is live."""
    path = project(tmp_path)
    text = path.read_text(encoding="utf-8")
    path.write_text(f"{text}\nstate: {bucket}\nlocal: here\n", encoding="utf-8")
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
    return config


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.thorough
def test_state_is_checked_looked_through_explained_repaired_and_rolled_back(
    config: Config, bucket: Bucket
) -> None:
    root = bucket / "models" / config.model.name
    prepare_state(config)  # a second start takes up the live version
    checked = run("config", "check")
    assert checked.exit_code == 0, checked.output
    assert run("doctor").exit_code == 0
    (root / "versions" / "1" / f"model-{Store(root).manifest(1).hash}.safetensors").write(b"x")
    looked = run("doctor", "--json")
    assert looked.exit_code == 1
    found = json.loads(looked.stdout)
    assert (found["free_bytes"], found["owner"]) == (None, "")
    assert found["findings"][0]["path"] == str(root / "versions" / "1")
    assert "promote" in run("why", "2").stdout
    repaired = run("repair")
    assert repaired.exit_code == 0, repaired.output
    assert str(root / "versions" / "1.damaged") in repaired.stdout
    store = Store(root)
    store.add_version(
        store.state_dict(2), parent=2, reference=store.reference(2), metrics={}, plan=None
    )
    rolled = run("rollback", "--offline", "3")
    assert rolled.exit_code == 0, rolled.output
    assert "version 3 is live from the next" in rolled.stdout
    assert holder_of(bucket) == ""
    assert run("down").stdout.strip() == f"nothing runs on {bucket}"


def test_bucket_that_is_not_there_is_told_in_one_line(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    for verb in (("config", "check"), ("rollback", "--offline")):
        result = run(*verb)
        assert result.exit_code == 1
        assert isinstance(result.exception, SystemExit), result.exception
        (line,) = result.stderr.strip().splitlines()
        assert "the store cannot be reached; is AWS_ENDPOINT_URL right" in line


def test_damaged_live_version_names_the_way_out(config: Config, tmp_path: Path) -> None:
    stored = Store(config.model_state)
    assert isinstance(config.model_state, Bucket)
    digest = stored.manifest(2).hash
    (config.model_state / "versions" / "2" / f"model-{digest}.safetensors").write(b"x")
    (config.machine / "cache" / digest).unlink()
    with pytest.raises(StoreError, match=r"is damaged.*\n.*undrift rollback --offline"):
        prepare_state(config)
