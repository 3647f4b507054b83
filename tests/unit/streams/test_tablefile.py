"""Tables as people export them: every dialect, packing and encoding gives the same numbers."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from undrift.errors import ConfigError
from undrift.streams.columns import class_names, features, is_number, label_texts
from undrift.streams.tablefile import TableFile, label_column, read_table

RNG = np.random.default_rng(0)
N = 120
SIZE, WEIGHT = RNG.normal(20, 3, N).round(2), RNG.normal(600, 80, N).round(1)
KIND = RNG.choice(["oak", "elm", "ash"], N)


def text(
    delimiter: str = ",",
    *,
    decimal: str = ".",
    quote: str = "",
    header: bool = True,
    end: str = "\n",
) -> str:
    rows = [["size", "weight", "kind"]] if header else []
    rows += [[f"{s:.2f}", f"{w:.1f}", k] for s, w, k in zip(SIZE, WEIGHT, KIND, strict=True)]
    lines = [
        delimiter.join(f"{quote}{c.replace('.', decimal)}{quote}" for c in cells) for cells in rows
    ]
    return end.join(lines) + end


def read(
    folder: Path, content: str | bytes, name: str = "t.csv", label: str | None = None
) -> TableFile:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_table(path, label)


def check(file: TableFile, names: tuple[str, ...] = ("size", "weight", "kind")) -> None:
    assert tuple(file.table.column_names) == names
    found = features(file.table.select(names[:2])).columns
    np.testing.assert_array_equal(found[names[0]].to_numpy(), SIZE)
    np.testing.assert_array_equal(found[names[1]].to_numpy(), WEIGHT)
    assert label_texts(file.table[names[2]]).to_pylist() == KIND.tolist()


@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("delimiter", "decimal"),
    [(",", "."), (";", ","), (";", "."), ("\t", ","), ("\t", "."), ("|", ".")],
)
def test_dialects(tmp_path: Path, delimiter: str, decimal: str, quote: str, end: str) -> None:
    check(read(tmp_path, text(delimiter, decimal=decimal, quote=quote, end=end)))


@pytest.mark.parametrize(("delimiter", "decimal"), [(",", "."), (";", ","), ("\t", ".")])
def test_dialects_without_names(tmp_path: Path, delimiter: str, decimal: str) -> None:
    file = read(tmp_path, text(delimiter, decimal=decimal, header=False))
    assert not file.named
    check(file, ("column 0", "column 1", "column 2"))


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "t.csv.gz": gzip.compress,
    "t.csv.xz": lzma.compress,
    "t.csv.bz2": bz2.compress,
    "t.csv": gzip.compress,  # the bytes tell
}


@pytest.mark.parametrize("name", PACKED)
def test_packed_files(tmp_path: Path, name: str) -> None:
    check(read(tmp_path, PACKED[name](text().encode()), name))


def test_archive_of_one_table(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("t.csv", text())
    check(read(tmp_path, packed.getvalue(), "t.zip"))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-8"])
def test_encodings_with_a_mark(tmp_path: Path, encoding: str) -> None:
    check(read(tmp_path, text().encode(encoding)))


def test_encoding_that_is_not_unicode_is_told(tmp_path: Path) -> None:
    content = text().replace("oak", "chêne").replace("size", "größe").encode("cp1252")
    file = read(tmp_path, content)
    assert file.table.column_names[0] == "größe"
    assert "chêne" in label_texts(file.table["kind"]).to_pylist()
    assert "Windows-1252" in file.notes[0]


def table() -> pa.Table:
    return pa.table({"size": SIZE, "weight": WEIGHT, "kind": pa.array(KIND).dictionary_encode()})


def test_parquet_feather_and_json_lines(tmp_path: Path) -> None:
    pq.write_table(table(), tmp_path / "t.parquet")
    feather.write_feather(table(), str(tmp_path / "t.feather"))
    lines = "\n".join(str(row).replace("'", '"') for row in table().to_pylist())
    (tmp_path / "t.jsonl").write_text(lines)
    for name in ("t.parquet", "t.feather", "t.jsonl"):
        check(read_table(tmp_path / name))


def test_quoted_cells_keep_delimiters_quotes_and_line_ends(tmp_path: Path) -> None:
    rows = "".join(f'{i % 7}.5,"{i}, ""so""; it\nwent",{"ab"[i % 2]}\n' for i in range(50))
    file = read(tmp_path, "size,note,kind\n" + rows)
    assert file.table.num_rows == 50
    assert file.table["note"][3].as_py() == '3, "so"; it\nwent'


def test_names_and_cells_are_stripped(tmp_path: Path) -> None:
    file = read(tmp_path, text(", "), label="kind")
    check(file)


def test_named_label_makes_a_line_of_names_of_numbers(tmp_path: Path) -> None:
    rows = "".join(f"{i % 5}.5,{i % 2}\n" for i in range(30))
    assert read(tmp_path, "2019,kind\n" + rows, label="kind").named
    assert not read(tmp_path, "2019,1\n" + rows).named


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.csv", b"", "the file is empty"),
        ("t.csv", b" \n \n", "the file is empty"),
        ("t.csv", b"one\n1\n2\n", "one column"),
        ("t.csv", b"a,b\n1,2\n3,4,5\n", "cannot be read as a table"),
        ("t.csv", b"a,a\n1,2\n3,4\n", "occurs twice"),
        ("t.csv", b"\x7fELF\x00\x01\x00", "this is no text"),
        ("t.csv.gz", b"a,b\n1,2\n", "which its bytes are not"),
        ("t.csv.gz", gzip.compress(b"a,b\n1,2\n", mtime=0)[:-9], "cannot be read"),
        ("t.parquet", b"PAR1 and nothing else", "cannot be read as a table"),
        ("t.jsonl", b'{"a": 1}\n{"a":', "cannot be read as a table"),
        ("t.zip", b"PK\x03\x04 broken", "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, content, name)
    assert said in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)


def test_spreadsheet_and_archive_of_several_files_are_refused_with_a_way_out(
    tmp_path: Path,
) -> None:
    for names, said in ((["xl/workbook.xml"], "save its table as CSV"), (["a", "b"], "2 files")):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for name in names:
                archive.writestr(name, "x")
        with pytest.raises(ConfigError, match=said):
            read(tmp_path, packed.getvalue(), "t.xlsx")


def test_label_is_found_by_name_number_or_place(tmp_path: Path) -> None:
    file = read(tmp_path, text())
    assert [label_column(file, label) for label in ("size", "1", "-1")] == [
        "size",
        "weight",
        "kind",
    ]
    with pytest.raises(ConfigError, match="there is no column 'kinds'; the columns are size, "):
        label_column(file, "kinds")
    with pytest.raises(ConfigError, match="name the label's column"):
        label_column(file, None)


def columns(*cells: str) -> pa.Table:
    return pa.table({"x": pa.array(cells)})


@pytest.mark.parametrize("word", ["NULL", "None", "n/a", " NA ", "?", "-", "", "inf", "NaN", "\\N"])
def test_words_for_missing_leave_a_column_of_numbers(word: str) -> None:
    found = features(columns("3.5", word, "-1e2", "7"))
    assert found.columns["x"].to_pylist() == [3.5, None, -100.0, 7.0]
    assert not found.notes


def test_column_is_of_numbers_if_nearly_all_cells_are_and_the_others_are_told() -> None:
    cells = [f"{i * 7 % 13}.5" for i in range(20)]
    found = features(columns(*cells, "broken"))
    assert found.columns["x"].null_count == 1
    assert "1 of 21 cells of 'x' are no numbers ('broken')" in found.notes[0]
    assert features(columns(*cells[:4], "a", "b")).columns["x"].to_pylist()[-1] == "b"


def test_thousands_are_read_with_either_decimal_mark() -> None:
    assert features(columns("1,234.5", "12.0", "1,000,000")).columns["x"].to_pylist() == [
        1234.5,
        12.0,
        1e6,
    ]
    assert features(columns("1,234", "12,345", "7")).columns["x"].to_pylist() == [1234, 12345, 7]
    assert features(columns("1,234", "0,125", "7")).columns["x"].to_pylist() == [1.234, 0.125, 7]
    assert features(columns("1.234,5", "12,0", "3,25")).columns["x"].to_pylist() == [
        1234.5,
        12,
        3.25,
    ]


@pytest.mark.parametrize(
    ("dress", "told"),
    [
        ("{:.1f}%", "'%'"),
        ("{:.1f} %", "'%'"),
        ("${:.2f}", "'$'"),
        ("€ {:.2f}", "'€'"),
        ("{:.2f} kg", "'kg'"),
        ("{:.1f}°C", "'°C'"),
        ("{:,.2f} CHF", "'CHF'"),
    ],
)
def test_units_and_currencies_that_all_cells_have_are_left_out_and_told(
    dress: str, told: str
) -> None:
    numbers = 1_000.0 * RNG.normal(size=60).round(3)
    found = features(pa.table({"a": pa.array([dress.format(n) for n in numbers])}))
    np.testing.assert_allclose(found.columns["a"].to_numpy(), numbers, atol=0.06)
    assert found.notes == [f"The numbers of 'a' are written with {told}; that was left out."]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("-", "\u2212"),
        lambda text: text.replace(",", "\u202f"),
        lambda text: text.replace(",", "\u00a0"),
        lambda text: text.replace(",", " "),
        lambda text: text.replace(",", "'"),
    ],
)
def test_typographic_numbers_are_numbers(change: Callable[[str], str]) -> None:
    numbers = 10_000_000.0 * RNG.normal(size=60).round(3)
    found = features(pa.table({"a": pa.array([change(f"{n:,.2f}") for n in numbers])}))
    np.testing.assert_allclose(found.columns["a"].to_numpy(), numbers)
    assert "typographic" in found.notes[0]


def test_the_decimal_comma_is_seen_below_a_unit() -> None:
    numbers = RNG.normal(20.0, 5.0, 60).round(2)
    cells = [f"{n:.2f} €".replace(".", ",") for n in numbers]
    found = features(pa.table({"a": pa.array(cells)}))
    np.testing.assert_allclose(found.columns["a"].to_numpy(), numbers)


@pytest.mark.parametrize(
    "cells",
    [
        ["1st", "2nd", "3rd"] * 20,
        ["12a", "13a", "14a"] * 20,
        ["A1", "B2", "C3"] * 20,
        [f"{n} kg" if n % 2 else f"{n} lb" for n in range(60)],
        ["2024-01-02", "2024-01-03"] * 30,
        ["0x1f", "0x2e"] * 30,
    ],
)
def test_texts_with_digits_in_them_stay_texts(cells: list[str]) -> None:
    assert pa.types.is_string(features(pa.table({"a": cells})).columns["a"].type)


def test_cells_of_another_unit_are_missing_and_told() -> None:
    cells = [f"{n / 7:.3f} kg" for n in range(100, 160)]
    cells[7] = "12.5 lb"
    found = features(pa.table({"a": cells}))
    assert found.columns["a"].null_count == 1
    assert "'12.5 lb'" in found.notes[1]


@pytest.mark.parametrize(
    ("above", "delimiter"),
    [("sep=;\n", ";"), ("SEP=;\r\n", ";"), ("# by a tool\n# on monday\n", ",")],
)
def test_what_tools_write_above_a_table_is_no_part_of_it(
    tmp_path: Path, above: str, delimiter: str
) -> None:
    found = read(tmp_path, above + text(delimiter))
    assert found.table.column_names == ["size", "weight", "kind"]
    assert len(found.table) == N
    assert any("comments" in note for note in found.notes) == above.startswith("#")


def test_a_line_of_names_may_begin_with_a_hash(tmp_path: Path) -> None:
    assert read(tmp_path, "#" + text()).table.column_names == ["#size", "weight", "kind"]


def test_numbers_that_count_rows_and_ids_are_left_out_and_told() -> None:
    n = 60
    found = features(
        pa.table(
            {
                "": pa.array([str(i) for i in range(n)]),
                "clock": pa.array(np.cumsum(RNG.random(n) + 0.1)),
                "id": pa.array(RNG.permutation(n).astype(np.int64) + 2**60),
                "huge": pa.array([str(10**20 + i * 7 % 11) for i in range(n)]),
                "kept": pa.array(RNG.integers(0, 9, n)),
            }
        )
    )
    assert list(found.columns) == ["kept"]
    assert [note.split("'")[1] for note in found.notes] == ["", "clock", "id", "huge"]
    assert all("is not used" in note for note in found.notes)


def test_named_features_are_kept_even_if_they_grow() -> None:
    table = columns(*map(str, range(40)))
    assert not features(table).columns
    assert features(table.slice(0, 20)).columns
    assert features(table, keep=frozenset({"x"})).columns["x"].to_pylist() == list(range(40))


@pytest.mark.parametrize(
    ("cells", "labels", "names"),
    [
        (["02", "01", "10"], ["02", "01", "10"], ["01", "02", "10"]),
        (["10", "9", "-1"], ["10", "9", "-1"], ["-1", "9", "10"]),
        (["1.0", "2.0", ""], ["1", "2", None], ["1", "2"]),
        (["true", "False", "true"], ["true", "False", "true"], ["False", "true"]),
        (["NA", "None", " ZA "], ["NA", "None", "ZA"], ["NA", "None", "ZA"]),
        (["1.5", "1"], ["1.5", "1"], ["1", "1.5"]),
        (["nan", "2", "1"], ["nan", "2", "1"], ["1", "2", "nan"]),
        (["1_0", "9"], ["1_0", "9"], ["1_0", "9"]),
    ],
)
def test_labels_are_their_texts(
    cells: list[str], labels: list[str | None], names: list[str]
) -> None:
    found = label_texts(pa.chunked_array([cells]))
    assert found.to_pylist() == labels
    assert class_names(found) == names


@pytest.mark.parametrize(
    "text", ["", "1", "+1", ".5", "1.", "1e-5", "1,000", "1.000,5", "inf", "n/a"]
)
def test_numbers_and_missing_words_are_no_names(text: str) -> None:
    assert is_number(text)


@pytest.mark.parametrize("text", ["a", "1a", "1-2", "2024-01-02", "1,00,0", "..", "e5", "0x1F"])
def test_names(text: str) -> None:
    assert not is_number(text)
