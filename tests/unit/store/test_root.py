from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tests.helpers.rows import predictions
from undrift.errors import StoreError
from undrift.store.blobs import Blobs
from undrift.store.files import write_file
from undrift.store.journal import Journal
from undrift.store.place import Where, place
from undrift.store.record import Record
from undrift.store.root import FORMAT, FORMAT_DROPPED, check_layout
from undrift.store.store import Store


@pytest.fixture
def read_only() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o555)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)  # to the superuser no directory is read-only
        try:
            yield Path(name)
        finally:
            os.seteuid(user)
            Path(name).chmod(0o755)


def test_missing_directories_are_created(tmp_path: Path) -> None:
    Store(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b" / "store.json").is_file()


def test_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="is a file; name another place"):
        Store(tmp_path / "file")
    with pytest.raises(StoreError, match="Not a directory"):
        Store(tmp_path / "file" / "below")


def test_read_only_directory_is_refused(read_only: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot create the state directory .* Permission denied"):
        Store(read_only)


def test_state_of_before_is_refused_with_the_command_that_mends_it(tmp_path: Path) -> None:
    state = tmp_path / "my state"
    Store(state).compact()
    for name in ("tables", "training"):
        (state / name).mkdir(exist_ok=True)
    (state / "token").write_text("secret")
    model = state / "models" / "m"
    with pytest.raises(StoreError, match="before each model had a folder of its own") as caught:
        check_layout(state, model)
    (line,) = str(caught.value).splitlines()
    subprocess.run(line[line.index("cd ") :], shell=True, check=True)
    check_layout(state, model)
    Store(model, read_only=True)
    assert sorted(p.name for p in state.iterdir()) == ["models", "token"]


def test_folder_of_a_model_is_no_state_folder(tmp_path: Path) -> None:
    model = tmp_path / "state" / "models" / "m"
    Store(model)
    check_layout(tmp_path / "state", model)
    with pytest.raises(StoreError, match=r"is the folder of one model; name .*/state$"):
        check_layout(model, model / "models" / "m")


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (FORMAT_DROPPED + 1, "a newer release .* upgrade undrift"),
        (FORMAT - 1, "an older release .* install that undrift"),
    ],
)
def test_another_format_is_refused_with_a_remedy(root: Where, number: int, told: str) -> None:
    (place(root) / "store.json").write(json.dumps({"format": number}).encode())
    with pytest.raises(StoreError, match=told):
        Record(root)


@pytest.mark.parametrize("what", ["rows", "events", "nothing"])
def test_state_that_dropped_something_is_of_a_format_that_older_releases_refuse(
    root: Where, what: str
) -> None:
    record, journal, marker = Record(root), Journal(root), place(root) / "store.json"
    for seq in range(1, 4):
        record.append_predictions(seq, predictions(np.zeros((2, 1)), first=2 * seq))
        journal.append({"type": "Tick", "at": 1.0}, at=1.0)
    assert json.loads(marker.read()) == {"format": FORMAT}
    dropped = journal if what == "events" else record
    dropped.drop_before(0 if what == "nothing" else 2)
    expected = FORMAT if what == "nothing" else FORMAT_DROPPED
    assert json.loads(marker.read()) == {"format": expected}
    assert (Record(root).first_row(), Journal(root).first()) == {
        "rows": (4, 0),
        "events": (2, 2),
        "nothing": (2, 0),
    }[what]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "one"}'])
def test_damaged_format_file_is_named(root: Where, text: str) -> None:
    (place(root) / "store.json").write(text.encode())
    with pytest.raises(StoreError, match=r"store\.json is damaged"):
        Record(root)


def test_blob_comes_back_as_it_went_in(root: Where) -> None:
    arrays = {
        "file": np.arange(3),
        "meta": np.array([0.1, np.nan]),
        "ids": np.array(["a", "bc"]),
        "none": np.empty((0, 4), dtype=np.float32),
    }
    Blobs(root).save("monitor", arrays, {"row": 3, "nested": {"x": [1.5, None]}})
    loaded = Blobs(root).load("monitor")
    assert loaded is not None
    assert loaded[1] == {"row": 3, "nested": {"x": [1.5, None]}}
    assert set(loaded[0]) == set(arrays)
    for name, array in arrays.items():
        assert_array_equal(loaded[0][name], array)
        assert loaded[0][name].dtype == array.dtype


def test_blob_never_saved_is_none(root: Where) -> None:
    assert Blobs(root).load("monitor") is None


def test_crash_while_replacing_a_blob_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Blobs(tmp_path).save("monitor", {}, {"row": 1})
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", _killed)
        with pytest.raises(KeyboardInterrupt):
            Blobs(tmp_path).save("monitor", {}, {"row": 2})
    assert Blobs(tmp_path).load("monitor") == ({}, {"row": 1})
    assert [p.name for p in (tmp_path / "blobs").iterdir()] == ["monitor.npz"]


@pytest.mark.parametrize("kept", [0, 10, 400])
def test_truncated_blob_is_damaged(root: Where, kept: int) -> None:
    Blobs(root).save("monitor", {"a": np.arange(100)}, {})
    blob = place(root) / "blobs" / "monitor.npz"
    blob.write(blob.read()[:kept])
    with pytest.raises(StoreError, match=r"monitor\.npz is damaged"):
        Blobs(root).load("monitor")


def test_pickle_in_a_blob_is_refused(root: Where) -> None:
    with pytest.raises(ValueError, match="Object arrays"):
        Blobs(root).save("monitor", {"a": np.array([{}])}, {})
    assert Blobs(root).load("monitor") is None


@pytest.mark.parametrize("name", ["", "../escape", "a/b", ".hidden"])
def test_blob_name_cannot_leave_its_directory(root: Where, name: str) -> None:
    with pytest.raises(StoreError, match="blob name"):
        Blobs(root).save(name, {}, {})


def test_interrupted_write_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file(tmp_path / "f", b"old")
    monkeypatch.setattr("os.fsync", _killed)
    with pytest.raises(KeyboardInterrupt):
        write_file(tmp_path / "f", b"new")
    assert (tmp_path / "f").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def _killed(*_: object) -> None:
    raise KeyboardInterrupt
