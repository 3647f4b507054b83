"""`undrift promote --weights`, with a server in the platform's place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.helpers.support import ModelServer
from tests.unit.cli.test_verbs import RUNNING, STATUS, change, ended, run
from tests.unit.cli.test_verbs import folder as folder
from tests.unit.cli.test_verbs import starter as starter


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
