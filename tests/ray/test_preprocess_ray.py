"""Images as bytes: made rows in a replica, by Triton's client in bytes and ours in JSON."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as triton
import yaml
from PIL import Image
from tritonclient.utils import InferenceServerException

from tests.helpers.support import eventually
from tests.ray.running import MODEL, Running, free_port

pytestmark = [pytest.mark.ray, pytest.mark.slow]

CODE = """\
import io

import numpy as np
from PIL import Image


def rows(values):
    return np.stack([np.asarray(Image.open(io.BytesIO(v)))[0, :2] / 64.0 - 2.0 for v in values])
"""


def png(shade: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((3, 3), shade, np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def running(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("images") / "spirals"
    shutil.copytree(starter, folder)
    (folder / "images.py").write_text(CODE, encoding="utf-8")
    (folder / "one.png").write_bytes(png(100))
    path = folder / "undrift.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    config["model"] |= {"preprocess": "images:rows", "preprocess_example": "one.png"}
    config["serve"] = {"port": free_port(), "answer": "model"}
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    running = Running(path)
    try:
        yield running.await_ready()
    finally:
        running.kill_all()


@pytest.fixture
def client(running: Running) -> Iterator[triton.InferenceServerClient]:
    url = running.url.removeprefix("http://")
    with triton.InferenceServerClient(url, network_timeout=60) as client:
        yield client


def given(values: list[bytes]) -> list[triton.InferInput]:
    tensor = triton.InferInput("input", [len(values)], "BYTES")
    tensor.set_data_from_numpy(np.array(values, dtype=object), binary_data=True)
    return [tensor]


def test_images_are_answered_and_stored_as_the_rows_they_became(
    running: Running, client: triton.InferenceServerClient
) -> None:
    images = [png(0), png(128), png(255)]
    (told,) = client.get_model_metadata(MODEL)["inputs"]
    assert (told["name"], told["datatype"], told["shape"]) == ("input", "BYTES", [-1])
    said = client.infer(MODEL, given(images), request_id="images").as_numpy("probabilities")
    ours = running.client.infer(images)
    np.testing.assert_allclose(ours.output, said, atol=1e-6)
    eventually(lambda: len(running.store.predictions()) == 6)
    found = running.store.predictions()
    x = {name: row.tolist() for name, row in zip(found.ids, found.x, strict=True)}
    assert [x[f"images:{i}"] for i in range(3)] == [[-2.0] * 2, [0.0] * 2, [1.984375] * 2]


def test_what_is_no_image_is_refused_with_the_line_that_says_so(
    client: triton.InferenceServerClient,
) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.infer(MODEL, given([b"no image"]))
    assert caught.value.status() == "422"
    said = str(caught.value.message())
    assert said.startswith("model.preprocess images:rows fails: UnidentifiedImageError: ")
    assert said.endswith("(images.py, line 8)")
    assert client.infer(MODEL, given([png(7)])).as_numpy("probabilities").shape == (1, 3)
