"""`undrift init --from-model`: what is found out of a model, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner, Result

from undrift.cli.verbs import app

MODULE = """\
from torch import nn

def build():
    return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))

def images():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 10))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a module of a name of its own, for modules are imported once."""
    name = f"shop_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "module").write_text(name, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def init(folder: Path, function: str = "build", *more: str) -> Result:
    module = (folder / "module").read_text(encoding="utf-8")
    return run("init", str(folder), "--from-model", f"{module}:{function}", *more)


def table(folder: Path, names: tuple[str, ...] = ("no", "yes")) -> Path:
    """Write rows whose label is told by the sign of one column."""
    x = np.random.default_rng(0).normal(size=(300, 3))
    lines = ["age,price,size,bought"]
    lines += [f"{a:.3f},{b:.3f},{c:.3f},{names[int(b > 0)]}" for a, b, c in x]
    (folder / "rows.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "rows.csv"


def known(folder: Path) -> Path:
    """Write weights that answer by that sign."""
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    state = {name: torch.zeros_like(t) for name, t in model.state_dict().items()}
    state["0.weight"][0, 1], state["0.weight"][1, 1] = 1.0, -1.0
    state["2.weight"][0, 1] = state["2.weight"][1, 0] = 1.0
    save_file(state, folder / "known.safetensors")
    return folder / "known.safetensors"


def test_table_and_weights_make_a_configuration_that_is_fine(folder: Path) -> None:
    given = ("--weights", str(known(folder)), "--reference", str(table(folder)))
    result = init(folder, "build", *given, "--label", "bought", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["accuracy"], found["classes"], found["embedding"]) == (1.0, ["no", "yes"], "2")
    values = yaml.safe_load((folder / "undrift.yaml").read_text(encoding="utf-8"))
    assert values["model"]["input_shape"] == [3]
    assert values["monitor"]["features"] == ["age", "price", "size"]
    assert values["lifecycle"]["mode"] == "suggest"
    text = (folder / "undrift.yaml").read_text(encoding="utf-8")
    assert "CHECK: names by the alphabet" in text
    assert "CHOOSE; off: only watch" in text
    checked = run("config", "check")
    assert checked.exit_code == 0, checked.output
    assert "300 reference rows" in checked.stdout


def test_labels_that_are_numbers_of_outputs_stay_what_they_are(folder: Path) -> None:
    result = init(
        folder, "build", "--reference", str(table(folder, ("0", "1"))), "--label", "bought"
    )
    assert result.exit_code == 0, result.output
    values = yaml.safe_load((folder / "undrift.yaml").read_text(encoding="utf-8"))
    assert values["model"]["classes"] == 2
    assert run("config", "check").exit_code == 0


def test_files_that_are_in_their_place_already_stay_as_they_are(folder: Path) -> None:
    weights, rows = folder / "weights.safetensors", folder / "reference.npz"
    known(folder).rename(weights)
    x = np.random.default_rng(0).normal(size=(100, 3))
    np.savez(rows, x=x, y=(x[:, 1] > 0).astype(int), row=np.arange(100) * 2)
    before = weights.read_bytes(), rows.read_bytes()
    result = init(folder, "build", "--weights", weights.name, "--reference", rows.name)
    assert result.exit_code == 0, result.output
    assert before == (weights.read_bytes(), rows.read_bytes())
    assert run("config", "check").exit_code == 0


def test_images_take_their_shape_from_the_reference(folder: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(100, 1, 8, 8)), rng.integers(0, 10, 100)
    np.savez(folder / "images.npz", x=x, y=y)
    result = init(folder, "images", "--reference", str(folder / "images.npz"))
    assert result.exit_code == 0, result.output
    assert "input [1, 8, 8] (that of the reference), classes 10, head 2" in result.stdout
    assert run("config", "check").exit_code == 0


def test_without_rows_the_first_layer_tells_and_the_reference_is_asked_for(folder: Path) -> None:
    result = init(folder)
    assert result.exit_code == 0, result.output
    assert "input [3] (what the first layer takes)" in result.stdout
    assert "bring reference.npz" in result.stdout
    assert "BRING" in (folder / "undrift.yaml").read_text(encoding="utf-8")
    refused = run("config", "check")
    assert refused.exit_code == 1
    assert "reference.npz" in refused.stderr
    assert init(folder, "images", "--input-shape", "1,8,8", "--force").exit_code == 0


@pytest.mark.parametrize(
    ("function", "more", "text"),
    [
        ("images", (), "does not tell the shape of an input row"),
        ("images", ("--input-shape", "1,9,9"), "fails on input of shape [2, 1, 9, 9]"),
        ("nothing", (), "has no 'nothing'"),
        ("build", ("--weights", "pickled.pt"), "is pickled"),
        ("build", ("--weights", "absent"), "there is no file or folder absent"),
        ("build", ("--reference", "rows.csv"), "name the label's column"),
        (
            "build",
            ("--reference", "three.csv", "--label", "y"),
            "3 classes (a, b, c), the model",
        ),
        ("build", ("--reference", "wide.csv", "--label", "y"), "fails on input of shape"),
        ("build", ("--reference", "few.csv", "--label", "y"), "monitor.min_reference_rows asks"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(
    folder: Path, function: str, more: tuple[str, ...], text: str
) -> None:
    table(folder)
    torch.save({}, folder / "pickled.pt")
    three, four = "1,2,3,{}", "1,2,3,4,{}"
    rows = [("three", three, "abc", 99), ("wide", four, "ab", 99), ("few", three, "ab", 9)]
    for name, line, labels, count in rows:
        head = ",".join("pqrs"[: line.count(",")]) + ",y"
        body = [line.format(labels[i % len(labels)]) for i in range(count)]
        (folder / f"{name}.csv").write_text("\n".join([head, *body]) + "\n", encoding="utf-8")
    result = init(folder, function, *more)
    assert result.exit_code == 1, result.output
    assert text in result.stderr
    assert not (folder / "undrift.yaml").exists()
    assert not (folder / "weights.safetensors").exists()


def test_files_that_are_there_are_not_overwritten_unasked(folder: Path) -> None:
    (folder / "undrift.yaml").write_text("mine", encoding="utf-8")
    refused = init(folder)
    assert (refused.exit_code, "undrift.yaml; --force" in refused.stderr) == (1, True)
    assert (folder / "undrift.yaml").read_text(encoding="utf-8") == "mine"
    assert run("init", "--from-model", "a:b", "--input-shape", "3x3").exit_code == 2
