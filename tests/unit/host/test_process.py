"""The record of a running platform, and its token."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from undrift.host.process import ProcessFile, process_start


def test_only_the_claimant_releases_its_record(tmp_path: Path) -> None:
    runfile = ProcessFile(tmp_path)
    runfile.claim("http://x")
    record = runfile.running()
    assert record is not None
    assert (record.pid, record.url) == (os.getpid(), "http://x")
    assert record.started == process_start(os.getpid())
    runfile.release()
    assert runfile.running() is None


def test_process_that_ended_has_no_start() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    assert process_start(child.pid) is None


def test_token_is_made_once_and_readable_by_its_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runfile = ProcessFile(tmp_path / "state")
    assert runfile.token() == ""
    token = runfile.token(create=True)
    assert len(token) >= 32
    assert runfile.token(create=True) == runfile.token() == token
    assert (tmp_path / "state" / "token").stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv("UNDRIFT_TOKEN", "other")
    assert runfile.token() == "other"


@pytest.mark.parametrize("left", ["", "\n", " \n"])
def test_empty_token_file_counts_as_none_and_is_written_anew(tmp_path: Path, left: str) -> None:
    (tmp_path / "token").write_text(left)
    runfile = ProcessFile(tmp_path)
    assert runfile.token() == ""
    assert len(runfile.token(create=True)) >= 32
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600


def test_token_is_there_as_a_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            ProcessFile(tmp_path).token(create=True)
    assert not list(tmp_path.iterdir())
