"""`undrift tune` as a user runs it: it finds what helps, survives being stopped, leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.support import eventually
from tests.helpers.tuning import LAG, project, turning
from tests.ray.running import UNDRIFT, alive, environment, undrift
from undrift.config import load_config

pytestmark = [pytest.mark.ray, pytest.mark.slow]
SEARCH = ("--data", "t.csv", "--label", "y", "--lag", str(LAG), "--pace", "200", "--delay", "0.5")
SMALL = ("--trials", "3", "--seeds", "2", "--parallel", "2", "--held-out", "0.25")
MODE = ("--set", "lifecycle.min_regime_rows=randint(240, 260)", "--set", "train.steps=choice(99)")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A configuration that never gets to a retraining, and a file whose labels turn round.

    The model answers alone: heads beside it would learn a turn this simple at once.
    """
    path = project(tmp_path)
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    data["lifecycle"] |= {"retrain_when": "worse", "min_regime_rows": 100_000}
    data["serve"] = {**data.get("serve", {}), "answer": "model"}
    path.write_text(f"# mine\n{yaml.safe_dump(data)}", encoding="utf-8")
    live = turning().live
    lines = [
        f"{a:.5f},{b:.5f},{('no', 'yes')[y]}" for (a, b), y in zip(live.x, live.y, strict=True)
    ]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,y", *lines]) + "\n", encoding="utf-8")
    return tmp_path


def plays(folder: Path) -> dict[str, int]:
    """Return when each remembered play was written."""
    return {p.name: p.stat().st_mtime_ns for p in folder.glob("undrift.tuned.plays/*.json")}


def tuned(folder: Path, *arguments: str) -> dict[str, Any]:
    done = undrift("tune", *SEARCH, *SMALL, "--json", *arguments, cwd=folder)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)  # and nothing else is printed
    return found


def test_settings_that_prove_better_are_written(folder: Path) -> None:
    found = tuned(folder, *MODE)
    assert found["verdict"] == "better"
    assert min(found["gains"]) > 0.3
    assert len(found["trials"]) == 3
    out = folder / "undrift.tuned.yaml"
    assert found["written"] == str(out)
    assert "# mine" in out.read_text(encoding="utf-8")
    assert load_config(out).lifecycle.min_regime_rows in range(240, 260)

    before = plays(folder)
    again = tuned(folder, *MODE)
    assert again == found
    assert plays(folder) == before  # everything was remembered


def test_settings_that_are_no_better_are_not_written_unless_forced(folder: Path) -> None:
    useless = ("--set", "monitor.label_lag_rows=choice(9000)")
    found = tuned(folder, *useless)
    assert found["verdict"] == "worse"
    assert found["written"] is None
    assert not (folder / "undrift.tuned.yaml").exists()
    assert tuned(folder, *useless, "--force")["written"]


def test_interrupted_search_leaves_no_process_and_goes_on_where_it_was(folder: Path) -> None:
    command = [*UNDRIFT, "tune", *SEARCH, *SMALL, *MODE, "--json"]
    with (folder / "out").open("w") as log:
        child = subprocess.Popen(
            command,
            cwd=folder,
            env=environment(),
            stdout=log,
            stderr=log,
            start_new_session=True,
            # A shell may have made its background jobs deaf to it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        eventually(lambda: plays(folder), 180)
        os.killpg(child.pid, signal.SIGINT)
        assert child.wait(60) == 130
    eventually(lambda: not alive(child.pid), 60)
    before = plays(folder)
    assert tuned(folder, *MODE)["verdict"] == "better"
    after = plays(folder)
    assert before.items() <= after.items()
    assert len(after) > len(before)
