"""Retraining as a job in another Ray cluster: the platform serves here and trains over there."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
import yaml

from tests.helpers.objects import pointed_at
from tests.helpers.support import eventually
from tests.ray.guest import Cluster, running_cluster
from tests.ray.running import Running, alive, free_port, project, settled
from tests.ray.test_retraining_ray import (
    begin,
    goes_on,
    kept,
    label,
    made_by,
    refusal,
    told,
    undisturbed,
)
from undrift.store.bucket import Bucket
from undrift.train.course import AWAY_S

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

TRAINER, WORKER = "ray::AwayTrainer", "ray::RayTrainWorker"
STEPS = 600  # long enough that what is killed is killed before the end
FOR_EVER = 1_000_000


@pytest.fixture
def away(
    start: Callable[..., Running], starter: Path, tmp_path: Path, cluster: Cluster
) -> Callable[..., Running]:
    """Return a function that starts a platform that trains in the other cluster."""

    def begun(there: Cluster = cluster, **sections: Any) -> Running:
        token = tmp_path / "token"
        token.write_text(there.environment["RAY_AUTH_TOKEN"] + "\n", encoding="utf-8")
        train = {"address": there.dashboard, "token_file": str(token)}
        given = {
            "serve": {"port": free_port(), "replicas": 1},
            "lifecycle": {"mode": "off", "auto_rollback": False},
        }
        given |= sections | {"train": train | sections.get("train", {})}
        return start(project(starter, tmp_path / "spirals", **given)).await_ready()

    return begun


def jobs(cluster: Cluster, running: Running) -> dict[str, str]:
    """Return what became of each job of a platform, by its name."""
    token = cluster.environment["RAY_AUTH_TOKEN"]
    answer = httpx.get(
        f"{cluster.dashboard}/api/jobs/",
        headers={"Authorization": f"Bearer {token}"},
        trust_env=False,
        timeout=30,
    )
    runs = {event.run_id for event in running.client.events()}
    found = {job["submission_id"]: job["status"] for job in answer.json() if job["submission_id"]}
    return {name: s for name, s in found.items() if any(run and run in name for run in runs)}


def workers(cluster: Cluster) -> list[int]:
    return [pid for pid, line in alive(cluster.session).items() if line.startswith(WORKER)]


def nothing_left(cluster: Cluster, running: Running) -> None:
    """Wait until neither a process of a job over there nor a file of a run in the state is left."""
    ours = (WORKER, "ray::Desk", "ray::TrainController", "python -m undrift.train")
    eventually(lambda: not [t for t in alive(cluster.session).values() if t.startswith(ours)])
    folder = running.config.model_state / "training"
    eventually(
        lambda: [*folder.sizes()] if isinstance(folder, Bucket) else [*folder.glob("*")],
        until=lambda seen: seen == [],
    )


def test_trainer_that_is_killed_takes_up_the_same_job_and_its_version_is_swapped_in(
    away: Callable[..., Running], cluster: Cluster
) -> None:
    running = away()
    label(running, "away", 300, turned=1)
    run_id = begin(running, steps=100)
    (job,) = eventually(lambda: jobs(cluster, running))
    (trainer,) = running.processes(TRAINER)
    os.kill(trainer, signal.SIGKILL)
    assert running.store.version_numbers() == [1]
    eventually(lambda: set(running.processes(TRAINER)) - {trainer})
    made = made_by(running, run_id)
    assert not running.processes(WORKER)
    assert made.metrics["conditions"]["settings"]["address"] == ""
    eventually(lambda: running.client.status().phase, until=lambda seen: seen != "retraining")
    running.client.promote(made.version)
    eventually(settled(running, made.version))
    nothing_left(cluster, running)
    assert jobs(cluster, running) == {job: "SUCCEEDED"}
    assert running.store.version_numbers() == [1, made.version]


@pytest.mark.slow
def test_worker_of_a_job_that_is_killed_costs_nothing_but_time(
    away: Callable[..., Running], cluster: Cluster
) -> None:
    running = away()
    label(running, "away", 600, turned=1)
    run_id = begin(running, steps=STEPS)
    eventually(lambda: told(running, run_id).get("step"))
    eventually(lambda: kept(running, run_id))
    (worker,) = workers(cluster)
    os.kill(worker, signal.SIGKILL)
    eventually(lambda: set(workers(cluster)) - {worker})
    made = made_by(running, run_id)
    whole, state = undisturbed(running, made).result, running.store.state_dict(made.version)
    assert all(torch.equal(tensor, state[name]) for name, tensor in whole.state_dict.items())
    nothing_left(cluster, running)
    assert [*jobs(cluster, running).values()] == ["SUCCEEDED"]


@pytest.mark.slow
def test_drift_trains_over_there_from_a_bucket_and_is_swapped_in_here(
    away: Callable[..., Running],
    cluster: Cluster,
    object_store: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pointed_at(object_store, monkeypatch)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    lifecycle = {"mode": "auto", "auto_rollback": False, "min_regime_rows": 300}
    train = {"steps": 200}
    running = away(state=f"s3://state/{tmp_path.name}", lifecycle=lifecycle, train=train)
    data, sent = np.load(running.config.reference), 0
    while running.client.status().live_version == 1:
        index = np.arange(sent, sent + 100) % len(data["y"])
        answer = running.client.infer(data["x"][index], f"drift-{sent}")
        running.client.feedback(answer.ids, ((data["y"][index] + 1) % 3).tolist())
        sent += 100
        assert sent < 200_000
        if running.client.status().phase == "retraining":
            eventually(lambda: running.client.status().phase, until=lambda p: p != "retraining")
    made = running.store.manifest(running.client.status().live_version)
    (job,) = [name for name in jobs(cluster, running) if made.run_id in name]
    eventually(lambda: jobs(cluster, running)[job], until=lambda seen: seen == "SUCCEEDED")
    assert not running.processes(WORKER)


@pytest.mark.slow
def test_run_that_is_given_up_or_put_off_leaves_nothing_over_there(
    away: Callable[..., Running], cluster: Cluster, start: Callable[..., Running]
) -> None:
    running = away()
    label(running, "away", 600, turned=1)
    run_id = begin(running, steps=FOR_EVER)
    eventually(lambda: kept(running, run_id))
    running.client.pause()
    eventually(lambda: [*jobs(cluster, running).values()], until=lambda s: s == ["STOPPED"])
    nothing_left(cluster, running)
    assert running.store.version_numbers() == [1]
    running.client.resume()

    run_id = begin(running, steps=4 * STEPS)
    reached = eventually(lambda: kept(running, run_id))
    assert running.end(signal.SIGINT) == 130
    eventually(lambda: not workers(cluster))
    again = start(running.path).await_ready()
    eventually(lambda: told(again, run_id))  # of the job before, and then of the one that goes on
    assert goes_on(again, run_id) > reached
    made = made_by(again, run_id)
    assert made.metrics["training"]["steps"] == 4 * STEPS
    nothing_left(cluster, again)
    states = [state for name, state in jobs(cluster, again).items() if run_id in name]
    assert sorted(states) == ["STOPPED", "SUCCEEDED"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_cluster_that_is_lost_in_the_middle_fails_the_run_and_nothing_else(
    away: Callable[..., Running], object_store: str
) -> None:
    with running_cluster(object_store) as lost:
        running = away(lost)
        label(running, "away", 600, turned=1)
        run_id = begin(running, steps=FOR_EVER)
        eventually(lambda: kept(running, run_id))
    assert running.client.infer(np.zeros((1, 2))).version == 1
    said = eventually(
        lambda: [e.text for e in running.client.events() if e.kind == "failed"], AWAY_S + 120
    )
    assert f"no Ray dashboard answers at {lost.dashboard}" in said[0]
    assert running.client.infer(np.zeros((1, 2))).version == 1
    assert running.client.status().phase != "retraining"
    assert not (running.config.model_state / "training" / run_id).exists()


@pytest.mark.slow
def test_token_of_another_cluster_is_one_line(
    away: Callable[..., Running], cluster: Cluster
) -> None:
    running = away()
    data = yaml.safe_load(running.path.read_text(encoding="utf-8"))
    Path(data["train"]["token_file"]).write_text("0" * 64, encoding="utf-8")
    label(running, "away", 100)
    text = refusal(running, begin(running))
    assert f"the Ray cluster at {cluster.dashboard} refused the token" in text
    assert "\n" not in text
