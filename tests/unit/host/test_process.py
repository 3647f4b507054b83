"""The record of a running platform, and its token."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from undrift.errors import PlatformError, StoreError, UndriftError
from undrift.host.process import ProcessFile, process_start
from undrift.store.bucket import Bucket
from undrift.store.lease import holder_of


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


@pytest.mark.parametrize(
    ("left", "mode", "told"),
    [
        (b"", 0o600, "token is empty; remove it"),
        (b" \n", 0o600, "token is empty; remove it"),
        (b"secret", 0o604, "anybody may read .*chmod 600"),
        (b"\xff", 0o600, "cannot read .*token"),
    ],
)
@pytest.mark.parametrize("create", [False, True])
def test_token_file_that_is_no_secret_is_refused(
    tmp_path: Path, left: bytes, mode: int, told: str, create: bool
) -> None:
    path = tmp_path / "token"
    path.write_bytes(left)
    path.chmod(mode)
    with pytest.raises(UndriftError, match=told):
        ProcessFile(tmp_path).token(create=create)
    assert path.read_bytes() == left


def test_files_that_cannot_be_read_or_written_are_named(tmp_path: Path) -> None:
    for name in ("token", "run.json", "run.lock"):
        (tmp_path / name).mkdir()
    runfile = ProcessFile(tmp_path)
    with pytest.raises(StoreError, match=r"cannot read .*token"):
        runfile.token()
    with pytest.raises(StoreError, match=r"cannot read .*run\.json: Is a directory"):
        runfile.running()
    runfile.path.rmdir()
    with pytest.raises(StoreError, match=r"cannot lock .*run\.lock: Is a directory"):
        runfile.claim()


def test_token_is_there_as_a_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match=r"cannot write .*token: No space left"):
            ProcessFile(tmp_path).token(create=True)
    assert not list(tmp_path.iterdir())


def test_state_folder_is_for_its_owner_alone(tmp_path: Path) -> None:
    runfile = ProcessFile(tmp_path / "a" / "state")
    runfile.make_folder()
    assert runfile.state.stat().st_mode & 0o777 == 0o700
    runfile.state.chmod(0o777)
    with pytest.raises(PlatformError, match=r"anybody may write to .*state; run: chmod o-w"):
        runfile.claim()


def test_second_start_is_refused_before_the_first_has_left_a_record(tmp_path: Path) -> None:
    first, second = ProcessFile(tmp_path), ProcessFile(tmp_path)
    first.lock()
    first.lock()
    with pytest.raises(PlatformError, match="another process starts, or runs on another machine"):
        second.claim()
    assert not second.path.exists()
    first.release()
    second.claim()
    assert second.path.exists()


def test_lock_ends_with_its_process(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, sys; from undrift.host.process import ProcessFile;"
        "ProcessFile(pathlib.Path(sys.argv[1])).claim(); os._exit(9)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)]) as child:
        assert child.wait() == 9
    ProcessFile(tmp_path).claim()


def test_lock_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "run.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="cannot lock"):
        ProcessFile(tmp_path).lock()
    assert not (tmp_path / "elsewhere").exists()


def writable(path: Path) -> None:
    path.chmod(0o666)


def linked(path: Path) -> None:
    path.symlink_to(path.rename(path.with_name("other")))


def another_users(path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(path, os.getuid() + 1, -1)


def gone(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("change", [writable, linked, another_users, gone])
def test_record_that_another_may_have_written_is_not_ours(
    tmp_path: Path, change: Callable[[Path], object]
) -> None:
    runfile = ProcessFile(tmp_path)
    runfile.claim("http://x")
    assert runfile.is_ours()
    change(runfile.path)
    assert not runfile.is_ours()


def test_state_in_a_bucket_has_a_lease_and_the_rest_lies_on_this_machine(
    bucket: Bucket, tmp_path: Path
) -> None:
    runfile = ProcessFile(tmp_path / "a" / "b", bucket)
    runfile.claim("http://x")
    assert holder_of(bucket).startswith(f"process {os.getpid()} on ")
    assert runfile.token(create=True)
    assert sorted(path.name for path in runfile.folder.iterdir()) == ["run.json", "token"]
    assert runfile.folder.stat().st_mode & 0o777 == 0o700
    assert list(bucket.sizes()) == ["lease.json"]
    assert isinstance(runfile.state, Bucket)
    assert runfile.state.held is not None
    other = ProcessFile(tmp_path / "c", bucket)
    with pytest.raises(PlatformError, match=rf"process {os.getpid()} on .* already runs on s3://"):
        other.claim()
    assert runfile.owner() == f"process {os.getpid()}"
    assert other.owner().startswith(f"process {os.getpid()} on ")
    runfile.release()
    assert holder_of(bucket) == runfile.owner() == ""
    other.claim()
    other.release()


def test_lease_of_a_cluster_outlives_the_process_that_took_it(
    bucket: Bucket, tmp_path: Path
) -> None:
    def process(session: str) -> ProcessFile:
        runfile = ProcessFile(tmp_path / "here", bucket)
        runfile.session = session
        return runfile

    for _ in range(2):  # an update takes no new term
        runfile = process("one")
        runfile.lock("head:6379")
        assert isinstance(runfile.state, Bucket)
        assert runfile.state.held is not None
        assert runfile.state.held.epoch == 1
        runfile.unlock()
    assert holder_of(bucket) == "the Ray cluster at head:6379 (one)"
    process("two").release("head:6379")
    assert holder_of(bucket) != ""
    process("one").release("head:6379")
    assert holder_of(bucket) == ""


def test_bucket_that_will_not_do_is_told_before_anything_is_written(
    bucket: Bucket, tmp_path: Path
) -> None:
    with pytest.raises(StoreError, match="there is no such bucket"):
        ProcessFile(tmp_path / "here", Bucket("s3://nobodys/state")).claim()


def test_folder_of_the_machine_takes_the_token_but_neither_record_nor_lock(tmp_path: Path) -> None:
    runfile = ProcessFile(tmp_path / "here", tmp_path / "state")
    runfile.claim()
    runfile.token(create=True)
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["token"]
    with pytest.raises(PlatformError, match="another process starts"):
        ProcessFile(tmp_path / "there", tmp_path / "state").claim()
