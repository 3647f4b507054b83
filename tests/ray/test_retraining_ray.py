"""Retrainings on real workers: what is told of them, what is refused, and what a kill costs."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers.support import eventually
from tests.ray.running import Running, exposed, free_port, look, project, undrift
from undrift.model.network import load_factory
from undrift.store.store import Manifest
from undrift.store.versions import CONDITIONS
from undrift.train.attempt import Attempt, attempt
from undrift.train.plan import RetrainPlan
from undrift.train.pool import Pool
from undrift.train.trainee import Trainee

pytestmark = pytest.mark.ray

WORKER, TRAINER = "ray::RayTrainWorker", "ray::TrainerActor"
STEPS = 600  # some 20 seconds, so that both kills come before the end


def label(running: Running, name: str, rows: int, turned: int = 0) -> None:
    """Ask and label reference rows, with every class taken for the next ``turned`` ones."""
    data = np.load(running.config.reference)
    before = running.client.drift().labelled
    for start in range(0, rows, 100):
        part = slice(start, min(start + 100, rows))
        answer = running.client.infer(data["x"][part], f"{name}-{start}")
        told = running.client.feedback(answer.ids, ((data["y"][part] + turned) % 3).tolist())
        assert told["rejected"] == []
    eventually(lambda: running.client.drift().labelled, until=lambda seen: seen >= before + rows)


def begin(running: Running, **order: Any) -> str:
    run = running.client.retrain(**order).run
    assert run is not None
    return run.run_id


def told(running: Running, run_id: str) -> dict[str, Any]:
    """Return how far a run is; {} before it trains, and while the controller restarts."""
    run = running.client.status().run
    return (run.training or {}) if run is not None and run.run_id == run_id else {}


def kept(running: Running, run_id: str) -> int:
    """Return the step that a restart would begin with; 0 if there is none."""
    path = running.config.model_state / "training" / run_id / "0.pt"
    return int(torch.load(path, weights_only=True)["state"]["step"]) if path.exists() else 0


def kill(running: Running, title: str) -> None:
    """Kill one process of a kind, and wait until another has taken its place."""
    before = running.processes(title)
    os.kill(before[-1], signal.SIGKILL)
    eventually(lambda: set(running.processes(title)) - set(before))


def goes_on(running: Running, run_id: str) -> int:
    """Return the first step that is told anew, or the last one of a run that ended meanwhile."""
    before = told(running, run_id)

    def news() -> int:
        now = told(running, run_id)
        if now and now != before:
            return int(now["step"])
        made = [m for m in running.store.versions() if m.run_id == run_id]
        return int(made[0].metrics["training"]["steps"]) if made else 0

    return eventually(news)


def made_by(running: Running, run_id: str) -> Manifest:
    def found() -> list[Manifest]:
        return [m for m in running.store.versions() if m.run_id == run_id]

    return eventually(found)[0]


def refusal(running: Running, run_id: str) -> str:
    """Return why a run failed, once it has."""

    def reasons() -> list[str]:
        events = running.client.events()
        return [e.text for e in events if e.kind == "failed" and e.run_id == run_id]

    return eventually(reasons)[0]


def undisturbed(running: Running, made: Manifest) -> Attempt:
    """Carry out the plan of a version again: in this process, alone, in one go."""
    config, store = running.config, running.store
    plan = RetrainPlan.from_dict(made.plan or {})
    reference = store.reference(plan.base_version)
    rows = store.predictions(until_row=plan.until_row, as_of=made.tables["predictions"])
    labels = store.labels(as_of=made.tables["labels"])
    torch.set_num_threads(config.train.threads)
    return attempt(
        Trainee(load_factory(config.model.factory, running.path.parent)(), config.model.embedding),
        [m.version for m in store.versions() if m.version < made.version],
        store.state_dict,
        Pool.build(rows, labels, reference, config.train.max_pool_rows),
        reference,
        plan,
        settings=config.train,
        reference_rows=config.monitor.min_reference_rows,
    )


def test_killed_worker_and_killed_trainer_cost_nothing_but_time(platform: Running) -> None:
    label(platform, "killed", 600)
    run_id = begin(platform, steps=STEPS)
    eventually(lambda: kept(platform, run_id))
    gauge = 'undrift_training_progress_ratio{model="spirals"} 0.'
    assert exposed(platform) == set()
    page = f"{platform.url}/metrics"
    eventually(lambda: look(page).text, until=lambda seen: gauge in seen)
    for title in (WORKER, TRAINER):
        reached = kept(platform, run_id)
        kill(platform, title)
        assert platform.store.versions()[-1].run_id != run_id  # nothing half-trained is kept
        assert goes_on(platform, run_id) > reached
    made = made_by(platform, run_id)
    assert made.plan["steps"] == made.metrics["training"]["steps"] == STEPS
    assert "validation_accuracy_new" in made.metrics["gate"]
    whole = undisturbed(platform, made).result
    state = platform.store.state_dict(made.version)
    assert all(torch.equal(tensor, state[name]) for name, tensor in whole.state_dict.items())
    assert whole.flops == made.metrics["flops"]
    done = undrift("rebuild", str(made.version), "--json", cwd=platform.path.parent)
    assert json.loads(done.stdout)["same"], done.stdout + done.stderr
    listed = next(v for v in platform.client.versions() if v.version == made.version)
    assert CONDITIONS in made.metrics.keys() - listed.metrics.keys()
    eventually(lambda: not (platform.config.model_state / "training" / run_id).exists())
    eventually(lambda: platform.client.status().phase, until=lambda seen: seen != "retraining")
    platform.client.pause()
    platform.client.resume()


@pytest.fixture
def pair(start: Callable[..., Running], starter: Path, tmp_path: Path) -> Running:
    """A platform that trains with two workers, and does nothing by itself."""
    sections = {
        "serve": {"port": free_port(), "replicas": 1},
        "lifecycle": {"mode": "off"},
        "train": {"workers": 2, "block_selection": True},
    }
    return start(project(starter, tmp_path / "spirals", **sections)).await_ready()


def test_two_workers_refuse_resume_and_decide_as_one(pair: Running) -> None:
    client = pair.client
    assert "no prediction has been made yet" in refusal(pair, begin(pair))
    label(pair, "few", 20, turned=1)
    assert "wait for more labels" in refusal(pair, begin(pair))
    label(pair, "turned", 600, turned=1)
    assert "does not cover one step" in refusal(pair, begin(pair, budget="1FLOP"))

    run_id = begin(pair, steps=1000)
    reached = eventually(lambda: kept(pair, run_id))
    assert exposed(pair) == set()
    kill(pair, WORKER)
    assert goes_on(pair, run_id) > reached
    made = made_by(pair, run_id)
    alone = undisturbed(pair, made)
    done = undrift("rebuild", str(made.version), cwd=pair.path.parent)
    assert (done.returncode, "was trained by 2 workers" in done.stdout) == (1, True), done
    log, others = pair.store.bandit_log(made.version), alone.result.log()
    assert log is not None
    early = slice(0, 400)  # of some 4,000; sums in another order add up to other draws in the end
    for column in ("step", "bandit", "arm"):
        assert log[column][early].tolist() == others[column][early].tolist()
    assert made.metrics["gate"].keys() == alone.verdict.metrics.keys()
    assert "retention_accuracy_new" not in alone.verdict.metrics  # no older label is true any more
    figure = alone.verdict.metrics["validation_accuracy_new"]
    assert made.metrics["gate"]["validation_accuracy_new"] == pytest.approx(figure, abs=0.1)
    assert client.audit(made.version).bandits.keys() == {"sample", "block"}

    eventually(lambda: client.status().phase, until=lambda seen: seen != "retraining")
    done = undrift("retrain", "--method", "full", "--budget", "2s", "--json", cwd=pair.path.parent)
    outcome = json.loads(done.stdout)
    assert outcome["outcome"] in ("candidate", "failed"), done.stderr
    training = outcome["training"]
    assert training["seconds"] + training["eta_s"] == pytest.approx(2.0, rel=0.5)
    plan = pair.store.versions()[-1].plan
    assert (plan["method"], plan["budget"]) == ("full", "2s")

    run_id = begin(pair, budget="1h")
    eventually(lambda: told(pair, run_id))
    client.pause()
    client.resume()
    after = begin(pair, steps=20)  # would have to wait for an hour
    assert made_by(pair, after).parent == client.infer(np.zeros((1, 2))).version == 1
