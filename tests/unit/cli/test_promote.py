"""`undrift promote --weights`, with a server in the platform's place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from tests.helpers.support import ModelServer
from tests.unit.cli.test_verbs import RUNNING, STATUS, change, ended, run
from tests.unit.cli.test_verbs import folder as folder
from tests.unit.cli.test_verbs import starter as starter
from undrift.cli.views import in_bytes
from undrift.jobs.submit import Jobs


@pytest.mark.thorough
def test_promote_sends_weights_and_waits_for_what_comes_of_them(folder: Path) -> None:
    begun = {**STATUS, "phase": "retraining", "run": {**RUNNING, "trigger": "weights"}}
    weights = folder / "weights.safetensors"
    with ModelServer() as server:
        change(folder, "serve", port=server.port)
        path = f"weights?origin={weights.name}"
        server.sequences = {
            path: [(200, json.dumps(begun).encode())],
            "status": [(200, json.dumps(ended("failed")).encode())],
        }
        result = run("promote", "--weights", str(weights), "--json")
        assert (result.exit_code, json.loads(result.stdout)["text"]) == (1, "version 3: why")
        assert run("promote", "--weights", str(weights), "--no-wait").exit_code == 0
        assert run("promote", "--weights", str(folder / "reference.npz")).exit_code == 1
        small = {name: tensor[:2] for name, tensor in load_file(weights).items()}
        save_file(small, folder / "small.safetensors")
        refused = run("promote", "--weights", str(folder / "small.safetensors"))
        assert "0.weight has shape [2, 2], not [64, 2]" in refused.stderr
    sent = [(path.rpartition("/")[2], body) for _, path, body, _ in server.seen]
    assert sent == [(path, weights.read_bytes()), ("status", None), (path, weights.read_bytes())]


class Cluster:
    """A cluster that takes a job and keeps what travelled with it."""

    def __init__(self) -> None:
        self.verb, self.files = "", dict[str, bytes]()
        self.package, self.refuses = 0, False

    def submit_job(self, entrypoint: str, runtime_env: dict[str, Any]) -> str:
        if self.refuses:
            raise RuntimeError("no space left")
        modules = [Path(module) for module in runtime_env["py_modules"]]
        parts = [path for module in modules for path in module.rglob("*") if path.is_file()]
        self.package = sum(path.stat().st_size for path in parts)
        there = Path(runtime_env["working_dir"])
        self.verb = entrypoint.partition("undrift.cli ")[2]
        self.files = {
            str(path.relative_to(there)): path.read_bytes()
            for path in there.rglob("*")
            if path.is_file()
        }
        return "job-1"


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    found = Cluster()
    monkeypatch.setattr(
        Jobs, "__init__", lambda jobs, _: vars(jobs).update(_client=found, address="x")
    )
    return found


@pytest.mark.thorough
def test_promote_by_job_takes_the_weights_along_and_looks_at_them_first(
    folder: Path, cluster: Cluster
) -> None:
    at = ("--submit", "--address", "http://head:8265", "--set", "state=/mnt/x", "--no-wait")
    (folder / "new weights").mkdir()
    weights = folder / "new weights" / "model.safetensors"
    state = load_file(folder / "weights.safetensors")
    save_file({name: tensor + 1 for name, tensor in state.items()}, weights)
    done = run("promote", "--weights", str(weights.parent), *at, "--json")
    told = json.loads(done.stdout)
    assert (done.exit_code, told["job"]) == (0, "job-1"), done.stderr
    assert told["travelled"] == {
        "project_files": len(cluster.files),
        "project_bytes": sum(map(len, cluster.files.values())),
        "package_bytes": cluster.package,
    }
    files, size = len(cluster.files), in_bytes(told["travelled"]["project_bytes"])
    assert f"the project, {files} files of {size}, and undrift, " in done.stderr
    assert cluster.verb == "promote --weights=brought/new-weights"
    assert cluster.files["brought/new-weights"] == weights.read_bytes()
    assert cluster.files["weights.safetensors"] == (folder / "weights.safetensors").read_bytes()
    assert run("promote", "7", *at).exit_code == 0
    assert cluster.verb == "promote 7 --strategy=now"
    assert run("promote", "7", "--strategy", "canary", *at).exit_code == 0
    assert cluster.verb == "promote 7 --strategy=canary"
    cluster.refuses = True
    refused = run("promote", "7", *at)
    assert (refused.exit_code, "what travels: " in refused.stderr) == (1, True)
    cluster.refuses = False
    assert not [name for name in cluster.files if name.startswith("brought/")]
    cluster.verb = ""
    save_file({"other": state["0.weight"]}, weights)
    refused = run("promote", "--weights", str(weights), *at)
    assert (refused.exit_code, cluster.verb) == (1, "")
    assert "0.weight is missing" in refused.stderr


@pytest.mark.parametrize("at", [(), ("--submit", "--address", "http://head:8265")])
def test_weights_take_no_strategy_but_the_configured_stages(
    folder: Path, at: tuple[str, ...]
) -> None:
    weights = str(folder / "weights.safetensors")
    refused = run("promote", "--weights", weights, "--strategy", "canary", *at)
    assert refused.exit_code == 2
    assert "--strategy is for a stored version" in refused.stderr
