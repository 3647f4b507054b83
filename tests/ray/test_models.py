"""Several models on one platform: one that fails, is changed or killed leaves the others alone."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
import yaml

from tests.helpers.support import eventually
from tests.ray.asking import ROW, infer_body
from tests.ray.faults import REPLICA
from tests.ray.running import MODEL, Running, free_port, listening, one_error, undrift
from tests.ray.traffic import Traffic
from undrift.client import Client
from undrift.config import load_model
from undrift.model.network import load_factory
from undrift.store.store import Store

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

# On 127.0.0.1, as the system shows it.
LISTENING = re.compile(r"0100007F:([0-9A-F]{4}) 00000000:0000 0A")
CONTROLLER = "ray::ControllerActor"
# Once the file is there it fails at every request, but not when it is tried before it is served.
FAILING = """\
from http.client import HTTPConnection
from pathlib import Path

from torch import nn


class Failing(nn.Sequential):
    def forward(self, x):
        if Path(__file__).with_name("broken").exists() and len(x) < 64 and x.any():
            raise RuntimeError("this model is broken")
        return super().forward(x)


def build():
    return Failing(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3))
"""
QUIET = {"monitor": {"label_lag_rows": 1000}, "lifecycle": {"mode": "off", "auto_rollback": False}}


def entry(starter: Path, **more: Any) -> dict[str, Any]:
    """Return the sections of the starter's model that are its own."""
    data = yaml.safe_load((starter / "undrift.yaml").read_text(encoding="utf-8"))
    for shared in ("state", "kubernetes"):
        data.pop(shared, None)
    data["serve"] = {"answer": "model"}  # so that an answer can be computed again
    return {**data, **QUIET, **more}


def several(starter: Path, folder: Path) -> Path:
    """Write a platform of the starter's model and of one that will fail."""
    shutil.copytree(starter, folder)
    (folder / "failing_model.py").write_text(FAILING, encoding="utf-8")
    first, second = entry(starter), entry(starter)
    first["model"].pop("name")
    first["serve"]["request_timeout_s"] = 120.0
    second["model"] = {**first["model"], "factory": "failing_model:build"}
    path = folder / "undrift.yaml"
    write(path, {"models": {MODEL: first, "failing": second}, "serve": {"port": free_port()}})
    return path


def alone(starter: Path, folder: Path, name: str) -> Path:
    """Write the file of one model, in a folder with a module of the same name."""
    shutil.copytree(starter, folder)
    data = entry(starter, train={"idle_s": 60.0})
    data["model"]["name"] = name
    write(folder / "undrift.yaml", data)
    return folder / "undrift.yaml"


def write(path: Path, data: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")


@contextmanager
def flood(url: str, name: str) -> Iterator[Counter[int]]:
    """Ask a model without a pause from four connections, and count how it answers."""
    counts, stop = Counter[int](), threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
            while not stop.is_set():
                try:
                    answer = http.post(f"/v2/models/{name}/infer", json=infer_body(ROW))
                except httpx.TransportError:
                    continue  # its own replica was replaced
                counts[answer.status_code] += 1

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield counts
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@contextmanager
def half_sent(url: str, name: str, seconds: float | None = None) -> Iterator[None]:
    """Have a request begin with the block, and see that it is answered.

    Its rest is sent after so many seconds, else after the block.
    """
    body = json.dumps(infer_body(ROW)).encode()
    http = HTTPConnection(url.removeprefix("http://"), timeout=60)
    http.putrequest("POST", f"/v2/models/{name}/infer")
    http.putheader("Content-Type", "application/json")
    http.putheader("Content-Length", str(len(body)))
    http.endheaders(body[: len(body) // 2])
    rest = threading.Timer(seconds or 0.0, http.send, (body[len(body) // 2 :],))
    if seconds is not None:
        rest.start()
    yield
    if seconds is None:
        rest.start()
    rest.join()
    assert http.getresponse().status == 200
    http.close()


def port(running: Running, name: str) -> int:
    """Return where the one replica of a model listens for requests; Ray's ports are others."""
    title = f"{REPLICA}:undrift-{name}:"
    eventually(lambda: len(running.processes(title)) == 1)  # one that was replaced is soon gone
    (pid,) = running.processes(title)
    (found,) = {port for host, port in listening([pid]) if host == "127.0.0.1"}
    return found


@contextmanager
def open_ports() -> Iterator[list[set[int]]]:
    """Look again and again which ports of the machine are listened on."""
    seen, stop = list[set[int]](), threading.Event()

    def look() -> None:
        while not stop.wait(0.02):
            text = Path("/proc/net/tcp").read_text(encoding="ascii")
            seen.append({int(port, 16) for port in LISTENING.findall(text)})

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def listed(running: Running) -> dict[str, dict[str, Any]]:
    done = undrift("models", "--json", cwd=running.path.parent)
    assert done.returncode == 0, done.stderr
    return {row["name"]: row for row in json.loads(done.stdout)}


def retrained(client: Client, reference: Path) -> int:
    """Label rows in another way, retrain, and return the version that is live then."""
    data = np.load(reference)
    x, y = data["x"][:400], (data["y"][:400] + 1) % 3
    told = client.feedback(client.infer(x, "labelled").ids, y.tolist())
    assert told["rejected"] == []
    eventually(lambda: client.drift().labelled, until=lambda seen: seen >= len(x))
    run = client.retrain(method="finetune", steps=100).run
    assert run is not None
    eventually(lambda: client.status().phase, until=lambda phase: phase == "candidate")
    client.promote(2)
    return eventually(lambda: client.status().live_version, until=lambda live: live == 2)


def all_right(traffic: Traffic, folder: Path, store: Store) -> None:
    """Check that every request was answered, and as version 1 computes it."""
    assert traffic.failures == []
    model = load_factory("model:build", folder)()
    model.load_state_dict(store.state_dict(1))
    x = np.concatenate([answer.x for answer in traffic.answers])
    with torch.inference_mode():
        expected = model.eval()(torch.from_numpy(x)).softmax(dim=1).numpy()
    found = np.concatenate([answer.output for answer in traffic.answers])
    assert {answer.version for answer in traffic.answers} == {1}
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.slow
def test_one_model_fails_and_others_are_added_changed_killed_and_removed_beside_it(
    starter: Path, tmp_path: Path, start: Callable[..., Running]
) -> None:
    path = several(starter, tmp_path / "platform")
    third = alone(starter, tmp_path / "third", "third")
    running = start(path, model=MODEL)
    running.await_ready()
    folder = path.parent
    (folder / "failing").with_name("broken").touch()
    with Traffic(running.url, "first", clients=2, pause_s=0.01) as traffic:
        with flood(running.url, "failing") as counts:
            with half_sent(running.url, MODEL):
                added = undrift("models", "add", str(third), cwd=folder)
                time.sleep(10.0)  # the HAProxy that had the request has made way for another
            assert added.returncode == 0, added.stderr
            assert "added third" in added.stdout
            view = load_model(path, "third")
            with Client.of(view) as client:
                assert retrained(client, view.reference) == 2
            killed(running, path)
            refused(running, path, third)
        assert counts[500] > 100, counts
        assert counts.keys() <= {500, 503}, counts
        rows = listed(running)
        assert [*rows] == [MODEL, "failing", "third"]
        assert [row["version"] for row in rows.values()] == [1, 1, 2]
        assert {row["replicas"] for row in rows.values()} == {"1/1"}
        removed = undrift("models", "remove", "third", "--json", cwd=folder)
        assert json.loads(removed.stdout)["removed"] == {"third": str(view.model_state)}
        answer = httpx.get(f"{running.url}/v2/models/third/ready", trust_env=False)
        assert (answer.status_code, "the models are: failing, spirals" in answer.text) == (
            404,
            True,
        )
    all_right(traffic, folder, running.store)
    assert len(traffic.answers) > 100

    again(running, path, third)


def test_model_that_ran_alone_gets_a_route_of_its_own_and_starts_anew_and_no_request_fails(
    starter: Path, tmp_path: Path, start: Callable[..., Running]
) -> None:
    path, other = alone(starter, tmp_path / "first", MODEL), alone(starter, tmp_path / "o", "other")
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    write(path, {**data, "serve": {**data["serve"], "port": free_port()}})
    running, folder = start(path), path.parent
    running.await_ready()
    with httpx.Client(base_url=running.url, timeout=30, trust_env=False) as http:
        assert http.get("/v2/models").status_code == 404, "the model itself answers at /"
        with Traffic(running.url, "first", clients=2, pause_s=0.01) as traffic:
            assert undrift("models", "add", str(other), cwd=folder).returncode == 0
            assert http.get("/v2/models").json() == {"models": ["other", MODEL]}
            replica = [*running.client.status().replicas]
            old = port(running, MODEL)
            with open_ports() as seen, half_sent(running.url, MODEL, 6.0):
                anew = undrift("models", "add", str(path), "--json", cwd=folder)
            assert json.loads(anew.stdout)["changed"] == [MODEL]
            new = port(running, MODEL)
            assert all(open_ & {old, new} for open_ in seen), "one answered at every moment"
            assert any(open_ >= {old, new} for open_ in seen), "the new one before the old stopped"
            assert not {*replica} & {*running.client.status().replicas}
        all_right(traffic, folder, running.store)
        assert undrift("models", "remove", MODEL, cwd=folder).returncode == 0
        assert http.get("/v2/models").json() == {"models": ["other"]}
        last = undrift("models", "remove", "other", cwd=folder)
        one_error(last.stderr, "'other' is the last model")
        assert http.get("/v2/models/other/ready").status_code == 200


def killed(running: Running, path: Path) -> None:
    """Change the failing model, so that the newest controller is its own, and kill that."""
    before = running.processes(CONTROLLER)
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    data["models"]["failing"]["train"]["steps"] = 7
    write(path, data)
    changed = undrift("up", "--json", cwd=path.parent)
    assert changed.returncode == 0, changed.stderr
    assert json.loads(changed.stdout)["changed"] == ["failing"]
    (own,) = set(running.processes(CONTROLLER)) - set(before)
    os.kill(own, signal.SIGKILL)
    eventually(lambda: set(running.processes(CONTROLLER)) - {*before, own})
    eventually(lambda: listed(running)["failing"]["version"] == 1)


def refused(running: Running, path: Path, third: Path) -> None:
    """What is wrong is told in one message, and nothing that runs is touched."""
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    told = undrift("up", cwd=path.parent)
    assert (told.returncode, told.stdout) == (0, "nothing has changed\n")
    data["models"]["failing"]["train"]["steps"] = -1
    write(path, data)
    told = undrift("up", cwd=path.parent)
    assert told.returncode == 1
    assert "models.failing.train.steps: got -1" in told.stderr
    assert "failing goes on as it was" in told.stderr
    data["models"]["failing"]["train"]["steps"] = 7
    write(path, data)
    collides = third.with_name("collides.yaml")
    write(collides, {**yaml.safe_load(third.read_text(encoding="utf-8"))})
    one_error(undrift("models", "add", str(collides), cwd=path.parent).stderr, "model 'third'")
    one_error(undrift("models", "remove", "nobody", cwd=path.parent).stderr, "no model 'nobody'")
    crash = third.with_name("crash.yaml")
    wrong = yaml.safe_load(third.read_text(encoding="utf-8"))
    wrong["model"] |= {"name": "crash", "factory": "crash:build"}
    third.with_name("crash.py").write_text("import os\nos._exit(3)\n", encoding="utf-8")
    write(crash, wrong)
    one_error(undrift("models", "add", str(crash), cwd=path.parent).stderr, "process", "crash")
    assert [*listed(running)] == [MODEL, "failing", "third"]


def again(running: Running, path: Path, third: Path) -> None:
    """The next start finds what was added meanwhile, with the state that was kept."""
    assert undrift("down", cwd=path.parent).returncode == 0
    running.wait()
    later = undrift("models", "add", str(third), cwd=path.parent)
    assert "at the next `undrift up`" in later.stdout
    (path.parent / "broken").unlink()
    up = undrift("up", "-d", "--json", cwd=path.parent)
    assert up.returncode == 0, up.stderr
    try:
        assert json.loads(up.stdout)["models"] == [MODEL, "failing", "third"]
        rows = listed(running)
        assert [row["version"] for row in rows.values()] == [1, 1, 2]
        url = f"{running.url}/v2/models"
        assert httpx.get(url, trust_env=False).json() == {"models": sorted(rows)}
        page = httpx.get(f"{running.url}/metrics", trust_env=False).text
        assert all(f'undrift_live_version{{model="{name}"}}' in page for name in rows)
        assert httpx.get(f"{running.url}/v2/health/ready", trust_env=False).status_code == 200
    finally:
        assert undrift("down", cwd=path.parent).returncode == 0
