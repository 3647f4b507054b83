"""State folders that earlier releases wrote are read to the values that they were written with."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.helpers.golden import FOLDER, contents, make, recorded

RELEASES = sorted(path.name for path in FOLDER.iterdir() if path.is_dir())
MAX_BYTES = 450_000


@pytest.mark.parametrize("release", RELEASES)
def test_state_of_a_release_is_read_to_what_it_recorded(release: str, tmp_path: Path) -> None:
    state = tmp_path / "state"
    shutil.copytree(FOLDER / release, state)
    assert contents(state) == recorded(release)


@pytest.mark.parametrize("release", RELEASES)
def test_state_of_a_release_is_small(release: str) -> None:
    files = [path for path in (FOLDER / release).rglob("*") if path.is_file()]
    assert files
    assert sum(path.stat().st_size for path in files) < MAX_BYTES


def test_a_folder_made_anew_holds_the_same(tmp_path: Path) -> None:
    make(tmp_path / "state")
    assert contents(tmp_path / "state") == recorded(RELEASES[-1])


def test_no_folder_of_the_machine_that_made_it_is_named() -> None:
    logs = list(FOLDER.glob("*/tables/*/_delta_log/*.json"))
    assert logs
    assert not [p for p in logs if '"location"' in p.read_text(encoding="utf-8")]
