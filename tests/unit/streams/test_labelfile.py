"""Labels from files as people have them."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from undrift.errors import ConfigError
from undrift.streams.labelfile import LabelBlock, read_labels

COLUMNS = ("id", "label")


def read(
    path: Path, columns: tuple[str, ...] = COLUMNS, names: tuple[str, ...] = (), size: int = 100
) -> list[LabelBlock]:
    with path.open("rb") as file:
        return list(read_labels(path, file, columns, names, size))


def one(path: Path, columns: tuple[str, ...] = COLUMNS, names: tuple[str, ...] = ()) -> LabelBlock:
    (block,) = read(path, columns, names)
    return block


def written(tmp_path: Path, text: str, name: str = "late.csv") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_text_of_any_delimiter_and_line_end(tmp_path: Path, delimiter: str, end: str) -> None:
    lines = ["x,id,label", "9,a,1", "9,b,0"]
    text = end.join(line.replace(",", delimiter) for line in lines) + end
    block = one(written(tmp_path, text))
    assert (block.row, block.ids, block.labels, block.times) == ([1, 2], ["a", "b"], [1, 0], None)


def test_byte_order_mark_and_quoted_names(tmp_path: Path) -> None:
    block = one(written(tmp_path, '\ufeff"id","label"\n"a,1","2"\n'))
    assert (block.ids, block.labels) == (["a,1"], [2])


def test_names_with_delimiters_spaces_and_line_ends_in_them(tmp_path: Path) -> None:
    text = '"at, in ""s""\nUTC"; id ;label\n5;"a;\nb";1\n6;c;0\n'
    block = one(written(tmp_path, text))
    assert (block.row, block.ids, block.labels) == ([1, 2], ["a;\nb", "c"], [1, 0])


def test_ids_that_look_like_numbers_stay_as_they_are(tmp_path: Path) -> None:
    assert one(written(tmp_path, "id,label\n007,1\n1e3,0\nNA,0\n")).ids == ["007", "1e3", "NA"]


def test_whole_floats_are_indices_unless_a_class_has_that_name(tmp_path: Path) -> None:
    path = written(tmp_path, "id,label\na,1.0\nb,7\nc,cat\nd,1.5\ne,inf\nf,1_0\n")
    assert one(path).labels == [1, 7, "cat", "1.5", "inf", "1_0"]
    assert one(path, names=("1", "cat")).labels == ["1", 7, "cat", "1.5", "inf", "1_0"]


def test_rows_without_a_label_are_left_out_and_the_others_keep_their_number(tmp_path: Path) -> None:
    block = one(written(tmp_path, "id,label\na,\nb,1\nc,\nd,0\n"))
    assert (block.row, block.ids, block.read) == ([2, 4], ["b", "d"], 4)


def test_blocks_have_at_most_so_many_rows_and_lose_none(tmp_path: Path) -> None:
    text = "id,label\n" + "".join(f"r{i},{i % 2}\n" for i in range(25))
    blocks = read(written(tmp_path, text), size=10)
    assert [b.read for b in blocks] == [10, 20, 25]
    assert [row for b in blocks for row in b.row] == list(range(1, 26))


def test_compressed_text_larger_than_a_block(tmp_path: Path) -> None:
    path, n = tmp_path / "late.csv.gz", 200_000
    path.write_bytes(gzip.compress(b"id,label\n" + b"".join(b"row-%d,1\n" % i for i in range(n))))
    blocks = read(path, size=50_000)
    assert blocks[-1].read == n
    assert [i for b in blocks for i in b.ids] == [f"row-{i}" for i in range(n)]


def test_times_are_seconds_or_text_or_now(tmp_path: Path) -> None:
    text = "id,label,at\na,1,1700000000.5\nb,1,2024-01-02T03:04:05Z\nc,1,\n"
    times = one(written(tmp_path, text), ("id", "label", "at")).times
    assert times is not None
    assert times[:2] == [1700000000.5, "2024-01-02T03:04:05Z"]
    assert abs(float(times[2]) - datetime.now(UTC).timestamp()) < 600


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_parquet_with_typed_columns(tmp_path: Path, unit: str) -> None:
    when = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
    table = pa.table(
        {
            "at": pa.array([when, None, when], pa.timestamp(unit, "UTC")),
            "label": pa.array([1, None, 0], pa.int8()),
            "id": pa.array([11, 12, 13], pa.int64()),
        }
    )
    path = tmp_path / "late.parquet"
    pq.write_table(table, path)
    block = one(path, ("id", "label", "at"))
    assert (block.row, block.ids, block.labels) == ([1, 3], ["11", "13"], [1, 0])
    assert block.times == [when.timestamp(), when.timestamp()]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("late.csv", b"id,klass\na,1\n", "there is no column 'label'; it has id, klass"),
        ("late.csv", b"", "there is no column 'id'"),
        ("late.csv", b"id,label\na,1\nb\n", "cannot be read"),
        ("late.csv", b"id,label\n\xff\xfe,1\n", "cannot be read"),
        ("late.csv.gz", b"id,label\na,1\n", "cannot be read"),
        ("late.parquet", b"id,label\na,1\n", "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_told_with_the_file(
    tmp_path: Path, name: str, content: bytes, told: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert told in str(caught.value)


def test_numbers_of_one_output_and_text_that_is_none(tmp_path: Path) -> None:
    path = written(tmp_path, "id,label\na,1\nb,-2.5e3\nc,\nd,tall\ne,nan\nf,1e999\n")
    with path.open("rb") as file:
        (block,) = read_labels(path, file, COLUMNS, (), targets=1)
    assert block.row == [1, 2, 4, 5, 6]
    assert block.labels == [1.0, -2500.0, "tall", "nan", "1e999"]


def test_numbers_of_several_outputs_and_a_time(tmp_path: Path) -> None:
    path = written(tmp_path, "id,up,down,at\na,1,2,9\nb,3,,9\nc,4,x,9\n")
    with path.open("rb") as file:
        (block,) = read_labels(path, file, ("id", "up", "down", "at"), (), targets=2)
    assert (block.row, block.times) == ([1, 3], [9.0, 9.0])
    assert block.labels == [[1.0, 2.0], [4.0, "x"]]
