"""`undrift replay` on recordings: the same decisions again, others under other settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner, Result

from tests.helpers.recording import SETTINGS, drifted
from undrift.cli.verbs import app
from undrift.store.store import Store


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A state folder, and how many decisions its journal has."""
    root = tmp_path_factory.mktemp("recording") / "state"
    return root, drifted(root / "models" / "m")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The present folder, with a configuration of the policy that was recorded."""
    (tmp_path / "weights.safetensors").touch()
    np.savez(tmp_path / "reference.npz", x=np.zeros((1, 6)), y=np.zeros(1, dtype=np.int64))
    config = {
        "model": {
            "name": "m",
            "factory": "model:build",
            "weights": "weights.safetensors",
            "input_shape": [6],
            "classes": 2,
        },
        "reference": "reference.npz",
        "monitor": SETTINGS.model_dump(exclude_unset=True),
    }
    (tmp_path / "undrift.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["replay", *arguments])


def replayed(*arguments: str) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def refused(*arguments: str) -> str:
    """Return the one line that a replay is refused with."""
    result = run(*arguments)
    assert result.exit_code == 1, result.output
    (line,) = result.stderr.splitlines()
    return line.removeprefix("error: ")


@pytest.mark.thorough
def test_same_settings_make_every_live_decision_again_byte_for_byte(
    folder: Path, recording: tuple[Path, int]
) -> None:
    root, decisions = recording
    found = replayed("--state", str(root))
    assert decisions >= 2
    assert found["totals"]["decisions"] == {"live": decisions, "same": decisions}
    assert found["totals"]["rows"] == found["totals"]["labels"] == 900
    drift = next(entry for entry in found["timeline"] if entry["kind"] == "drift")
    assert 250 <= drift["evidence"]["signals"][2]["change_row"] <= 400
    assert [e["row"] for e in found["timeline"] if e["kind"] == "rearmed"] == [600]


@pytest.mark.thorough
def test_other_settings_tell_another_story(folder: Path, recording: tuple[Path, int]) -> None:
    root, decisions = recording
    bold = replayed("--state", str(root))
    shy = replayed("--state", str(root), "--set", "monitor.rows_per_false_drift=1000000000")

    def first_drift(found: dict[str, Any]) -> float:
        rows = [entry["row"] for entry in found["timeline"] if entry["kind"] == "drift"]
        return rows[0] if rows else float("inf")

    assert first_drift(shy) > first_drift(bold)
    assert shy["totals"]["decisions"]["same"] < decisions


def test_table_names_signals_and_change_points(folder: Path, recording: tuple[Path, int]) -> None:
    text = run("--state", str(recording[0])).stdout
    assert "performance" in text
    assert "drift" in text
    assert "made again on the same evidence, byte for byte" in text


def test_replay_writes_nothing_into_the_state_folder(
    folder: Path, recording: tuple[Path, int]
) -> None:
    root = recording[0]
    # a version that is just being written
    (root / "models" / "m" / "versions" / ".tmp-1").mkdir(exist_ok=True)

    def everything() -> dict[str, tuple[int, int]]:
        return {
            str(path): (path.stat().st_size, path.stat().st_mtime_ns)
            for path in [root, *root.rglob("*")]
        }

    before = everything()
    replayed("--state", str(root))
    assert everything() == before


@pytest.mark.thorough
def test_plot_has_a_strip_for_each_signal(folder: Path, recording: tuple[Path, int]) -> None:
    replayed("--state", str(recording[0]), "--plot", "signals.svg")
    first = (folder / "signals.svg").read_bytes()
    assert first.startswith(b"<?xml")
    replayed("--state", str(recording[0]), "--plot", "signals.svg")
    assert (folder / "signals.svg").read_bytes() == first


def test_folder_without_a_recording_is_refused_and_not_made(folder: Path) -> None:
    assert "nothing was recorded in" in refused("--state", "none")
    assert not (folder / "none").exists()
    assert "nothing was recorded in" in refused()
    assert not (folder / "state").exists()


def test_recording_without_rows_is_refused(folder: Path) -> None:
    Store(folder / "state" / "models" / "m")
    assert "has no recorded rows" in refused()


def test_state_of_before_is_refused(folder: Path) -> None:
    Store(folder / "state")
    assert refused().endswith("mkdir -p models/m && mv store.json versions models/m/")
    assert not (folder / "state" / "models").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--set", "monitor.rows_per_drift=5"), "monitor.rows_per_drift: unknown key; did you"),
        (("--set", "monitor.rows_per_false_drift=5"), "greater than or equal to 100"),
        (("--set", "=5"), "expected section.key=value"),
        (("--set", "rows=5"), "rows: unknown key"),
        (("--set", "monitor.seed=[1"), "the value is not YAML"),
        (("--label", "y"), "--label goes with --data"),
        (("--retrain",), "--retrain goes with --data"),
        (("--lag", "0"), "--lag goes with --data"),
        (("--data", "a.csv", "--state", "state"), "replay one at a time"),
        (("--data", "a.csv"), "a.csv: no such file"),
        (("--plot", "a.pdf"), "must end in .svg or .png"),
        (("--plot", "no/a.svg"), "there is no folder"),
    ],
)
def test_wrong_input_is_one_line(folder: Path, arguments: tuple[str, ...], said: str) -> None:
    assert said in refused(*arguments)
