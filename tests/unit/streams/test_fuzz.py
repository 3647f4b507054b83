"""Tables that were damaged at random: read, or refused in words; no column goes without a word."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from undrift.errors import ConfigError
from undrift.streams.columns import features, label_texts
from undrift.streams.csvfile import csv_stream
from undrift.streams.tablefile import label_column, read_table

WORDS = [
    b"NULL",
    b'"',
    b"'",
    b"\xff",
    b"\0",
    b"\r",
    b"\n\n",
    b",,",
    b";",
    b"\t",
    b"1e999",
    b"\xef\xbb\xbf",
]
WORDS += [
    b"-",
    b"9" * 40,
    b"\xe2\x80\xa8",
    b"=1+1",
    b"\\",
    b"{",
    b"\x1f\x8b",
    b"PK\x03\x04",
    b"PAR1",
    b" ",
]


def tables() -> list[bytes]:
    """Return small tables of several dialects to begin with."""
    rng = random.Random(0)
    rows = [(rng.gauss(0, 1), rng.randint(0, 9), rng.choice("xyz")) for _ in range(40)]
    comma = "\n".join(["size,count,kind", *(f"{a:.3f},{b},{c}" for a, b, c in rows)])
    quoted = "\r\n".join(['"size";"count";"kind"', *(f'"{a:.3f}";"{b}";"{c}"' for a, b, c in rows)])
    bare = "\n".join(f"{a:.2f}\t{b}\t{c}" for a, b, c in rows)
    lines = "\n".join(f'{{"size": {a:.2f}, "count": {b}, "kind": "{c}"}}' for a, b, c in rows)
    return [t.encode() for t in (comma, quoted, quoted.replace(".", ","), bare, lines)]


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Return a table with one to four damages."""
    for _ in range(rng.randint(1, 4)):
        at, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
        part = data[at : min(end, at + 30)]
        match rng.randrange(6):
            case 0:
                data = data[:at] + rng.choice(WORDS) + data[at:]
            case 1:
                data = data[:at] + data[at + len(part) :]
            case 2:
                data = data[:at] + part * rng.randint(2, 5) + data[at + len(part) :]
            case 3:
                data = data[: max(1, end)]
            case 4:
                data = data.replace(
                    rng.choice([*WORDS[9:11], b",", b"\n"]), rng.choice(WORDS), rng.randint(1, 9)
                )
            case _:
                data = bytes(rng.randrange(256) if rng.random() < 0.01 else b for b in data)
        data = data or b","
    return data


def named(path: Path, refusal: ConfigError) -> None:
    assert str(path) in str(refusal)


def look(folder: Path, seed: int) -> None:
    rng = random.Random(seed)
    path = folder / rng.choice(["t.csv", "t.tsv", "t.jsonl", "t"])
    path.write_bytes(damaged(rng.choice(tables()), rng))
    try:
        file = read_table(path, rng.choice([None, "kind"]))
        column = label_column(file, "-1")
        label_texts(file.table[column])
        found = features(file.table.drop_columns([column]))
    except ConfigError as refusal:
        named(path, refusal)
        return
    told = " ".join(found.notes)
    for name in file.table.column_names:
        assert name == column or name in found.columns or name in found.unused or repr(name) in told


@pytest.mark.parametrize("start", range(0, 400, 100))
def test_damaged_tables_are_read_or_refused(tmp_path: Path, start: int) -> None:
    for seed in range(start, start + 100):
        look(tmp_path, seed)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ten_thousand_damaged_tables_are_read_or_refused(tmp_path: Path) -> None:
    for seed in range(1_000, 11_000):
        look(tmp_path, seed)


@pytest.mark.parametrize("seed", range(20))
def test_stream_of_a_damaged_table_is_made_or_refused(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    data = b"\n".join([b"size,count,kind", *(tables()[0].split(b"\n")[1:] * 20)])
    path = tmp_path / "t.csv"
    path.write_bytes(damaged(data, rng))
    try:
        stream = csv_stream(path, "kind")
    except ConfigError as refusal:
        named(path, refusal)
    else:
        assert len(stream) > 0
