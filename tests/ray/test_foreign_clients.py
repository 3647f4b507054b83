"""Clients of other servers, unchanged, in environments of their own: `make clients`.

KServe's wants older protobuf and pandas than we are tested with, MLServer an older fastapi.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.ray.running import MODEL, Running, environment

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("same_replicas")]

ROOT = Path(__file__).parents[2]
X = np.random.default_rng(3).uniform(-1, 1, (4, 2)).astype(np.float32)


def asked_by(name: str, platform: Running) -> dict[str, Any]:
    """Return what one client tells of the platform's answers to ``X``."""
    python = ROOT / "build" / "clients" / name / "bin" / "python"
    script = ROOT / "tests" / "foreign" / f"{name}_client.py"
    kept = {k: v for k, v in environment().items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [python, script, platform.url, MODEL, json.dumps(X.tolist())],
        env=kept,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def same(answers: list[dict[str, Any]], platform: Running) -> None:
    """Check that each answer is what our own client gets."""
    ours = platform.client.infer(X)
    names = [("red", "green", "blue")[i] for i in ours.label]
    for answer in answers:
        assert answer["model"] == MODEL
        outputs = answer["outputs"]
        assert outputs["label"] == ours.label.tolist()
        assert outputs.get("class", names) == names
        p = outputs.get("probabilities", ours.output)
        np.testing.assert_allclose(p, ours.output, atol=1e-6)


def test_kserve(platform: Running) -> None:
    told = asked_by("kserve", platform)
    assert [told[f] for f in ("live", "ready", "model_ready", "other_ready")] == [True] * 3 + [
        False
    ]
    same(told["answers"], platform)
    assert [len(a["outputs"]) for a in told["answers"]] == [3, 2, 3, 2]
    assert {a["id"] for a in told["answers"]} == {"kserve-1"}
    status, text = told["refused"]
    assert status == 400
    assert "number 0 of 'data', 16777217, would become 16777216" in text


def test_mlserver(platform: Running) -> None:
    told = asked_by("mlserver", platform)
    assert (told["server"], told["inputs"]) == ("undrift", ["input"])
    same(told["answers"], platform)
    assert [len(a["outputs"]) for a in told["answers"]] == [3, 3, 3, 3, 1, 1]
    assert len({a["id"] for a in told["answers"]}) == 5
