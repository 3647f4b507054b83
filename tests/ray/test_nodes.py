"""A retraining over several Ray nodes, one of which is lost in the middle."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.support import eventually
from tests.helpers.two_workers import by_two
from tests.ray.nodes import RayHead, pod_head, serve_config
from tests.ray.running import PATIENCE_S, free_port, project, watched
from undrift.client import Client
from undrift.config import Config, load_config
from undrift.errors import PlatformError
from undrift.model.network import load_factory
from undrift.store.store import Manifest, Store
from undrift.train.attempt import attempt
from undrift.train.comm import Comm
from undrift.train.plan import RetrainPlan
from undrift.train.stored import read_pool
from undrift.train.trainee import Trainee

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]

WORKER = "ray::RayTrainWorker"
STEPS = 1000  # some 20 seconds, so that a node is lost before the end


@pytest.fixture
def head() -> Iterator[RayHead]:
    with pod_head(cpus=0) as started:
        yield started


def undisturbed(path: Path, config: Config, made: Manifest, comm: Comm) -> dict[str, torch.Tensor]:
    """Carry out the plan of a version again, as one of two workers of one machine."""
    store, plan = Store(config.model_state), RetrainPlan.from_dict(made.plan or {})
    reference = store.reference(plan.base_version)
    model = load_factory(config.model.factory, path.parent)()
    return attempt(
        Trainee(model, config.model.embedding, comm=comm),
        [m.version for m in store.versions() if m.version < made.version],
        store.state_dict,
        read_pool(store, plan, reference, config.train.max_pool_rows),
        reference,
        plan,
        settings=config.train,
        reference_rows=config.monitor.min_reference_rows,
    ).result.state_dict


def test_node_lost_in_a_retraining_costs_nothing_but_time(
    starter: Path, tmp_path: Path, head: RayHead, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = {"workers": 2}
    path = project(starter, tmp_path / "spirals", lifecycle={"mode": "off"}, train=train)
    nodes, port = [head.joined(cpus=1) for _ in range(2)], free_port()
    serving = serve_config(path, port)
    head.deploy(serving, tmp_path / "serve.yaml")
    state = tmp_path / "spirals" / "elsewhere"
    config = load_config(path, [f"state={state}"])
    store = Store(config.model_state)
    with Client(f"http://127.0.0.1:{port}", "spirals", "operator") as client, watched(client):
        eventually(lambda: is_ready(client), PATIENCE_S)
        with np.load(config.reference) as data:
            answer = client.infer(data["x"][:600])
            turned = ((data["y"][:600] + 1) % 3).tolist()
        assert client.feedback(answer.ids, turned)["rejected"] == []
        eventually(lambda: client.drift().labelled, until=lambda seen: seen == 600)
        run = client.retrain(steps=STEPS).run
        assert run is not None
        kept = config.model_state / "training" / run.run_id / "0.pt"
        reached = eventually(lambda: step_of(kept), until=lambda seen: seen >= 100)
        assert [len(node.processes(WORKER)) for node in nodes] == [1, 1]
        assert head.processes(WORKER) == []
        control = head.actors()
        nodes[1].lose()
        before = told(client)
        assert run.run_id not in [m.run_id for m in store.versions()]
        assert reached < eventually(lambda: told(client), until=lambda seen: seen != before) < STEPS
        assert (len(nodes[0].processes(WORKER)), head.processes(WORKER)) == (2, [])
        made = eventually(lambda: [m for m in store.versions() if m.run_id == run.run_id])[0]
        assert head.actors() == control
        assert client.infer(np.zeros((1, 2))).version == 1
    assert made.plan is not None
    assert made.metrics["training"]["steps"] == STEPS
    whole, other = by_two(partial(undisturbed, path, config, made), tmp_path, monkeypatch)
    weights = store.state_dict(made.version)
    assert weights.keys() == whole.keys() == other.keys()
    for name, tensor in weights.items():
        assert torch.equal(tensor, whole[name])
        assert torch.equal(tensor, other[name])


def is_ready(client: Client) -> bool:
    with suppress(PlatformError):
        return bool(client.status().replicas)
    return False


def told(client: Client) -> int:
    """Return the step that the run under way has told last."""
    run = client.status().run
    return int((run.training or {}).get("step", 0)) if run is not None else STEPS


def step_of(checkpoint: Path) -> int:
    """Return the step that a restart would begin with; 0 if there is none."""
    if not checkpoint.exists():
        return 0
    return int(torch.load(checkpoint, weights_only=True)["state"]["step"])
