"""The entry point of a job, where there is nothing for it to do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from undrift.train.desk import ORDER_FILE


@pytest.mark.thorough
def test_cluster_that_does_not_see_the_state_says_so_and_makes_none(tmp_path: Path) -> None:
    state = tmp_path / "state" / "models" / "m"
    (tmp_path / ORDER_FILE).write_text(json.dumps({"state": str(state)}), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "undrift.train.job", "run-1", "undrift-m-run-1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: this cluster does not see run-1 in {state}: let `state`")
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == [ORDER_FILE]
