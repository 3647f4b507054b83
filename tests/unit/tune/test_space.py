"""What `undrift tune` may search, and what it refuses before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.tuning import project
from undrift.config import load_config
from undrift.control.settings import LifecycleSettings
from undrift.errors import ConfigError
from undrift.monitor.settings import MonitorSettings
from undrift.train.settings import TrainSettings
from undrift.tune.space import INERT, Domain, checked_space, default_space, read_space


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return project(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "choice(bandit, full)",
        "uniform(0.1, 0.5)",
        "loguniform(0.0001, 0.01)",
        "randint(1, 10)",
        "lograndint(100, 2001)",
    ],
)
def test_expression_reads_back_as_it_was(text: str) -> None:
    assert str(Domain.parse(text)) == text
    assert Domain.parse(f"tune.{text}") == Domain.parse(text)


def test_choice_may_be_written_as_a_python_list() -> None:
    assert Domain.parse("tune.choice(['bandit', \"full\"])").options == ("bandit", "full")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("600", "expected choice"),
        ("normal(0, 1)", "expected choice"),
        ("choice()", "expected one value"),
        ("choice(a, a)", "all different"),
        ("uniform(1)", "two numbers"),
        ("uniform(a, b)", "two numbers"),
        ("uniform(2, 1)", "below the upper"),
        ("loguniform(0, 1)", "above 0"),
        ("randint(1.5, 3)", "whole numbers"),
    ],
)
def test_expression_that_is_none_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        Domain.parse(text)


def test_upper_bound_of_whole_numbers_is_not_drawn_and_not_checked(path: Path) -> None:
    assert Domain.parse("randint(2, 5)").extremes == ("2", "4")
    assert checked_space({"train.retention_share": "uniform(0, 0.99)"}, path)
    with pytest.raises(ConfigError, match="less than 1"):
        checked_space({"train.retention_share": "uniform(0, 0.9999)"}, path)  # drawn as 1.0


@pytest.mark.parametrize(
    ("key", "expression", "reason"),
    [
        ("train.steps", "randint(0, 10)", "got 0, expected a number greater"),
        ("train.steps", "uniform(10, 20)", "a whole number; draw it with randint"),
        ("train.method", "choice(bandit, magic)", "got 'magic'"),
        ("train.learning_rat", "uniform(0.1, 0.2)", "did you mean learning_rate"),
        ("serve.replicas", "randint(1, 3)", "expected a key of monitor, train, lifecycle"),
        ("lifecycle.mode", "choice(auto, off)", "set it by hand"),
    ],
)
def test_value_that_the_configuration_would_refuse_is_told(
    path: Path, key: str, expression: str, reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        checked_space({key: expression}, path)
    assert str(caught.value).startswith(f"{key}={expression}: ")


def test_every_problem_is_told_at_once(path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        checked_space({"train.steps": "3", "train.x": "uniform(0, 1)"}, path)
    assert len(str(caught.value).splitlines()) == 2


def test_default_space_is_accepted_by_the_configuration(path: Path) -> None:
    space = checked_space(default_space(load_config(path)), path)
    assert {"train.method", "monitor.rows_per_false_drift"} <= space.keys()


def test_default_space_keeps_to_a_budget_in_days(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    days = "days_per_false_drift: 30\n  rows_per_day: 1000"
    path.write_text(text.replace("rows_per_false_drift: 10000", days), encoding="utf-8")
    space = checked_space(default_space(load_config(path)), path)
    assert "monitor.days_per_false_drift" in space


def test_keys_without_effect_are_keys() -> None:
    sections = {"monitor": MonitorSettings, "train": TrainSettings, "lifecycle": LifecycleSettings}
    for name in INERT:
        section, _, key = name.partition(".")
        assert key in sections[section].model_fields


def test_option_goes_before_the_file(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text("train:\n  steps: randint(1, 9)\n  method: choice(full)\n", encoding="utf-8")
    space = read_space(file, ("train.steps=randint(10, 20)",), load_config(path))
    assert space == {"train.steps": "randint(10, 20)", "train.method": "choice(full)"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [("train: 3\n", "sections of keys"), ("[", "not a YAML file"), (None, "no such file")],
)
def test_unusable_file_is_refused(
    path: Path, tmp_path: Path, content: str | None, reason: str
) -> None:
    file = tmp_path / "space.yaml"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=reason):
        read_space(file, (), load_config(path))


def test_option_without_an_expression_is_refused(path: Path) -> None:
    with pytest.raises(ConfigError, match="expected section"):
        read_space(None, ("train.steps",), load_config(path))
