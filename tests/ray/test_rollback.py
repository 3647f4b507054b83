"""A promoted version that is worse on late labels is taken back without a hand."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.helpers.support import eventually
from tests.ray.running import Running, free_port, project, settled
from undrift.model.network import load_factory, load_weights
from undrift.train.scoring import score

pytestmark = pytest.mark.ray


@pytest.fixture
def automatic(starter: Path, tmp_path: Path) -> Iterator[Running]:
    """One replica, in automatic mode."""
    sections = {
        "serve": {"port": free_port(), "replicas": 1},
        "monitor": {"probation_labels": 200},
        "lifecycle": {"mode": "auto", "cooldown_s": 600.0},
    }
    running = Running(project(starter, tmp_path / "spirals", **sections))
    try:
        yield running.await_ready()
    finally:
        running.end(signal.SIGINT)
        running.kill_all()


def test_worse_version_is_rolled_back_and_an_operator_retrains_the_old_one(
    automatic: Running,
) -> None:
    client, store = automatic.client, automatic.store
    data = np.load(automatic.config.reference)
    x, y = data["x"], data["y"]
    sent = 0

    def ask(rows: int) -> int:
        """Ask and label some reference rows; returns the version that answered."""
        nonlocal sent
        index = np.arange(sent, sent + rows) % len(y)
        answer = client.infer(x[index], f"row-{sent}")
        told = client.feedback(answer.ids, y[index].tolist())
        assert told == {"accepted": rows, "rejected": []}
        sent += rows
        return answer.version

    for _ in range(10):
        assert ask(50) == 1
    state = {name: value.clone() for name, value in store.state_dict(1).items()}
    (bias,) = (name for name, value in state.items() if value.shape == (3,))
    state[bias] += torch.tensor([30.0, 0.0, 0.0])  # says the first class to all
    bad = store.add_version(
        state, parent=1, reference=store.reference(1), metrics={}, plan=None
    ).version
    client.promote(bad)
    eventually(settled(automatic, bad))
    assert client.status().phase == "probation"

    def taken_back() -> bool:
        ask(20)
        return client.status().live_version == 1

    eventually(taken_back, 60)
    eventually(settled(automatic, 1))
    status = client.status()
    assert status.phase == "cooldown"
    assert status.counts["rolled_back"] == 1
    asked = store.predictions()
    compared = asked.take((asked.formers >= 0) & (asked.version == bad))
    assert len(compared) >= 20, "the version before was asked beside it"
    at = np.array([int(i[4:].split(":")[0]) + int(i.split(":")[1]) for i in compared.ids])
    assert (compared.formers == y[at % len(y)]).mean() > 0.8
    assert (compared.answers == y[at % len(y)]).mean() < 0.6
    assert ask(20) == 1

    client.retrain(method="finetune", steps=50)
    eventually(lambda: len(store.versions()), 120, until=lambda seen: seen == 3)
    retrained = store.manifest(3)
    assert (retrained.parent, retrained.plan["method"], retrained.plan["steps"]) == (
        1,
        "finetune",
        50,
    )
    eventually(
        lambda: client.status().phase,
        60,
        until=lambda seen: seen not in ("retraining", "swapping"),
    )


@pytest.mark.slow
def test_brought_version_that_is_worse_on_late_labels_is_rolled_back(
    automatic: Running, tmp_path: Path
) -> None:
    """Within the gate's tolerance on the reference, and wrong on what is asked afterwards."""
    client, store = automatic.client, automatic.store
    data = np.load(automatic.config.reference)
    state = {name: value.clone() for name, value in store.state_dict(1).items()}
    (bias,) = (name for name, value in state.items() if value.shape == (3,))
    state[bias] += torch.tensor([4.0, 0.0, 0.0])
    save_file(state, tmp_path / "new.safetensors")
    model = load_factory(automatic.config.model.factory, automatic.config.folder)()
    right = []
    for weights in (store.state_dict(1), state):
        load_weights(model, weights)
        right.append(score(model, data["x"])[0].argmax(axis=1) == data["y"])
    hard = np.flatnonzero(right[0] & ~right[1])
    assert len(hard) > 20

    client.bring(tmp_path / "new.safetensors", "new.safetensors")
    brought = eventually(
        lambda: client.status().live_version, until=lambda live: live not in (None, 1)
    )
    eventually(settled(automatic, brought))
    assert client.status().phase == "probation"
    sent = 0

    def taken_back() -> bool:
        nonlocal sent
        index = hard[np.arange(sent, sent + 20) % len(hard)]
        answer = client.infer(data["x"][index], f"hard-{sent}")
        assert client.feedback(answer.ids, data["y"][index].tolist())["rejected"] == []
        sent += 20
        return client.status().live_version == 1

    eventually(taken_back, 120)
    status = eventually(settled(automatic, 1))
    assert status.counts["rolled_back"] == 1
    assert store.manifest(brought).plan["origin"] == "new.safetensors"
