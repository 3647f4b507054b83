from __future__ import annotations

import gzip
import lzma
from pathlib import Path

import numpy as np
import pytest

from undrift.errors import ConfigError
from undrift.streams.csvfile import csv_stream
from undrift.streams.stream import NEVER, UNKNOWN

N = 1000


def table(n: int = N, header: str | None = "a,b,kind") -> str:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, n)
    lines = [f"{rng.normal(k):.4f},{rng.normal(100):.4f},{k}" for k in y]
    return "\n".join([header, *lines] if header else lines) + "\n"


def write(folder: Path, text: str, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_header_less_file_has_its_label_last(tmp_path: Path) -> None:
    stream = csv_stream(write(tmp_path, table(header=None)), lag=10)
    assert stream.class_names == ("0", "1", "2")
    assert stream.input_shape == (2,)
    assert len(stream) == 800
    assert len(stream.train) + len(stream.reference) == 200
    assert len(stream.reference) == 40
    assert stream.features == ("column 0", "column 1")
    assert stream.reference_row is not None
    assert (np.diff(stream.reference_row) > 0).all()
    assert stream.label_at[0] == 11


@pytest.mark.parametrize("label", ["kind", "2", "-1"])
def test_label_is_found_by_name_or_number(tmp_path: Path, label: str) -> None:
    stream = csv_stream(write(tmp_path, table()), label)
    assert stream.input_shape == (2,)
    assert "'kind'" in stream.task


@pytest.mark.parametrize(("ending", "opener"), [(".csv.gz", gzip.open), (".csv.xz", lzma.open)])
def test_compressed_file_reads_like_a_plain_one(
    tmp_path: Path, ending: str, opener: object
) -> None:
    path = tmp_path / f"t{ending}"
    with opener(path, "wb") as file:  # type: ignore[operator]
        file.write(table().encode())
    plain = csv_stream(write(tmp_path, table()), "kind")
    packed = csv_stream(path, "kind")
    np.testing.assert_array_equal(packed.live.x, plain.live.x)
    assert packed.name == "t"


def test_numbers_are_standardised_by_the_first_fifth(tmp_path: Path) -> None:
    stream = csv_stream(write(tmp_path, table()), "kind")
    first = np.concatenate([stream.train.x, stream.reference.x])
    np.testing.assert_allclose(first.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(first.std(axis=0), 1, atol=1e-5)


def test_missing_numbers_become_the_median_and_are_counted(tmp_path: Path) -> None:
    lines = table().splitlines()
    lines[600] = ",?," + lines[600].rpartition(",")[2]
    stream = csv_stream(write(tmp_path, "\n".join(lines)), "kind")
    assert any("2 missing numbers" in note for note in stream.notes)
    assert np.abs(stream.live.x[600 - 1 - 200]).max() < 0.2


def test_missing_label_is_never_sent(tmp_path: Path) -> None:
    lines = table().splitlines()
    lines[601] = "1,1,"
    stream = csv_stream(write(tmp_path, "\n".join(lines)), "kind")
    assert stream.live.y[400] == UNKNOWN
    assert stream.label_at[400] == NEVER


def test_texts_become_one_column_per_value_and_dates_are_left_out(tmp_path: Path) -> None:
    lines = [
        f"2024-01-{i % 28 + 1:02d};{'red' if i % 2 else 'blue'};{i % 7};{'up' if i % 3 else 'down'}"
        for i in range(N)
    ]
    path = write(tmp_path, "\n".join(["day;colour;size;move", *lines]))
    stream = csv_stream(path, "move")
    assert stream.class_names == ("down", "up")
    assert stream.input_shape == (3,)
    assert any("day" in note for note in stream.notes)


def test_class_absent_from_the_first_fifth_is_told(tmp_path: Path) -> None:
    lines = table().splitlines()
    lines[-1] = "0,0,7"
    stream = csv_stream(write(tmp_path, "\n".join(lines)), "kind")
    assert stream.classes == 4
    assert any("1 of 4 classes" in note for note in stream.notes)


BAD = {
    "no such file": (None, None),
    "the file is empty": ("", None),
    "one column": ("a\n1\n2\n", None),
    "the columns are a, b, kind": (table(), "sort"),
    "name the label's column": (table(), None),
    "499 rows are too few": (table(499), "kind"),
    "has 1 classes; at least 2": ("a,kind\n" + "1,x\n" * N, "kind"),
    "1500 different values": ("a,kind\n" + "".join(f"1,{i}\n" for i in range(1500)), "kind"),
    "only one class of 'kind'": ("a,kind\n" + "1,x\n" * 500 + "1,y\n" * 500, "kind"),
    "no column can be used": (
        "a,kind\n" + "".join(f"text {i},{i % 2}\n" for i in range(N)),
        "kind",
    ),
    "cannot be read as a table": ("a,kind\n1,2\n1,2,3\n", "kind"),
    "occurs twice": ("a,a,kind\n" + "1,2,3\n" * N, "kind"),
}


@pytest.mark.parametrize("said", BAD)
def test_unusable_file_is_refused_with_the_reason(tmp_path: Path, said: str) -> None:
    text, label = BAD[said]
    path = tmp_path / "t.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        csv_stream(path, label)
    assert str(path) in str(caught.value)


def test_damaged_archive_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.xz"
    path.write_bytes(b"not xz")
    with pytest.raises(ConfigError, match="cannot be read"):
        csv_stream(path)
