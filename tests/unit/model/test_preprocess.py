"""The user's function that makes rows of images and texts."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from undrift.errors import RequestError
from undrift.model.layout import Layout
from undrift.model.preprocess import Preprocess
from undrift.model.settings import InputSettings

TWO = Layout((InputSettings(name="ids", shape=(3,), datatype="INT64"), InputSettings(name="size")))


def tokens(values: list[bytes]) -> dict[str, Any]:
    ids = [(list(value) + [0] * 3)[:3] for value in values]
    return {"ids": np.array(ids), "size": [float(len(value)) for value in values]}


def pixels(values: list[bytes]) -> np.ndarray:
    return np.stack([np.asarray(Image.open(io.BytesIO(v))) for v in values])[:, None]


def png(shade: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((4, 4), shade, np.uint8)).save(file, "PNG")
    return file.getvalue()


def refused(function: Any, layout: Layout | None = None) -> str:
    with pytest.raises(RequestError) as caught:
        Preprocess("m:f", function, (2,), layout)([b"a", b"b"])
    assert caught.value.status == 422
    return str(caught.value)


def test_images_become_rows() -> None:
    found = Preprocess("m:f", pixels, (1, 4, 4), None)([png(7), png(9)])
    assert (found.dtype, found.shape) == (np.float32, (2, 1, 4, 4))
    assert found[:, 0, 0, 0].tolist() == [7, 9]
    with pytest.raises(
        RequestError, match=r"UnidentifiedImageError: .* \(test_preprocess.py, line"
    ):
        Preprocess("m:f", pixels, (1, 4, 4), None)([png(7), b"no image"])


def test_texts_become_several_inputs() -> None:
    found = Preprocess("m:f", tokens, (), TWO)([b"ab", b"c"])
    np.testing.assert_array_equal(
        found, TWO.pack({"ids": np.array([[97, 98, 0], [99, 0, 0]]), "size": np.array([2, 1])})
    )


def test_tensors_and_lists_are_rows_too() -> None:
    for made in (torch.ones(2, 2), [[1, 1], [1, 1]]):
        found = Preprocess("m:f", lambda _, made=made: made, (2,), None)([b"a", b"b"])
        assert found.tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize(
    ("made", "layout", "said"),
    [
        ({"x": np.zeros((2, 2))}, None, "returns a dict, not one array"),
        (np.zeros((2, 2)), TWO, "returns a ndarray, not a dict of arrays by name"),
        (np.zeros((2, 3)), None, "returns no rows: x is float64 (2, 3), expected numbers (n, 2)"),
        (np.zeros((3, 2)), None, "returns 3 rows for 2 values"),
        (np.full((2, 2), np.inf), None, "inf in row 0 of 'x' is not a finite 32-bit float"),
        ([[1, 2], [3]], None, "returns no rows: "),
        (None, None, "returns no rows: x is object"),
        ({"ids": np.zeros((2, 3), int)}, TWO, "there is no array size; expected ids, size"),
        ({"ids": np.full((2, 3), 0.5), "size": [1, 2]}, TWO, "0.5 in row 0 of 'ids' is not INT64"),
        ({"ids": np.zeros((2, 3)), "size": [1.0]}, TWO, "size has 1 rows, ids 2"),
    ],
)
def test_what_is_no_rows_is_told_in_one_line(made: Any, layout: Layout | None, said: str) -> None:
    text = refused(lambda _: made, layout)
    assert text.startswith("model.preprocess m:f returns ")
    assert said in text
    assert "\n" not in text


def test_what_the_function_raises_is_told_with_its_line() -> None:
    def fails(values: list[bytes]) -> None:
        raise ValueError("no\nimage")

    line = fails.__code__.co_firstlineno + 1
    assert f"fails: ValueError: no image (test_preprocess.py, line {line})" in refused(fails)
