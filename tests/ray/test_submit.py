"""Deployed by job on a Ray cluster that others use too, and removed from it again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.helpers.objects import pointed_at
from tests.helpers.support import eventually
from tests.ray.guest import Cluster
from tests.ray.running import (
    PATIENCE_S,
    UNDRIFT,
    alive,
    environment,
    free_port,
    one_error,
    project,
)
from undrift.client import Client
from undrift.errors import PlatformError
from undrift.store import lease
from undrift.store.bucket import Bucket
from undrift.store.lease import holder_of

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


@pytest.fixture
def folder(starter: Path, tmp_path: Path) -> Path:
    lifecycle, train = {"mode": "off", "auto_rollback": False}, {"idle_s": 60.0}
    path = project(starter, tmp_path / "spirals", lifecycle=lifecycle, train=train)
    return path.parent


def test_platform_by_job_serves_retrains_swaps_and_leaves_others_alone(
    folder: Path, cluster: Cluster
) -> None:
    state, at = folder.parent / "shared", ("--address", cluster.dashboard)
    here = (*at, "--set", f"state={state}")
    kill_in_the_middle(cluster, folder, *here, "--set", "lifecycle.mode=suggest")
    eventually(lambda: (state / "run.json").exists())  # the job went on
    update = ("submit", "undrift.yaml", *here, "--json")
    done = cluster.undrift(*update, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "succeeded"
    assert f"ready at {cluster.url}/v2/models/spirals/infer" in done.stderr
    assert "serve.port are unused" in done.stderr
    assert cluster.foreign() == "still here"
    assert len(cluster.actors()) == 3
    with Client(cluster.url, "spirals", (state / "token").read_text().strip()) as client:
        assert client.status().mode == "off"
        x = np.random.default_rng(0).normal(size=(2000, 2))
        client.feedback(client.infer(x).ids, ["red" if a > b else "blue" for a, b in x])
        eventually(lambda: client.drift().labelled, until=lambda seen: seen == 2000)
        asked = ("--submit", "--method", "finetune", "--steps", "50", "--no-wait")
        done = cluster.undrift("retrain", *here, *asked, cwd=folder)
        assert done.returncode == 0, done.stderr
        eventually(lambda: len(client.versions()), until=lambda seen: seen == 2)
        eventually(
            lambda: client.status().phase, PATIENCE_S, until=lambda seen: seen != "retraining"
        )
        done = cluster.undrift("promote", "2", *here, "--submit", cwd=folder)
        assert done.returncode == 0, done.stderr
        eventually(lambda: loaded(client, 2))
        told = cluster.undrift("status", "--json", cwd=folder, UNDRIFT_URL=cluster.url)
        assert json.loads(told.stdout)["live_version"] == 2
        eventually(lambda: client.status().phase, until=lambda seen: seen != "swapping")
        own = ("promote", "--weights", "weights.safetensors", "--submit", "--no-wait")
        assert cluster.undrift(*own, *here, cwd=folder).returncode == 0
        brought = eventually(lambda: [e for e in client.events() if e.kind == "weights"])
        assert "weights.safetensors" in brought[-1].text
    done = cluster.undrift("down", *here, cwd=folder)
    assert done.returncode == 0, done.stderr
    eventually(lambda: not cluster.actors())
    assert httpx.get(f"{cluster.url}/healthz", trust_env=False).status_code == 404
    assert cluster.foreign() == "still here"


@pytest.mark.slow
def test_two_platforms_stand_side_by_side_and_one_goes(
    folder: Path, starter: Path, cluster: Cluster, tmp_path: Path
) -> None:
    sections = {"lifecycle": {"mode": "off"}, "serve": {"port": free_port()}}
    other = project(starter, tmp_path / "other", model={"name": "other"}, **sections).parent
    at = {
        path: ("--address", cluster.dashboard, "--set", f"state={tmp_path / name}")
        for path, name in {folder: "first", other: "second"}.items()
    }
    notes = []
    for path in (folder, other, other):  # the last as an update
        done = cluster.undrift("submit", "undrift.yaml", *at[path], cwd=path)
        assert done.returncode == 0, done.stderr
        assert cluster.foreign() == "still here"
        notes.append("undrift-spirals answers at / of this cluster" in done.stderr)
    assert notes == [False, True, False]
    rows = np.zeros((3, 2))
    first, second = (
        Client(cluster.url, name, (tmp_path / state / "token").read_text().strip())
        for name, state in (("spirals", "first"), ("other", "second"))
    )
    with first, second:
        for client in (first, second):
            assert client.feedback(client.infer(rows).ids, ["red"] * 3)["accepted"] == 3
            eventually(lambda of=client: of.drift().labelled, until=lambda seen: seen == 3)
        for path, gone, stays in ((folder, first, second), (other, second, None)):
            done = cluster.undrift("down", *at[path], cwd=path)
            assert done.returncode == 0, done.stderr
            assert cluster.foreign() == "still here"
            with pytest.raises(PlatformError):
                gone.status()
            if stays is not None:
                assert stays.infer(rows).version == 1
                assert len(cluster.actors()) == 3
    eventually(lambda: not cluster.actors())


@pytest.mark.slow
def test_platform_by_job_keeps_the_lease_of_a_state_in_a_bucket(
    folder: Path,
    starter: Path,
    cluster: Cluster,
    object_store: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pointed_at(object_store, monkeypatch)
    state, local = Bucket("s3://state/job"), tmp_path / "local"
    sets = ("--set", f"state={state}", "--set", f"local={local}", "--set", "lifecycle.mode=suggest")
    at = ("--address", cluster.dashboard, *sets)
    for _ in range(2):  # first, and as an update
        done = cluster.undrift("submit", "undrift.yaml", *at, "--json", cwd=folder)
        assert done.returncode == 0, done.stderr
    holder = holder_of(state)
    assert holder.startswith("the Ray cluster at 127.0.0.1:")
    other = project(starter, tmp_path / "other", serve={"port": free_port()}, state=str(state))
    for _ in range(2):
        done = cluster.undrift("up", "--address", "local", cwd=other.parent)
        assert done.returncode == 1
        one_error(done.stderr, f"{holder} already runs on {state}")
        (controller,) = [p for p, t in alive(cluster.session).items() if "ControllerActor" in t]
        os.kill(controller, signal.SIGKILL)  # another takes up the lease
        eventually(lambda: len(cluster.actors()) == 3)
    with Client(cluster.url, "spirals", (local / "token").read_text().strip()) as client:
        eventually(lambda: loaded(client, 1))
        rows = np.zeros((5, 2))
        assert client.feedback(client.infer(rows).ids, ["red"] * 5)["accepted"] == 5
        said = f"another has taken {state} over, so nothing more is written to it"
        took_over(state)
        for _ in range(2):
            eventually(lambda: said in client.status().failures["controller"])
            eventually(lambda: cluster.actors(), until=lambda seen: len(seen) == 1)
            (controller,) = [p for p, t in alive(cluster.session).items() if "ControllerActor" in t]
            with pytest.raises(PlatformError, match="another has taken"):
                client.pause()
            os.kill(controller, signal.SIGKILL)
            eventually(lambda gone=controller: gone not in alive(cluster.session))
            eventually(lambda: answers(client))
        assert client.infer(rows).version == 1
        with pytest.raises(PlatformError):
            client.feedback(["late"], ["red"])
    done = cluster.undrift("down", *at, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert holder_of(state) == "another"


def took_over(state: Bucket) -> None:
    """Take a lease that is renewed all the time, as who finds its holder asleep does."""
    file = state / lease.LEASE_FILE
    while True:
        found = lease._read(file)
        assert found is not None
        if lease._put(state, "another", found[0]["epoch"], found[1]):
            return


def answers(client: Client) -> bool:
    try:
        client.status()
    except (PlatformError, httpx.TransportError):
        return False
    return True


def kill_in_the_middle(cluster: Cluster, folder: Path, *arguments: str) -> None:
    """Submit, and kill the submitting process when the cluster has the job."""
    child = subprocess.Popen(
        [*UNDRIFT, "submit", *arguments],
        cwd=folder,
        env={**environment(), "RAY_AUTH_TOKEN": cluster.environment["RAY_AUTH_TOKEN"]},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stderr is not None
    with child.stderr:
        said: list[str] = []
        while "Running entrypoint" not in "".join(said[-1:]):
            said.append(child.stderr.readline())
            assert said[-1], "".join(said)
        child.kill()
    child.wait()


def loaded(client: Client, version: int) -> bool:
    with suppress(PlatformError):
        return set(client.status().replicas.values()) == {version}
    return False


def test_wrong_token_is_told(folder: Path, cluster: Cluster) -> None:
    arguments = ("submit", "--address", cluster.dashboard, "--set", "state=/tmp/nowhere")
    done = cluster.undrift(*arguments, cwd=folder, RAY_AUTH_TOKEN="0" * 64)
    assert done.returncode == 1
    one_error(done.stderr, "refused the token", "RAY_AUTH_TOKEN_PATH")


def test_wrong_address_is_told(folder: Path, cluster: Cluster) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    done = cluster.undrift("submit", "--address", address, "--set", "state=/tmp/x", cwd=folder)
    assert done.returncode == 1
    one_error(done.stderr, f"no Ray dashboard answers at {address}")


def test_state_inside_the_project_is_refused(folder: Path, cluster: Cluster) -> None:
    done = cluster.undrift("submit", "--address", cluster.dashboard, cwd=folder)
    assert done.returncode == 1
    one_error(done.stderr, "state: expected an absolute path", "--set state=/mnt/undrift")


def test_missing_file_is_told(folder: Path, cluster: Cluster) -> None:
    done = cluster.undrift("submit", "none.yaml", "--address", cluster.dashboard, cwd=folder)
    assert done.returncode == 1
    one_error(done.stderr, "none.yaml: no such file")
