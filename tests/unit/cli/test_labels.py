"""`undrift labels import` against a server that speaks the real protocol."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from tests.helpers.support import ModelServer
from tests.helpers.tuning import project
from undrift.cli import labels as verb
from undrift.cli.verbs import app

BUSY = (503, b'{"error": "too much"}')


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    with ModelServer() as server:
        monkeypatch.setenv("UNDRIFT_CONFIG", str(project(tmp_path)))
        monkeypatch.setenv("UNDRIFT_URL", server.url)
        monkeypatch.setenv("COLUMNS", "300")
        yield server


def imported(tmp_path: Path, text: str, *arguments: str) -> Result:
    path = tmp_path / "late.csv"
    path.write_text(text)
    return CliRunner().invoke(app, ["labels", "import", str(path), *arguments])


def test_labels_of_a_file_are_handed_in_and_counted(tmp_path: Path, server: ModelServer) -> None:
    result = imported(tmp_path, "id,label\nx,b\ny,\nz,2\n")
    assert result.exit_code == 0, result.output
    assert "stored 2 labels of 3 rows" in result.stdout
    assert "1 rows have no label yet" in result.stdout
    assert server.seen[-1][2] == [{"id": "x", "label": "b"}, {"id": "z", "label": 2}]


def test_other_column_names(tmp_path: Path, server: ModelServer) -> None:
    text = "order,outcome,known\nx,b,12.5\n"
    result = imported(tmp_path, text, "--id=order", "--label=outcome", "--time=known")
    assert result.exit_code == 0, result.output
    assert server.seen[-1][2] == [{"id": "x", "label": "b", "timestamp": 12.5}]


def test_rejected_rows_are_named_and_the_others_stored(tmp_path: Path, server: ModelServer) -> None:
    result = imported(tmp_path, "id,label\nx,b\ny,nothing\n,a\n", "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert (told["accepted"], told["rows"]) == (1, 3)
    assert [item["row"] for item in told["rejected"]] == [2, 3]


def test_rows_are_named_when_all_are_rejected(
    tmp_path: Path, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verb, "LABELS_AT_ONCE", 2)
    result = imported(tmp_path, "id,label\nx,nothing\ny,none\nz,7\n")
    assert result.exit_code == 1
    assert "stored 0 labels of 3 rows" in result.stdout
    for row, got in ((1, "'nothing'"), (2, "'none'"), (3, "7")):
        assert f"late.csv, row {row}: 'label' must be a class index" in result.stdout
        assert f"got {got}" in result.stdout


def test_parts_are_as_large_as_the_platform_takes(
    tmp_path: Path, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verb, "LABELS_AT_ONCE", 4)
    result = imported(tmp_path, "id,label\n" + "".join(f"r{i},a\n" for i in range(10)))
    assert result.exit_code == 0, result.output
    assert [len(body) for _, _, body, _ in server.seen] == [4, 4, 2]


def test_a_busy_platform_is_waited_for(tmp_path: Path, server: ModelServer) -> None:
    server.sequences["feedback"] = [BUSY, BUSY, (200, b'{"accepted": 1, "rejected": []}')]
    server.retry_after = "0"
    result = imported(tmp_path, "id,label\nx,b\n")
    assert result.exit_code == 0, result.output
    assert len(server.seen) == 3


def test_what_is_stored_already_is_told_when_it_breaks_off(
    tmp_path: Path, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verb, "LABELS_AT_ONCE", 2)
    server.sequences["feedback"] = [
        (200, b'{"accepted": 2, "rejected": []}'),
        (500, b'{"error": "no"}'),
    ]
    result = imported(tmp_path, "id,label\nx,a\ny,a\nz,a\n")
    assert result.exit_code == 1
    assert "its first 2 rows are stored" in result.stderr
    assert "Traceback" not in result.output


def test_a_platform_that_stays_busy_is_told(
    tmp_path: Path, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verb, "PATIENCE_S", 0.0)
    server.sequences["feedback"] = [BUSY]
    server.retry_after = "1"
    result = imported(tmp_path, "id,label\nx,b\n")
    assert result.exit_code == 1
    assert "too much" in result.stderr


def test_a_file_that_is_not_there_is_a_mistake_of_use(tmp_path: Path, server: ModelServer) -> None:
    result = CliRunner().invoke(app, ["labels", "import", str(tmp_path / "none.csv")])
    assert result.exit_code == 2
    assert "does not exist" in result.stderr
