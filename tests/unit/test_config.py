from __future__ import annotations

import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

import undrift.config
from undrift.config import Config, config_schema, find_config, load_config
from undrift.errors import ConfigError
from undrift.settings import Section

STARTER = Path(undrift.config.__file__).parents[1] / "starter"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The starter's files, with empty ones in place of the trained ones."""
    shutil.copyfile(STARTER / "undrift.yaml", tmp_path / "undrift.yaml")
    for name in ("weights.safetensors", "reference.npz"):
        (tmp_path / name).touch()
    return tmp_path


def write(folder: Path, **changes: Any) -> Path:
    """Replace keys, given as section__key, in the folder's YAML file; None removes one."""
    path = folder / "undrift.yaml"
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    for name, value in changes.items():
        *sections, key = name.split("__")
        target = data
        for section in sections:
            target = target.setdefault(section, {})
        if value is None:
            del target[key]
        else:
            target[key] = value
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


def problems(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    return str(caught.value).splitlines()


def test_starter_loads_and_its_values_are_the_defaults(folder: Path) -> None:
    config = load_config(folder / "undrift.yaml")
    for name in ("serve", "monitor", "train", "lifecycle"):
        assert getattr(config, name) == Config.model_fields[name].get_default()
    assert config.model.class_names == ("red", "green", "blue")


def test_starter_shows_every_section(folder: Path) -> None:
    data = yaml.safe_load((folder / "undrift.yaml").read_text(encoding="utf-8"))
    assert data.keys() == Config.model_fields.keys() - {"local", "logs"}


def test_starter_explains_every_section(folder: Path) -> None:
    lines = (folder / "undrift.yaml").read_text(encoding="utf-8").splitlines()
    for section in ("model", "serve", "monitor", "train", "lifecycle"):
        start = lines.index(f"{section}:")
        block = lines[start + 1 : lines.index("", start) if "" in lines[start:] else None]
        assert any("#" in line for line in block)


def test_relative_paths_start_at_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    config = load_config(folder / "undrift.yaml")
    assert config.folder == folder
    assert config.state == folder / "state"
    assert config.model.weights == folder / "weights.safetensors"


def test_state_may_lie_in_a_bucket(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "home"))
    changes = ["state=s3://bucket/pre/fix/"]
    config = load_config(folder / "undrift.yaml", changes)
    assert str(config.root) == config.state == "s3://bucket/pre/fix"
    assert str(config.model_state) == "s3://bucket/pre/fix/models/spirals"
    assert config.machine.parent == folder / "home" / "undrift"
    assert config.machine != load_config(folder / "undrift.yaml", ["state=s3://b/fix"]).machine
    other = load_config(folder / "undrift.yaml", [*changes, "local=here"])
    assert other.machine == other.root.local == folder / "here"
    assert load_config(folder / "undrift.yaml", ["local=here"]).root == folder / "state"


def test_config_survives_pickling(folder: Path) -> None:
    config = load_config(folder / "undrift.yaml")
    copy = pickle.loads(pickle.dumps(config))
    assert copy == config
    assert copy.folder == folder


def test_flag_goes_before_variable_before_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert find_config() == folder / "undrift.yaml"
    for name in ("variable", "flag"):
        shutil.copyfile(folder / "undrift.yaml", tmp_path / f"{name}.yaml")
    monkeypatch.setenv("UNDRIFT_CONFIG", str(tmp_path / "variable.yaml"))
    assert find_config() == tmp_path / "variable.yaml"
    assert find_config(tmp_path / "flag.yaml") == tmp_path / "flag.yaml"


def test_no_file_names_the_command_that_writes_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="`undrift init` writes one"):
        load_config()


def test_missing_file_says_who_named_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"gone\.yaml: no such file \(named by --config\)"):
        load_config(tmp_path / "gone.yaml")
    monkeypatch.setenv("UNDRIFT_CONFIG", "gone.yaml")
    with pytest.raises(ConfigError, match=r"named by UNDRIFT_CONFIG"):
        load_config()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"serve__port": 99999},
            "serve.port: got 99999, expected a number less than or equal to 65535",
        ),
        ({"serve__prot": 8000}, "serve.prot: unknown key; did you mean port?"),
        ({"serve__tap": {"flush_rows": "x"}}, "serve.tap.flush_rows: got 'x', expected a valid"),
        ({"colour": 1}, "colour: unknown key; expected one of model, reference, serve"),
        ({"train": [1]}, "train: got [1], expected a mapping of keys to values"),
        (
            {"train__nice": 20},
            "train.nice: got 20, expected a number less than or equal to 19 or 'idle'",
        ),
        ({"train__use_gpu": "no?"}, "train.use_gpu: got 'no?', expected a valid boolean or 'auto'"),
        ({"train__method": "magic"}, "train.method: got 'magic', expected 'bandit', 'full'"),
        ({"model__factory": "model.build"}, "model.factory: got 'model.build', expected function"),
        ({"model__name": "a/b"}, "model.name: got 'a/b', expected name in URLs"),
        ({"model__input_shape": [2, -1]}, "model.input_shape[1]: got -1, expected a number"),
        ({"model__input_shape": []}, "model: input_shape, the shape of one input row without the"),
        (
            {"model__inputs": [{"name": "a"}]},
            "model: input_shape, the shape of one input row without",
        ),
        (
            {"model__input_shape": [], "model__inputs": [{"name": "a"}, {"name": "a"}]},
            "model: inputs need different names, none of them y or row",
        ),
        (
            {"model__input_shape": [], "model__inputs": [{"name": "row"}]},
            "model: inputs need different names, none of them y or row",
        ),
        (
            {"model__inputs": [{"name": "a"}, {"name": "b", "datatype": "FP16"}]},
            "model.inputs[1].datatype: got 'FP16', expected 'FP32', 'BOOL', 'UINT8', 'INT8'",
        ),
        (
            {"model__inputs": [{"name": "a", "shap": [1]}]},
            "model.inputs[0].shap: unknown key; did you mean shape?",
        ),
        ({"model__inputs": [{"shape": [1]}]}, "model.inputs[0].name: missing; expected its name"),
        ({"model__inputs": {"a": 1}}, "model.inputs: got {'a': 1}, expected a list"),
        ({"model__classes": 1}, "model.classes: got 1, expected 2 or more classes"),
        ({"model__classes": ["a", "a"]}, "model.classes: got ['a', 'a'], expected 2 or more"),
        ({"model__weights": "gone"}, "model.weights: got 'gone', expected an existing file;"),
        (
            {"state": "gs://bucket/x"},
            "state: got 'gs://bucket/x', expected a path on this machine, or",
        ),
        ({"state": "s3://bucket"}, "state: got 's3://bucket', expected a path on this machine, or"),
        ({"local": "s3://bucket/x"}, "local: got 's3://bucket/x', expected a path on this machine"),
        (
            {"train__address": "head:8265"},
            "train.address: got 'head:8265', expected the dashboard of a Ray cluster, as http://",
        ),
        ({"reference": None}, "reference: missing; expected held-out labelled rows"),
        ({"model": None}, "model: missing; expected the model to serve"),
        ({"monitor__label_lag_rows": 10**9}, "monitor: join_window_rows (100000) must be"),
        ({"monitor__days_per_false_drift": 30}, "monitor: days_per_false_drift needs rows_per_day"),
        (
            {"monitor": {"days_per_false_drift": 9, "rows_per_day": 9, "rows_per_false_drift": 99}},
            "monitor: the budget is stated twice",
        ),
        (
            {"monitor": {"days_per_false_drift": 1, "rows_per_day": 9}},
            "monitor.rows_per_false_drift: got 9, expected a number greater than or equal to 100",
        ),
    ],
)
def test_problem_names_field_value_and_expectation(
    folder: Path, change: dict[str, Any], expected: str
) -> None:
    (line,) = problems(write(folder, **change))
    assert line.startswith(f"undrift.yaml: {expected}")


def test_all_problems_are_reported_together(folder: Path) -> None:
    path = write(folder, serve__port=0, train__steps=0, state=None, model__name="")
    assert [line.split(": ")[1] for line in problems(path)] == [
        "model.name",
        "serve.port",
        "train.steps",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: [\n", "undrift.yaml: line 3, column 1: expected"),
        ("a: 1\nb: 2\na: 3\n", "undrift.yaml: line 3, column 1: key 'a' appears twice"),
        ("- 1\n", "undrift.yaml: expected a mapping with the keys model, reference"),
        ("", "undrift.yaml: expected a mapping with the keys model, reference"),
    ],
)
def test_what_is_not_a_mapping_in_yaml_is_located(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "undrift.yaml").write_text(text, encoding="utf-8")
    assert problems(tmp_path / "undrift.yaml")[0].startswith(expected)


def test_off_is_a_word(folder: Path) -> None:
    path = folder / "undrift.yaml"
    text = path.read_text(encoding="utf-8").replace("mode: auto", "mode: off ")
    path.write_text(text, encoding="utf-8")
    assert load_config(path).lifecycle.mode == "off"


def test_schema_describes_every_key() -> None:
    schema = config_schema()
    objects = [schema, *schema["$defs"].values()]
    undescribed = [
        f"{part['title']}.{key}"
        for part in objects
        for key, value in part.get("properties", {}).items()
        if not value.get("description")
    ]
    assert not undescribed


def test_every_section_rejects_unknown_keys() -> None:
    schema = config_schema()
    objects = schema["$defs"].values()
    assert len(objects) > 5
    assert all(part["additionalProperties"] is False for part in objects)
    assert issubclass(Config, Section)


def test_messages_speak_of_no_pydantic_terms(folder: Path) -> None:
    path = write(folder, serve__port="x", model__classes={"a": 1}, lifecycle__mode=3)
    for line in problems(path):
        assert not re.search(r"Input should|type=|pydantic|Value error", line)


def test_regression_has_no_classes_and_answers_alone(folder: Path) -> None:
    config = load_config(write(folder, model__task="regression", model__classes=None))
    assert (config.model.is_regression, config.model.class_count) == (True, 0)
    assert config.model.class_names == ()
    assert not config.serve.mixes
    assert not undrift.config.PlatformConfig.of(config).only().serve.mixes


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"model__classes": ["a", "b"]}, "model: task: regression has no classes"),
        ({"serve__answer": "mixture"}, "serve.answer: 'mixture' needs classes"),
        ({"monitor__segments": ["x"]}, "monitor.segments: ['x'] needs classes"),
        ({"monitor__season": "24 h"}, "monitor.season: '24 h' needs classes"),
        ({"monitor__performance_statistic": "loss"}, "monitor.performance_statistic: 'loss' needs"),
        ({"monitor__escalate_without_labels": True}, "monitor.escalate_without_labels: True needs"),
    ],
)
def test_regression_refuses_what_needs_classes(
    folder: Path, changes: dict[str, Any], problem: str
) -> None:
    found = problems(
        write(folder, **{"model__task": "regression", "model__classes": None} | changes)
    )
    assert len(found) == 1
    assert found[0].startswith(f"undrift.yaml: {problem}")


def test_classification_needs_classes(folder: Path) -> None:
    (line,) = problems(write(folder, model__classes=None))
    assert line.startswith("undrift.yaml: model: classes is missing")


def test_cluster_to_train_in_is_its_dashboard(folder: Path) -> None:
    path = write(folder, train__address="https://head/ray/", train__token_file="token")
    train = load_config(path).train
    assert (train.address, train.token_file) == ("https://head/ray", folder / "token")
