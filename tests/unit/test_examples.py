"""Every example, offline: its files, its configuration, and the drift in its stream."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.helpers.examples import EXAMPLES, NAMES, replayed
from undrift.cli.verbs import app


def test_there_is_an_example_of_each_kind() -> None:
    assert NAMES == ["image", "regression", "series", "tabular", "text"]
    for name in NAMES:
        readme = (EXAMPLES / name / "README.md").read_text(encoding="utf-8")
        assert "undrift demo --config undrift.yaml --data stream.parquet --label label" in readme


GATE = ("regression", "text")  # numbers and classes, rows and what a preprocessor reads


@pytest.mark.thorough
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in GATE else pytest.mark.slow) for n in NAMES]
)
def test_drift_of_an_example_is_found_and_hurts_its_first_model(name: str, tmp_path: Path) -> None:
    found = replayed(name, tmp_path)
    assert found["totals"]["drifts"] >= 1
    first = next(entry for entry in found["timeline"] if entry["kind"] == "drift")
    assert 600 < first["row"] < 1_000
    assert found["accuracy"]["frozen"]["last_three_fifths"] < 0.5


def test_demo_of_a_configuration_needs_rows() -> None:
    refused = CliRunner().invoke(app, ["demo", "--config", str(EXAMPLES / "text" / "undrift.yaml")])
    assert refused.exit_code == 1
    assert "--config goes with --data FILE" in refused.stderr
