"""A real disk is full: each kind of file says so, loses nothing, goes on when there is space."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.store.test_power import Life
from undrift.errors import StoreError


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 2 MiB; only root can."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system is not allowed here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("kind", Life.KINDS)
def test_full_disk_refuses_clearly_and_all_goes_on_when_there_is_space(
    small: Path, kind: str, begun: bool
) -> None:
    life = Life(small / "m")
    if begun:
        life.do(kind)
    before = dict(life.done)
    with (small / "filler").open("wb", buffering=0) as filler:
        for size in (1 << 16, 1):
            try:
                while True:
                    filler.write(b"x" * size)
            except OSError:
                continue
    for _ in range(3):
        with pytest.raises(StoreError, match=r"cannot .*(No space left|os error 28)"):
            life.do(kind)
    assert life.found() == before
    (small / "filler").unlink()
    for other in (kind, *Life.KINDS):
        life.do(other)
    assert life.found() == life.done
    assert Life(small / "m").found() == life.done
