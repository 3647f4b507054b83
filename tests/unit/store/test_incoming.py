"""Weights on their way into the state: whole, under their hash, or not at all."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from undrift.errors import StoreError
from undrift.store.bucket import Bucket
from undrift.store.incoming import Incoming


def bring(incoming: Incoming, data: bytes) -> str:
    with incoming.draft() as draft:
        draft.write(data)
        return draft.keep()


def names(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "incoming").iterdir())


def test_file_is_kept_under_its_hash_and_the_same_file_once(tmp_path: Path) -> None:
    incoming = Incoming(tmp_path)
    digest = bring(incoming, b"weights")
    assert digest == bring(incoming, b"weights") == hashlib.sha256(b"weights").hexdigest()
    assert incoming.path(digest).read_bytes() == b"weights"
    assert len(names(tmp_path)) == 1


def test_draft_that_is_not_kept_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> None:
        with Incoming(tmp_path).draft() as draft:
            draft.write(b"half")
            raise OSError("the caller hung up")

    with pytest.raises(OSError, match="hung up"):
        broken()
    assert names(tmp_path) == []


def test_draft_goes_when_its_writer_was_killed_and_not_before(tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib; from undrift.store.incoming import Incoming; "
        "d = Incoming(pathlib.Path(sys.argv[1])).draft(); d.write(b'half'); d.flush(); "
        "print('written', flush=True); time.sleep(60)"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "written\n"
    incoming = Incoming(tmp_path)
    incoming.remove_others(())
    assert len(names(tmp_path)) == 1
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    incoming.remove_others(())
    assert names(tmp_path) == []


def test_others_are_forgotten(tmp_path: Path) -> None:
    incoming = Incoming(tmp_path)
    first, second = bring(incoming, b"first"), bring(incoming, b"second")
    incoming.remove_others({second})
    assert incoming.path(second)
    with pytest.raises(StoreError, match="bring them again"):
        incoming.path(first)


@pytest.mark.parametrize("name", ["../../token", "", "A" * 64])
def test_name_that_is_no_hash_is_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="no SHA-256"):
        Incoming(tmp_path).path(name)


def test_in_a_bucket_what_one_machine_brought_another_reads(bucket: Bucket, tmp_path: Path) -> None:
    here, there = (Incoming(Bucket(str(bucket), tmp_path / name)) for name in ("a", "b"))
    digest, other = bring(here, b"weights"), bring(here, b"others")
    assert names(tmp_path / "a") == [], "no draft is left on the machine"
    assert there.path(digest).read_bytes() == b"weights"
    there.remove_others([other])
    with pytest.raises(StoreError, match="bring them again"):
        here.path(digest)
    assert here.path(other).read_bytes() == b"others"
    there.remove(other)
    assert (bucket / "incoming").names() == []
