"""`undrift tune` and `undrift replay` by job: what they find comes back to where it is asked."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.helpers.support import eventually
from tests.helpers.tuning import LAG, project, turning
from tests.ray.guest import Cluster
from tests.ray.running import UNDRIFT, environment, free_port, one_error, undrift

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]
DATA = ("--data", "t.csv", "--label", "y", "--lag", str(LAG), "--pace", "200", "--delay", "0.5")
SEARCH = ("--trials", "1", "--seeds", "1", "--held-out", "0.25", "--parallel", "2")
MODE = ("--set", "lifecycle.min_regime_rows=choice(250)", "--set", "train.steps=choice(99)")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A configuration that never gets to a retraining, and a file whose labels turn round."""
    path = project(tmp_path)
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    data["lifecycle"] |= {"retrain_when": "worse", "min_regime_rows": 100_000}
    data["serve"] = {"answer": "model"}
    path.write_text(f"# mine\n{yaml.safe_dump(data)}", encoding="utf-8")
    live = turning().live
    lines = [
        f"{a:.5f},{b:.5f},{('no', 'yes')[y]}" for (a, b), y in zip(live.x, live.y, strict=True)
    ]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,y", *lines]) + "\n", encoding="utf-8")
    return tmp_path


def test_settings_found_elsewhere_are_written_here(folder: Path, cluster: Cluster) -> None:
    at = ("--submit", "--address", cluster.dashboard)
    done = cluster.undrift("tune", *DATA, *SEARCH, *MODE, *at, "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["verdict"] == "better"
    tuned = folder / "undrift.tuned.yaml"
    assert found["written"] == str(tuned)
    assert found["config"] == str(folder / "undrift.yaml")
    assert "# mine" in tuned.read_text(encoding="utf-8")  # it is the file here that was edited
    assert yaml.safe_load(tuned.read_text(encoding="utf-8"))["train"]["steps"] == 99
    assert "undrift-result" not in done.stderr
    assert {p.name for p in folder.iterdir() if p.suffix == ".plays"} == set()


def test_replay_elsewhere_finds_what_it_finds_here(folder: Path, cluster: Cluster) -> None:
    here = json.loads(undrift("replay", *DATA, "--json", cwd=folder).stdout)
    job = interrupted(cluster, folder, "replay", *DATA, "--plot", "p.svg")
    assert not (folder / "p.svg").exists()
    at = ("--submit", "--address", cluster.dashboard, "--job", job)
    done = cluster.undrift("replay", *DATA, *at, "--plot", "p.svg", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for told in (here, found):
        for name in ("replay_s", "rows_per_s", "training_s"):
            del told["totals"][name]
    assert here == found
    assert any(entry["kind"] == "drift" for entry in found["timeline"])
    assert "</svg>" in (folder / "p.svg").read_text(encoding="utf-8")
    told = cluster.undrift("replay", *DATA, *at, cwd=folder)
    assert "drift" in told.stdout


def interrupted(cluster: Cluster, folder: Path, *arguments: str) -> str:
    """Submit, press Ctrl-C when the cluster has the job, and return its name."""
    child = subprocess.Popen(
        [*UNDRIFT, *arguments, "--submit", "--address", cluster.dashboard],
        cwd=folder,
        env={**environment(), "RAY_AUTH_TOKEN": cluster.environment["RAY_AUTH_TOKEN"]},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert child.stderr is not None
    with child.stderr:
        said = ""
        while "\njob raysubmit" not in said:
            line = child.stderr.readline()
            assert line, said
            said += line
        os.kill(child.pid, signal.SIGINT)
        said += child.stderr.read()
    assert child.wait() == 130
    last = said.strip().splitlines()[-1]
    assert "goes on; look at it with `ray job logs" in last
    assert "brings its result" in last
    return last.split()[1]


def test_what_fails_elsewhere_is_one_message(folder: Path, cluster: Cluster) -> None:
    at = ("--submit", "--address", cluster.dashboard)
    path = folder / "t.csv"
    path.write_text(path.read_text(encoding="utf-8").replace("yes", "perhaps"), encoding="utf-8")
    done = cluster.undrift("replay", *DATA, *at, cwd=folder)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "'perhaps'; the model's classes are no, yes" in done.stderr.splitlines()[-1]
    one_error(done.stderr.splitlines()[-1], "job raysubmit_", " failed: ")


@pytest.mark.parametrize(
    ("verb", "other"),
    [("tune", "replay"), pytest.param("replay", "tune", marks=pytest.mark.slow)],
)
def test_what_can_be_told_before_a_job_is(
    verb: str, other: str, folder: Path, cluster: Cluster
) -> None:
    at = ("--submit", "--address", cluster.dashboard)
    done = cluster.undrift(verb, *DATA, *at, cwd=folder, RAY_AUTH_TOKEN="0" * 64)
    one_error(done.stderr, "refused the token")
    nobody = f"http://127.0.0.1:{free_port()}"
    done = cluster.undrift(other, *DATA, "--submit", "--address", nobody, cwd=folder)
    one_error(done.stderr, f"no Ray dashboard answers at {nobody}")
    done = cluster.undrift(verb, *at, cwd=folder)
    one_error(done.stderr, "state: expected an absolute path", "--state=/mnt/undrift")
    done = cluster.undrift(other, *DATA, "--job", "raysubmit_none", *at, cwd=folder)
    one_error(done.stderr, "raysubmit_none")
    eventually(lambda: cluster.foreign() == "still here")
