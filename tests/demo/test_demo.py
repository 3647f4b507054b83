"""Whole streams through the whole platform, as a user would start them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml

from tests.helpers.support import eventually
from tests.ray.running import UNDRIFT, alive, environment, look

pytestmark = [pytest.mark.demo, pytest.mark.timeout(600)]


class Demo:
    """One `undrift demo --json`, in a session of its own, by which its processes are known."""

    def __init__(self, folder: Path, name: str, *arguments: str) -> None:
        self.folder = folder / name
        self.log = folder / "demo.log"
        self.out = folder / "demo.json"
        with self.log.open("w") as log, self.out.open("w") as out:
            self.process = subprocess.Popen(
                [*UNDRIFT, "demo", "--json", "--out", str(folder), *arguments],
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                start_new_session=True,
            )

    def status(self) -> dict[str, Any]:
        """Return the platform's status; empty while it does not answer."""
        assert self.process.poll() is None, self.log.read_text()
        with suppress(OSError, httpx.HTTPError, ValueError, TypeError, KeyError):
            config = yaml.safe_load((self.folder / "undrift.yaml").read_text())
            url = f"http://127.0.0.1:{config['serve']['port']}/v2/models/{config['model']['name']}"
            answer = look(f"{url}/status")
            if answer.status_code == 200:
                found: dict[str, Any] = answer.json()
                return found
        return {}

    def kill(self, title: str) -> None:
        """Kill the process of an actor, as the system's memory killer would."""
        (pid,) = (p for p, line in alive(self.process.pid).items() if line.startswith(title))
        os.kill(pid, signal.SIGKILL)

    def result(self) -> dict[str, Any]:
        """Wait for the end and return the result, which must be a success."""
        assert self.process.wait(550) == 0, self.log.read_text() + self.out.read_text()[-2000:]
        found: dict[str, Any] = json.loads(self.out.read_text())
        assert not alive(self.process.pid)
        return found

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in alive(self.process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


Start = Callable[..., Demo]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Demo] = []

    def begin(name: str, *arguments: str) -> Demo:
        started.append(Demo(tmp_path, name, *arguments))
        return started[-1]

    yield begin
    for demo in started:
        demo.close()


def kinds(result: dict[str, Any]) -> list[str]:
    return [event["kind"] for event in result["events"]]


def test_digits_close_the_loop_though_the_controller_is_killed_while_retraining(
    start: Start,
) -> None:
    # The model alone, short trainings and a slow stream: a promotion comes on a busy machine too.
    quick = ("--set", "serve.answer=model", "--set", "train.steps=150")
    demo = start("digits", "--pace", "50", *quick)
    eventually(lambda: demo.status().get("phase"), 240, until=lambda seen: seen == "retraining")
    demo.kill("ray::ControllerActor")
    eventually(lambda: demo.status().get("counts", {}).get("promoted"), 120)
    result = demo.result()
    happened = kinds(result)
    assert happened.index("warning") < happened.index("drift") < happened.index("retraining")
    assert happened.index("retraining") < happened.index("promoted")
    assert [e["text"] for e in result["events"] if e["text"].startswith("run-1.")], happened
    assert result["failed_requests"] == result["mixed_answers"] == 0
    last = result["fifths"][-1]
    assert last["ours"] - last["frozen"] >= 0.20
    report = (demo.folder / "report.html").read_text()
    assert "<svg" in report
    assert "http://" not in report.replace("http://www.w3.org", "").replace("http://127", "")


@pytest.mark.slow
def test_csv_of_ones_own_with_two_training_workers_and_a_killed_monitor(
    start: Start, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(7_500, 4))
    y = x[:, 0] + x[:, 1] > 0
    y[3_500:] = (x[:, 0] - x[:, 1] > 0)[3_500:]  # the concept changes, the inputs do not
    path = tmp_path / "flip.csv"
    table = np.column_stack([x, y])
    np.savetxt(path, table, delimiter=",", header="a,b,c,d,truth", comments="", fmt="%.5f")
    arguments = ("--data", str(path), "--label", "truth", "--lag", "100", "--workers", "2")
    demo = start("flip", *arguments, "--pace", "100")
    eventually(lambda: demo.status().get("phase"), 120, until=lambda seen: seen == "healthy")
    demo.kill("ray::MonitorActor")
    result = demo.result()
    assert result["failed_requests"] == result["mixed_answers"] == 0
    assert {"drift", "retraining", "promoted"} <= set(kinds(result))
    assert result["fifths"][-1]["ours"] - result["fifths"][-1]["frozen"] >= 0.20
    trained = [v for v in result["versions"] if v["plan"]]
    assert {v["plan"]["workers"] for v in trained} == {2}
    # the labels changed; whether the inputs are taken to have moved as well is up to the budget of
    # one false drift in so many rows
    assert {v["plan"]["kind"] for v in trained} <= {"concept", "both"}
