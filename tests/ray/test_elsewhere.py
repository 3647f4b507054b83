"""Weights that were trained elsewhere: sent by an operator, judged on late labels, swapped in."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.helpers.support import eventually
from tests.ray.running import Running, settled, undrift

pytestmark = pytest.mark.ray


def turn_the_labels(running: Running) -> None:
    """Ask and label, each class taken for the next one, until that is a drift; then some more."""
    data, left, sent = np.load(running.config.reference), 6, 0
    while left:
        index = np.arange(sent, sent + 100) % len(data["y"])
        answer = running.client.infer(data["x"][index], f"elsewhere-{sent}")
        labels = ((data["y"][index] + 1) % 3).tolist()
        assert running.client.feedback(answer.ids, labels)["rejected"] == []
        sent += 100
        assert sent < 20_000
        left -= running.client.status().phase == "drift"
    before = running.client.drift().rows
    eventually(lambda: running.client.drift().labelled, until=lambda n: n >= min(before, sent))


def test_weights_are_judged_swapped_in_and_the_same_ones_are_one_version(
    platform: Running, tmp_path: Path
) -> None:
    first = platform.client.status().live_version
    state = platform.store.state_dict(first)
    layer = {name for name, tensor in state.items() if len(tensor) == 3}
    turned = {k: t.roll(1, 0).contiguous() if k in layer else t for k, t in state.items()}
    shuffled = {k: t.roll(2, 0).contiguous() if k in layer else t for k, t in state.items()}
    for name, weights in {"good": turned, "bad": shuffled, "live": state}.items():
        save_file(weights, tmp_path / f"{name}.safetensors")

    def bring(name: str) -> str:
        """Bring weights; returns what the platform says came of it."""
        run = platform.client.bring(tmp_path / f"{name}.safetensors", name).run
        assert run is not None

        def told() -> list[str]:
            events = platform.client.events()
            own = [e for e in events if e.run_id == run.run_id]
            return [e.text for e in own if e.kind in ("failed", "promoted")]

        return eventually(told)[0]

    turn_the_labels(platform)
    assert "rejected" in bring("bad")
    assert bring("live").endswith(f"the weights of version {first}, which is live already")
    assert platform.client.status().live_version == first

    path = str(tmp_path / "good.safetensors")
    done = undrift("promote", "--weights", path, "--json", cwd=platform.path.parent)
    assert json.loads(done.stdout)["outcome"] == "promoted", done.stdout
    status = eventually(settled(platform, platform.client.status().live_version))
    made = platform.store.manifest(status.live_version)
    assert made.plan["origin"] == "good.safetensors"
    assert made.plan["weights"] == hashlib.sha256(Path(path).read_bytes()).hexdigest()
    assert made.metrics["gate"]["validation_accuracy_new"] > 0.8
    kept = platform.store.state_dict(made.version)
    assert all(torch.equal(kept[name], tensor) for name, tensor in turned.items())

    platform.client.promote(first)
    eventually(settled(platform, first))
    stored = len(platform.store.versions())
    assert "rejected" in bring("bad")
    assert len(platform.store.versions()) == stored
    assert list((platform.config.model_state / "incoming").iterdir()) == []
