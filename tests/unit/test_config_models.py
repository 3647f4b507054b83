"""The long form of the configuration: models by name, on one platform."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from undrift.config import (
    ALONE,
    config_schema,
    load_config,
    load_platform,
    parse_config,
    short_form,
)
from undrift.errors import ConfigError
from undrift.k8s.render import render
from undrift.tune.rewrite import write_tuned

MODEL = {
    "factory": "model:build",
    "weights": "weights.safetensors",
    "input_shape": [2],
    "classes": ["a", "b"],
}
ENTRY = {"model": MODEL, "reference": "reference.npz"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("weights.safetensors", "reference.npz", "model.py"):
        (tmp_path / name).touch()
    return tmp_path


def write(folder: Path, data: dict[str, Any]) -> Path:
    path = folder / "undrift.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return path


def long(*names: str, **more: Any) -> dict[str, Any]:
    return {"models": dict.fromkeys(names, ENTRY), "serve": {"port": 9000}, **more}


def one(**more: Any) -> dict[str, Any]:
    """The long form of one model ``m``, with more sections of its own."""
    return {"models": {"m": {**ENTRY, **more}}}


def test_both_forms_of_one_model_say_the_same(folder: Path) -> None:
    sections = {"train": {"steps": 7}, "monitor": {"seed": 3}}
    wide = {**one(serve={"replicas": 2}, **sections), "serve": {"port": 9000}, "state": "s"}
    flat = {"model": {"name": "m", **MODEL}, "reference": "reference.npz", "state": "s"}
    flat |= {"serve": {"port": 9000, "replicas": 2}, **sections}
    a, b = (load_config(write(folder, data)) for data in (wide, flat))
    assert a == b
    assert (a.folder, a.serve.port, a.serve.replicas) == (folder, 9000, 2)
    assert short_form(wide) == flat == short_form(flat)


def test_short_form_is_a_platform_of_one_model(folder: Path) -> None:
    flat = {"model": {"name": "m", **MODEL}, "reference": "reference.npz", "serve": {"port": 9000}}
    assert load_platform(write(folder, flat)) == load_platform(write(folder, long("m")))


def test_several_models_are_checked_and_each_can_be_looked_at(folder: Path) -> None:
    path = write(folder, long("m", "n.2"))
    platform = load_platform(path, ["models.n.2.train.steps=9", "state=elsewhere"])
    assert [*platform.models] == ["m", "n.2"]
    assert [platform.view(name).train.steps for name in platform.models] == [600, 9]
    assert platform.view("n.2").model_state == folder / "elsewhere" / "models" / "n.2"


def test_what_needs_a_platform_refuses_several_models_in_one_line(folder: Path) -> None:
    path = write(folder, long("m", "n"))
    for read, way_out in {load_config: "name one with --model", render: ALONE}.items():
        with pytest.raises(ConfigError, match=r"^undrift\.yaml: models: there are several") as e:
            read(path)
        assert f"several, m, n; {way_out}" in str(e.value)
        assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (one(monitor={"seeed": 1}), "models.m.monitor.seeed: unknown key; did you mean seed?"),
        (one(serve={"port": 1}), "models.m.serve.port: unknown key; expected one of replicas"),
        (one(colour=1), "models.m.colour: unknown key; expected one of model, reference, serve"),
        (one(train={"steps": 0}), "models.m.train.steps: got 0, expected a number"),
        (one(monitor={"days_per_false_drift": 3}), "models.m.monitor: days_per_false_drift needs"),
        (
            one(serve={"replicas": 3, "max_replicas": 2}),
            "models.m.serve: max_replicas, 2, is below",
        ),
        (one(reference="gone"), "models.m.reference: got 'gone', expected an existing file"),
        ({"models": {"m": {"model": MODEL}}}, "models.m.reference: missing; expected held-out"),
        ({"models": {"m": 3}}, "models.m: got 3, expected a mapping of keys to values"),
        ({"models": {"a/b": ENTRY}}, "models.a/b.model.name: got 'a/b', expected name in URLs"),
        ({"models": {}}, "models: "),
        ({"models": [1]}, "models: got [1], expected a valid dictionary"),
        (one(model={**MODEL, "name": "x"}), "models: m has model.name 'x'; leave the name out"),
        (
            long("m", serve={"replicas": 2}),
            "serve.replicas: unknown key; expected one of host, port",
        ),
        (long("m", stat="x"), "stat: unknown key; did you mean state?"),
        (
            long("m", train={}, model=MODEL),
            "models: the file lists models and also has one at the ",
        ),
        (
            {"modles": {}, "model": {"name": "m", **MODEL}, "reference": "reference.npz"},
            "modles: unkn",
        ),
    ],
)
def test_problem_names_the_key_from_the_top(
    folder: Path, data: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_platform(write(folder, data))
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"undrift.yaml: {expected}")


def test_misspelt_models_is_told(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"modles: unknown key; did you mean models\?"):
        load_platform(write(folder, {"modles": {"m": ENTRY}}))


def test_change_of_the_one_model_needs_no_name(folder: Path) -> None:
    path = write(folder, long("m"))
    changes = ["train.steps=5", "serve.replicas=2", "serve.port=7000", "models.m.monitor.seed=4"]
    config = load_config(path, changes)
    assert (config.train.steps, config.serve.replicas, config.serve.port) == (5, 2, 7000)
    assert config.monitor.seed == 4


def test_change_of_one_of_several_models_needs_the_name(folder: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"train\.steps: whose\? .* say models\.NAME\.train\.steps"
    ):
        load_platform(write(folder, long("m", "n")), ["train.steps=5"])


def test_long_form_of_one_model_reaches_the_pods(folder: Path) -> None:
    objects = render(write(folder, long("m")), changes=("train.steps=5",))
    (service,) = (o for o in objects if o["kind"] == "RayService")
    args = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"][0]["args"]
    config = parse_config(args["config"], folder / "undrift.yaml", args["set"])
    assert (config.model.name, config.train.steps) == ("m", 5)
    assert config.model_state == Path("/state/models/m")


def test_tuned_values_go_into_the_entry_of_the_model(folder: Path) -> None:
    path = write(folder, {**one(train={"steps": 3}), "serve": {"port": 9000}})
    out = folder / "tuned.yaml"
    write_tuned(
        path, out, {"train.steps": "8", "monitor.seed": "2", "train.batch_size": "16"}, ["better"]
    )
    tuned = load_config(out)
    assert (tuned.train.steps, tuned.monitor.seed, tuned.serve.port) == (8, 2, 9000)
    assert [*load_platform(out).models] == ["m"]


def test_schema_takes_both_forms_and_nothing_between() -> None:
    validator = jsonschema.Draft202012Validator(config_schema())
    flat = {"model": {"name": "m", **MODEL}, "reference": "reference.npz"}
    assert validator.is_valid(flat)
    assert validator.is_valid(long("m", "n"))
    for wrong in ({**flat, **long("m")}, {**flat, "model": MODEL}, long("m", train={}), {}):
        assert not validator.is_valid(wrong)
