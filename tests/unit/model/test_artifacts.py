from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from undrift.errors import ConfigError
from undrift.model.artifacts import load_reference
from undrift.model.layout import Layout
from undrift.model.settings import InputSettings


def write(folder: Path, row: NDArray[np.int64]) -> Path:
    path = folder / "reference.npz"
    np.savez(path, x=np.zeros((3, 2)), y=np.array([0, 1, 0]), row=row)
    return path


def test_reference_tells_where_its_rows_stood(tmp_path: Path) -> None:
    row = load_reference(write(tmp_path, np.array([0, 1, 50])), (2,), 2)[2]
    assert row is not None
    assert row.tolist() == [0, 1, 50]


def test_reference_without_row_numbers_is_consecutive(tmp_path: Path) -> None:
    path = tmp_path / "reference.npz"
    np.savez(path, x=np.zeros((3, 2)), y=np.array([0, 1, 0]))
    assert load_reference(path, (2,), 2)[2] is None


@pytest.mark.parametrize("row", [[0, 1], [2, 1, 0], [0, 0, 1]])
def test_row_numbers_that_do_not_ascend_are_refused(tmp_path: Path, row: list[int]) -> None:
    with pytest.raises(ConfigError, match="expected 3 integers, ascending"):
        load_reference(write(tmp_path, np.array(row)), (2,), 2)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY", b"x,y\n1,2\n"])
def test_reference_that_is_no_archive_is_refused_in_words(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "reference.npz"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="file of numbers"):
        load_reference(path, (2,), 2)


TOKENS = InputSettings(name="tokens", shape=(2,), datatype="INT64")
TWO = Layout((TOKENS, InputSettings(name="numeric", shape=(1,))))
ARRAYS = {
    "tokens": np.array([[1, 2**40], [3, 4], [-5, 6]]),
    "numeric": np.array([[0.5], [1.5], [2.5]], np.float32),
    "y": np.array([0, 1, 0]),
}


def written(folder: Path, suffix: str, **changed: NDArray[np.generic] | None) -> Path:
    path = folder / f"reference.{suffix}"
    arrays = {k: v for k, v in {**ARRAYS, **changed}.items() if v is not None}
    if suffix == "npz":
        np.savez(path, allow_pickle=False, **arrays)
    else:
        save_file(arrays, path)
    return path


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_reference_of_several_inputs_has_an_array_for_each(tmp_path: Path, suffix: str) -> None:
    path = written(tmp_path, suffix, row=np.array([1, 2, 5]), other=np.zeros(7))
    x, y, row = load_reference(path, (TWO.width,), 2, TWO)
    np.testing.assert_array_equal(x, TWO.pack(ARRAYS))
    assert y.tolist() == [0, 1, 0]
    assert row is not None
    assert row.tolist() == [1, 2, 5]


def test_reference_of_one_input_may_be_safetensors(tmp_path: Path) -> None:
    save_file(
        {"x": np.ones((3, 2), np.float32), "y": np.array([0, 1, 0])}, tmp_path / "r.safetensors"
    )
    assert load_reference(tmp_path / "r.safetensors", (2,), 2)[0].tolist() == [[1, 1]] * 3
    (tmp_path / "b.safetensors").write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"not a \.safetensors file of numbers"):
        load_reference(tmp_path / "b.safetensors", (2,), 2)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"numeric": None}, "there is no array numeric; expected tokens, numeric"),
        ({"y": None}, "there is no array y"),
        ({"numeric": np.zeros((3, 2))}, r"numeric is float64 \(3, 2\), expected numbers \(n, 1\)"),
        ({"numeric": np.zeros((2, 1))}, "numeric has 2 rows, tokens 3"),
        ({"numeric": np.full((3, 1), np.nan)}, "nan in row 0 of 'numeric' is not a finite"),
        ({"tokens": np.full((3, 2), 0.5)}, "0.5 in row 0 of 'tokens' is not INT64"),
        ({"y": np.array([0, 1])}, r"y is int64 \(2,\), expected integers \(3,\)"),
    ],
)
def test_reference_of_several_inputs_that_do_not_fit(
    tmp_path: Path, changed: dict[str, NDArray[np.generic] | None], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        load_reference(written(tmp_path, "npz", **changed), (TWO.width,), 2, TWO)


def numbers(folder: Path, y: NDArray[np.generic]) -> Path:
    path = folder / "reference.npz"
    np.savez(path, x=np.zeros((3, 2)), y=y)
    return path


@pytest.mark.parametrize(
    ("y", "shape"),
    [
        (np.array([1, 2, 3]), (3,)),
        (np.array([0.5, 2.0, 3.0]), (3,)),
        (np.array([[0.5], [2.0], [3.0]]), (3,)),
        (np.array([[0.5, 1.0], [2.0, 0.0], [3.0, 7.0]]), (3, 2)),
    ],
)
def test_reference_of_a_regression_has_numbers(
    tmp_path: Path, y: NDArray[np.generic], shape: tuple[int, ...]
) -> None:
    found = load_reference(numbers(tmp_path, y), (2,), 0)[1]
    assert (found.shape, found.dtype) == (shape, np.float32)
    np.testing.assert_allclose(found.ravel(), y.ravel())


@pytest.mark.parametrize(
    ("y", "text"),
    [
        (np.array(["a", "b", "c"]), "expected numbers"),
        (np.array([True, False, True]), "expected numbers"),
        (np.array([1.0, 2.0]), "expected numbers"),
        (np.zeros((3, 2, 2)), "expected numbers"),
        (np.zeros((3, 0)), "expected numbers"),
        (np.array([1.0, np.nan, 2.0]), "y of row 1 is no finite"),
        (np.array([1.0, 2.0, np.inf]), "y of row 2 is no finite"),
        (np.array([1.0, 2.0, 1e39]), "y of row 2 is no finite"),
        (np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]]), r"y\[1\] is 5 in every row"),
    ],
)
def test_reference_whose_numbers_cannot_be_met_is_refused(
    tmp_path: Path, y: NDArray[np.generic], text: str
) -> None:
    with pytest.raises(ConfigError, match=text):
        load_reference(numbers(tmp_path, y), (2,), 0)
