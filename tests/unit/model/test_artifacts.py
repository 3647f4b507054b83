from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from undrift.errors import ConfigError
from undrift.model.artifacts import load_reference


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
