"""Which models a platform shall serve: those of its file, and what verbs have changed since."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from undrift.config import Added, load_model, wanted
from undrift.errors import ConfigError, StoreError

MODEL = {
    "factory": "model:build",
    "weights": "weights.safetensors",
    "input_shape": [2],
    "classes": ["a", "b"],
}
ENTRY = {"model": MODEL, "reference": "reference.npz"}


def write(folder: Path, data: dict[str, Any], name: str = "undrift.yaml") -> Path:
    folder.mkdir(exist_ok=True)
    for needed in ("weights.safetensors", "reference.npz", "model.py"):
        (folder / needed).touch()
    path = folder / name
    path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return path


def flat(name: str, **more: Any) -> dict[str, Any]:
    return {**ENTRY, "model": {"name": name, **MODEL}, **more}


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """The file of a platform of two models."""
    data = {"models": {"m": ENTRY, "n": ENTRY}, "serve": {"port": 9000}, "state": "s"}
    return write(tmp_path / "own", data)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """The file of a third model, as it would be served alone."""
    return write(tmp_path / "other", flat("o", serve={"port": 7000, "replicas": 2}, state="t"))


def add(own: Path, file: Path) -> None:
    found = wanted(own)
    found.adding(file).write(found.platform)


def remove(own: Path, name: str) -> None:
    found = wanted(own)
    found.removing(name).write(found.platform)


def test_platform_of_one_model_is_alone_and_says_nothing_of_others(tmp_path: Path) -> None:
    found = wanted(write(tmp_path / "one", flat("m")))
    assert (found.is_alone, found.may_be_several, found.names) == (True, False, ["m"])
    assert not (found.platform.machine / "models.json").exists()


def test_added_model_has_its_own_sections_and_folder_and_the_platforms_address_and_state(
    own: Path, other: Path
) -> None:
    add(own, other)
    found = wanted(own)
    assert (found.names, found.listed, found.may_be_several) == (["m", "n", "o"], ["m", "n"], True)
    config = load_model(own, "o")
    assert (config.serve.port, config.serve.replicas) == (9000, 2)
    assert config.folder == config.model.weights.parent == other.parent
    assert config.model_state == own.parent / "s" / "models" / "o"


def test_what_is_removed_stays_away_until_it_is_added_again(own: Path, other: Path) -> None:
    add(own, other)
    remove(own, "o")
    remove(own, "n")
    assert wanted(own).is_alone
    assert wanted(own).known == Added({}, ("n",))
    add(own, own)
    assert wanted(own).names == ["m", "n"]
    assert not wanted(own).known


def test_name_that_is_taken_is_refused_and_the_same_file_again_is_a_change(
    own: Path, other: Path
) -> None:
    add(own, other)
    add(own, other.parent / ".." / other.parent.name / other.name)
    assert wanted(own).known == Added({"o": str(other)})
    copy = write(other.parent, flat("o"), "copy.yaml")
    with pytest.raises(ConfigError, match=r"a model 'o' already, from .*other/undrift\.yaml"):
        add(own, copy)
    with pytest.raises(ConfigError, match=r"a model 'm' already, from .*own/undrift\.yaml"):
        add(own, write(other.parent, flat("m"), "m.yaml"))
    assert wanted(own).known == Added({"o": str(other)})


def test_unknown_name_and_the_last_model_are_not_removed(own: Path) -> None:
    with pytest.raises(ConfigError, match="no model 'x'; there are m, n"):
        remove(own, "x")
    remove(own, "m")
    with pytest.raises(ConfigError, match="'n' is the last model; `undrift down`"):
        remove(own, "n")
    with pytest.raises(ConfigError, match="no model 'm'; there is n"):
        remove(own, "m")


def test_last_model_that_can_be_served_is_not_removed(own: Path, other: Path) -> None:
    add(own, other)
    remove(own, "n")
    other.unlink()
    with pytest.raises(ConfigError, match=r"(?s)'m' is the last model that can.*no such file"):
        remove(own, "m")
    remove(own, "o")
    assert wanted(own).names == ["m"]


def test_broken_model_is_told_and_breaks_no_other(own: Path, other: Path) -> None:
    add(own, other)
    data = yaml.safe_load(own.read_text(encoding="utf-8"))
    data["models"]["n"] = {**ENTRY, "train": {"steps": 0}}
    write(own.parent, data)
    write(other.parent, flat("o", colour=1))
    found = wanted(own)
    assert ([*found.models], [*found.broken], found.names) == (["m"], ["n", "o"], ["m", "n", "o"])
    assert "models.n.train.steps: got 0" in found.broken["n"]
    assert "colour: unknown key" in found.broken["o"]
    assert load_model(own, "m").model.name == "m"
    with pytest.raises(ConfigError, match=r"models\.n\.train\.steps: got 0"):
        load_model(own, "n")


def test_what_is_wrong_with_all_is_told_whole(own: Path) -> None:
    write(own.parent, {"models": {"m": ENTRY, "n": ENTRY}, "serve": {"port": 0}, "stat": "x"})
    with pytest.raises(ConfigError) as caught:
        wanted(own)
    assert [line.split(": ")[1] for line in str(caught.value).splitlines()] == [
        "serve.port",
        "stat",
    ]


def test_name_added_from_a_file_and_listed_later_in_the_platforms_is_told(
    own: Path, other: Path
) -> None:
    add(own, other)
    data = yaml.safe_load(own.read_text(encoding="utf-8"))
    data["models"]["o"] = ENTRY
    write(own.parent, data)
    found = wanted(own)
    assert [*found.models] == ["m", "n"]
    assert "o is both in" in found.broken["o"]


def test_damaged_record_is_told(own: Path) -> None:
    record = wanted(own).platform.machine / "models.json"
    record.parent.mkdir()
    record.write_text("[]", encoding="utf-8")
    with pytest.raises(StoreError, match=r"models\.json is damaged"):
        wanted(own)


def test_change_by_name_reaches_one_of_several_models(own: Path) -> None:
    assert load_model(own, "n", ["models.n.train.steps=9"]).train.steps == 9
    with pytest.raises(ConfigError, match="no model 'x'; there are m, n"):
        load_model(own, "x")
