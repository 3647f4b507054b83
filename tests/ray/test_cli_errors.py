"""Mistakes as a user meets them: one message, exit code 1, nothing running, nothing written."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from tests.ray.running import UNDRIFT, alive, environment, free_port, one_error, project

pytestmark = pytest.mark.ray

Break = Callable[[Path], object]


def failing_factory(folder: Path) -> None:
    (folder / "model.py").write_text("def build():\n    raise OSError('no licence')\n")


def unparsable_module(folder: Path) -> None:
    (folder / "model.py").write_text("def build(:\n")


def weights_of_another_model(folder: Path) -> None:
    weights = load_file(folder / "weights.safetensors")
    weights["0.weight"] = weights["0.weight"][:, :1].contiguous()
    save_file(weights, folder / "weights.safetensors")


def cut_weights(folder: Path) -> None:
    os.truncate(folder / "weights.safetensors", 100)


def reference_of_another_shape(folder: Path) -> None:
    np.savez(folder / "reference.npz", x=np.zeros((100, 5)), y=np.zeros(100, int))


def unknown_key(folder: Path) -> None:
    with (folder / "undrift.yaml").open("a", encoding="utf-8") as file:
        file.write("sevre: {}\n")


def state_is_a_file(folder: Path) -> None:
    (folder / "state").write_text("in the way")


MISTAKES: dict[str, tuple[Break, str]] = {
    "failing factory": (failing_factory, "failed: OSError: no licence"),
    "unparsable module": (unparsable_module, "cannot import 'model'"),
    "weights of another model": (weights_of_another_model, "weights do not fit Sequential"),
    "cut weights": (cut_weights, "is not a whole safetensors file"),
    "no weights": (lambda f: (f / "weights.safetensors").unlink(), "model.weights: got"),
    "no reference": (lambda f: (f / "reference.npz").unlink(), "reference: got"),
    "other reference": (reference_of_another_shape, "x is float64 (100, 5), expected numbers"),
    "unknown key": (unknown_key, "undrift.yaml: sevre: unknown key; did you mean serve?"),
    "no configuration": (lambda f: (f / "undrift.yaml").unlink(), "no undrift.yaml in"),
    "state is a file": (state_is_a_file, "state"),
}


# Told as the others are; what they say is held by tests/unit/cli/test_verbs.py in the gate, too.
SAID = ("unparsable module", "weights of another model", "cut weights", "other reference")


def up(folder: Path, *options: str) -> tuple[int, str]:
    """Run `undrift up` to its end; returns its exit code and its error output."""
    child = subprocess.Popen(
        [*UNDRIFT, "up", *options],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    output, errors = child.communicate(timeout=120)
    assert output == ""
    assert alive(child.pid) == {}
    return child.returncode, errors


def written(folder: Path) -> list[str]:
    state = folder / "state"
    files = [path for path in state.rglob("*") if path.is_file()]
    return sorted(path.name for path in files if path.name != "run.lock")  # it is empty, and stays


@pytest.mark.parametrize(
    "mistake",
    [pytest.param(m, marks=pytest.mark.slow if m in SAID else ()) for m in MISTAKES],
)
def test_mistake_is_one_message_and_leaves_nothing(
    starter: Path, tmp_path: Path, mistake: str
) -> None:
    act, text = MISTAKES[mistake]
    folder = project(starter, tmp_path / "spirals", serve={"port": free_port()}).parent
    act(folder)
    code, errors = up(folder)
    assert code == 1
    one_error(errors, text)
    assert "starting Ray" not in errors
    assert written(folder) == []


def test_port_in_use_is_one_message_and_leaves_nothing(starter: Path, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        folder = project(starter, tmp_path / "spirals", serve={"port": port}).parent
        code, errors = up(folder)
    assert code == 1
    one_error(errors, f"port {port} on 127.0.0.1 is in use; set serve.port to a free one")
    assert written(folder) == []


def test_mistake_of_a_detached_start_is_told_as_well(starter: Path, tmp_path: Path) -> None:
    folder = project(starter, tmp_path / "spirals", serve={"port": free_port()}).parent
    failing_factory(folder)
    code, errors = up(folder, "-d")
    assert code == 1
    one_error(errors, "failed: OSError: no licence (model.py, line 2) (all of it: ")
    assert written(folder) == ["undrift.log"]
