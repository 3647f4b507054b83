from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from undrift.model.settings import ModelSettings
from undrift.streams.digits import digits
from undrift.streams.project import load_model, predict, write_project


def test_written_project_is_one_that_the_platform_can_load(tmp_path: Path) -> None:
    stream = digits(500)
    values, model = write_project(stream, tmp_path / "new", steps=20, serve={"port": 9999})
    section = ModelSettings(**values["model"])
    assert values["serve"] == {"port": 9999}
    assert section.class_count == 10
    loaded = load_model(tmp_path / "new" / "model.py")
    loaded.load_state_dict(load_file(tmp_path / "new" / section.weights))
    np.testing.assert_array_equal(predict(loaded, stream.live.x), predict(model, stream.live.x))
    with np.load(tmp_path / "new" / values["reference"]) as reference:
        np.testing.assert_array_equal(reference["x"], stream.reference.x)
        np.testing.assert_array_equal(reference["y"], stream.reference.y)


@pytest.mark.thorough
def test_first_model_learns_its_stream(tmp_path: Path) -> None:
    stream = digits(500)
    _, model = write_project(stream, tmp_path, steps=200)
    right = predict(model, stream.reference.x) == stream.reference.y
    assert right.mean() > 0.8


def test_first_model_of_one_seed_is_the_same(tmp_path: Path) -> None:
    stream = digits(500)
    for name in ("a", "b"):
        write_project(stream, tmp_path / name, steps=5, seed=3)
    a, b = (load_file(tmp_path / n / "weights.safetensors") for n in ("a", "b"))
    assert all((a[k] == b[k]).all() for k in a)
