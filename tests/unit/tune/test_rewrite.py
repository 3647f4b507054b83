"""The tuned file is the user's own, with other values."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import undrift
from tests.helpers.tuning import project
from undrift.config import load_config
from undrift.errors import ConfigError
from undrift.tune.rewrite import HEAD, rewritten, write_tuned

STARTER = Path(next(iter(undrift.__path__))) / "starter" / "undrift.yaml"
TWO = {"train.steps": "200", "train.synapse_strength": "0.1"}


def test_starter_file_keeps_every_comment() -> None:
    text = STARTER.read_text(encoding="utf-8")
    new = rewritten(text, TWO | {"lifecycle.min_regime_rows": "100"})
    assert [line.partition("#")[2] for line in new.splitlines() if "#" in line] == [
        line.partition("#")[2] for line in text.splitlines() if "#" in line
    ]
    expected = yaml.safe_load(text)
    expected["train"] |= {"steps": 200, "synapse_strength": 0.1}
    expected["lifecycle"]["min_regime_rows"] = 100
    assert yaml.safe_load(new) == expected


@pytest.mark.parametrize(
    "text",
    [
        "train:\n  steps: 600\n",
        "train:\n    method: full   # why\n    steps: 600 # long\n",
        "train: {steps: 600, method: full}\n",
        "train: {}\n",
        "train:\n",
        "train:   # nothing yet\nmonitor:\n  seed: 1\n",
        "train: null\n",
        "train:\n  steps:\n",
        "monitor:\n  seed: 1",
        "train: # comment\n  # another\n  method: full\n\n# end\n",
    ],
)
def test_values_are_set_however_the_section_is_written(text: str) -> None:
    was = yaml.safe_load(text)
    now = yaml.safe_load(rewritten(text, TWO))
    assert now["train"] == (was.get("train") or {}) | {"steps": 200, "synapse_strength": 0.1}
    assert {k: v for k, v in now.items() if k != "train"} == {
        k: v for k, v in was.items() if k != "train"
    }


def test_evidence_of_an_earlier_tuning_is_replaced() -> None:
    once = rewritten("train:\n  steps: 1\n", TWO, ["first"])
    again = rewritten(once, {"train.steps": "3"}, ["second"])
    assert once.startswith(f"{HEAD}\n# first\n\n")
    assert again.startswith(f"{HEAD}\n# second\n\ntrain:")
    assert "first" not in again


def test_tuned_file_loads_as_the_configuration_with_other_values(tmp_path: Path) -> None:
    path, out = project(tmp_path), tmp_path / "tuned.yaml"
    settings = {"train.learning_rate": "1.0e-05", "monitor.accuracy_window": "60"}
    write_tuned(path, out, settings, ["why"])
    changes = [f"{key}={value}" for key, value in settings.items()]
    assert load_config(out) == load_config(path, changes)


def test_file_that_cannot_be_edited_is_left_and_the_values_are_told(tmp_path: Path) -> None:
    path = project(tmp_path)
    path.write_text(str(yaml.safe_load(path.read_text())), encoding="utf-8")  # {...} is YAML too
    with pytest.raises(ConfigError, match=r"set by hand: train\.steps=3"):
        write_tuned(path, tmp_path / "tuned.yaml", {"train.steps": "3"}, [])
    assert not list(tmp_path.glob("*tuned*")) + list(tmp_path.glob(".tmp*"))


def test_merged_section_is_not_edited_into_something_else(tmp_path: Path) -> None:
    path = project(tmp_path)
    text = path.read_text(encoding="utf-8").replace("train:\n", "train: &t\n")
    path.write_text(text + "x: *t\n", encoding="utf-8")
    with pytest.raises(ConfigError):
        write_tuned(path, tmp_path / "tuned.yaml", {"train.steps": "3"}, [])
