"""`undrift config check` tries what `up` and a retraining will do with the user's model."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from click.testing import Result
from safetensors.torch import save_model
from typer.testing import CliRunner

from undrift.cli.verbs import app
from undrift.model.network import load_factory

HEAD = """\
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(2, 8)
        self.head = nn.Linear(8, 3)

"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    sys.modules.pop("brought", None)
    sys.path.remove(str(tmp_path))
    importlib.invalidate_caches()


def check(
    folder: Path,
    forward: str,
    mode: str = "auto",
    arrays: dict[str, np.ndarray] | None = None,
    **model: object,
) -> Result:
    """Write a model with this code, its weights and its rows, and check it."""
    (folder / "brought.py").write_text(f"{HEAD}{forward}\n\n\ndef build():\n    return Net()\n")
    torch.manual_seed(0)
    save_model(load_factory("brought:build", folder)(), str(folder / "weights.safetensors"))
    rng = np.random.default_rng(0)
    arrays = {"x": rng.normal(size=(300, 2))} if arrays is None else arrays
    np.savez(folder / "reference.npz", allow_pickle=False, y=rng.integers(0, 3, 300), **arrays)
    section = {
        "name": "m",
        "factory": "brought:build",
        "weights": "weights.safetensors",
        "input_shape": [2],
        "classes": 3,
        **model,
    }
    config = {"model": section, "reference": "reference.npz", "lifecycle": {"mode": mode}}
    (folder / "undrift.yaml").write_text(yaml.safe_dump(config))
    return CliRunner().invoke(app, ["config", "check", "--config", str(folder / "undrift.yaml")])


def test_model_that_can_be_served_and_retrained_is_fine(folder: Path) -> None:
    found = check(
        folder, "    def forward(self, x):\n        return self.head(self.body(x).relu_())"
    )
    assert found.exit_code == 0, found.output
    assert "300 reference rows" in found.stdout
    assert "a batch of 64 rows takes " in found.stdout


@pytest.mark.parametrize(
    ("forward", "said"),
    [
        ("return self.head(self.body(x)).softmax(dim=1)", "leave out the softmax"),
        ("return self.body(x) @ self.head.weight.T", "uses only its weight"),
        ("return self.head(self.body(x) / 0.0)", "with no finite number"),
        ("return self.head(self.body(x.reshape(-1, 3)))", "(brought.py, line 12)"),
        ("return self.head(self.body(x).detach()).detach()", "no gradient in evaluation mode"),
        ("return self.head(self.body(x)), x.new_zeros(len(x), 3)", "2 of it can be the logits"),
        ("return {'a': x}", "answers with a [256, 2]; none of it can be the logits, [256, 3]"),
        (
            "return 2 * (self.head(self.body(x)),) if self.training else self.head(self.body(x))",
            "2 of it can be the logits",
        ),
        ("return self.head(self.body(x).sigmoid().add_(1.0))", "has no backward pass"),
        (
            "self.kept = self.body(x) + 0 * getattr(self, 'kept', x.new_zeros(8)).mean()\n"
            "        return self.head(self.kept)",
            "kept from one call to the next without detach",
        ),
        (
            "self.body.train()\n        return self.head(self.body(x))",
            "the forward of Net puts body into training mode",
        ),
    ],
)
def test_model_that_would_fail_later_is_refused_in_one_line(
    folder: Path, forward: str, said: str
) -> None:
    found = check(folder, f"    def forward(self, x):\n        {forward}")
    assert found.exit_code == 1
    (line,) = found.stderr.splitlines()
    assert said in line


@pytest.mark.parametrize(
    ("said", "output"),
    [
        ("self.head(self.body(x)), x", None),
        ("[self.head(self.body(x))]", 0),
        ("{'logits': self.head(self.body(x)), 'other': x.new_zeros(len(x), 3)}", "logits"),
    ],
)
def test_logits_may_be_a_part_of_the_answer(
    folder: Path, said: str, output: str | int | None
) -> None:
    forward = f"    def forward(self, x):\n        return {said}"
    found = check(folder, forward, output=output)
    assert found.exit_code == 0, found.output


def test_model_of_several_inputs_is_tried(folder: Path) -> None:
    forward = (
        "    def forward(self, flag, speed):\n"
        "        return self.head(self.body(torch.stack([flag.float(), speed], dim=1)))"
    )
    rng = np.random.default_rng(0)
    arrays = {"flag": rng.integers(0, 2, 300), "speed": rng.normal(size=300)}
    inputs = [{"name": "speed"}, {"name": "flag", "datatype": "BOOL"}]
    found = check(folder, forward, arrays=arrays, input_shape=[], inputs=inputs)
    assert found.exit_code == 0, found.output
    arrays["flag"][7] = 2
    found = check(folder, forward, arrays=arrays, input_shape=[], inputs=inputs)
    assert found.exit_code == 1
    assert "2 in row 7 of 'flag' is not BOOL" in found.stderr


PREPROCESS = """
    def forward(self, x):
        return self.head(self.body(x))


def rows(values):
    return [[len(value), SECOND] for value in values]
"""


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ("value[0]", ""),
        ("len(values)", "a row must depend on its value alone"),
        (
            "value[7]",
            "model.preprocess brought:rows fails: IndexError: index out of range (brought",
        ),
        ("float('nan')", "nan in row 0 of 'x' is not a finite 32-bit float"),
    ],
)
def test_preprocess_is_tried_on_its_example(folder: Path, second: str, said: str) -> None:
    (folder / "one.bin").write_bytes(b"ab")
    found = check(
        folder,
        PREPROCESS.replace("SECOND", second),
        preprocess="brought:rows",
        preprocess_example="one.bin",
    )
    assert found.exit_code == bool(said), found.output
    assert said in found.stderr


def test_preprocess_without_an_example_is_told_not_to_be_tried(folder: Path) -> None:
    found = check(folder, PREPROCESS.replace("SECOND", "0"), preprocess="brought:rows")
    assert found.exit_code == 0, found.output
    (line,) = warnings(found)
    assert "model.preprocess brought:rows was found, but not tried" in line
    assert "model.preprocess_example" in line


def warnings(found: Result) -> list[str]:
    return " ".join(found.stdout.split()).split("warning: model 'm': ")[1:]


@pytest.mark.parametrize(
    ("forward", "said"),
    [
        ("return self.head(self.body(x))", None),
        ("return self.head(nn.functional.dropout(self.body(x)))", "when it is asked again"),
        (
            "self.kept = self.body(x).detach() + getattr(self, 'kept', x.new_zeros(8)).mean()\n"
            "        return self.head(self.body(x) + self.kept)",
            "when it is asked again",
        ),
        ("return self.head(self.body(x) - self.body(x).mean(dim=0))", "in another batch"),
    ],
)
def test_answers_that_depend_on_more_than_the_row_are_warned_of(
    folder: Path, forward: str, said: str | None
) -> None:
    found = check(folder, f"    def forward(self, x):\n        {forward}")
    assert found.exit_code == 0, found.output
    assert [said in line for line in warnings(found)] == ([True] if said else [])


def test_preprocess_that_is_not_there_is_refused(folder: Path) -> None:
    found = check(folder, PREPROCESS.replace("SECOND", "0"), preprocess="brought:row")
    assert "model.preprocess 'brought:row': 'brought' has no 'row'" in found.stderr


def test_model_without_gradients_may_be_watched(folder: Path) -> None:
    forward = "    def forward(self, x):\n        return self.head(self.body(x)).detach()"
    assert check(folder, forward, mode="off").exit_code == 0
