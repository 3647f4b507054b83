"""What models on one platform cost each other: one fails at every request, one retrains.

    python -m benchmarks.neighbours [--periods 7] [--seconds 10]     # 15 minutes

A real platform of three models, the starter's network, one replica each. A process of its own asks
the third for one row after the other, a few milliseconds apart, and notes how long each took. In
turn nothing else happens; two clients ask the second as fast as it answers; they ask it what it
raises an exception at, every time; the first is trained, run after run, on labels that it was given
before; and the last two at once. Each kind of period comes once to a round, in an order that turns.
Milliseconds: medians over the rounds, with the lowest and the highest in brackets; the ratio is
that of a round's 99 % to the 99 % of the same round's period alone. All share two cores, also the
clients, so what a neighbour costs that fails is held against what it costs where it answers. The
second table is of another platform, whose training has `train.nice: idle`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import numpy as np
import yaml

from tests.helpers.support import eventually
from tests.ray.asking import ROW, infer_body
from tests.ray.running import MODEL, Running, free_port, undrift
from undrift.client import Client

PAUSE_S, CLIENTS, STEPS, LABELS = 0.005, 2, 20_000, 400
FAILING = """\
from torch import nn


class Failing(nn.Sequential):
    def forward(self, x):
        if len(x) < 64 and x.any():
            raise RuntimeError("this model is broken")
        return super().forward(x)


def build():
    return Failing(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3))
"""
QUIET = {"monitor": {"label_lag_rows": 1000}, "lifecycle": {"mode": "off"}}
KINDS = {
    "nothing": (),
    "the second answers": ("answers",),
    "the second fails": ("fails",),
    "the first retrains": ("trains",),
    "both": ("fails", "trains"),
}
TRAINED = {kind: beside for kind, beside in KINDS.items() if not beside or "trains" in beside}
Period = tuple[int, float, float]  # requests, median and 99 %, milliseconds


def probe(url: str) -> None:
    """Ask the third model until this process is ended; print when each began and how long."""
    body = json.dumps(infer_body(ROW)).encode()
    headers = {"Content-Type": "application/json"}
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
        while True:
            began = time.monotonic()
            answer = http.post("/v2/models/third/infer", content=body, headers=headers)
            print(began, time.monotonic() - began, answer.status_code, flush=True)
            time.sleep(PAUSE_S)


def flood(url: str, *, fails: bool) -> None:
    """Ask the second model until this process is ended, for what it fails at or what it answers."""
    body = json.dumps(infer_body(ROW if fails else [[0.0, 0.0]])).encode()
    headers = {"Content-Type": "application/json"}
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
        while True:
            answer = http.post("/v2/models/second/infer", content=body, headers=headers)
            assert answer.is_error is fails, answer.text


def platform(starter: Path, folder: Path, nice: int | str) -> Path:
    """Write the configuration of the three models; returns the YAML file."""
    shutil.copytree(starter, folder)
    (folder / "failing_model.py").write_text(FAILING, encoding="utf-8")
    path = folder / "undrift.yaml"
    own = yaml.safe_load(path.read_text(encoding="utf-8"))
    for shared in ("state", "kubernetes", "serve"):
        own.pop(shared, None)
    own["model"].pop("name", None)
    own |= QUIET
    broken = {**own, "model": {**own["model"], "factory": "failing_model:build"}}
    models = {
        MODEL: {**own, "train": {"idle_s": 600.0, "nice": nice}},
        "second": broken,
        "third": own,
    }
    data = {"models": models, "serve": {"port": free_port()}}
    path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return path


@contextmanager
def process(mode: str, url: str, seen: object = subprocess.DEVNULL) -> Iterator[None]:
    """Run a client in a process of its own while the block runs."""
    command = [sys.executable, "-m", "benchmarks.neighbours", mode, url]
    with subprocess.Popen(command, stdout=seen) as child:  # type: ignore[call-overload]
        try:
            yield
            assert child.poll() is None, f"the client that was to {mode} has ended"
        finally:
            child.terminate()


@contextmanager
def training(client: Client) -> Iterator[None]:
    """Train the first model while the block runs, and give each run up afterwards."""
    client.retrain(method="finetune", steps=STEPS)
    eventually(lambda: (run := client.status().run) is not None and run.training)
    try:
        yield
        assert client.status().phase == "retraining", "the training was too short"
    finally:
        client.pause()
        client.resume()


def measure(
    url: str, client: Client, sorts: dict[str, tuple[str, ...]], periods: int, seconds: float
) -> dict[str, list[Period]]:
    """Return what the third model's caller saw in each kind of period, round for round."""
    spans: list[tuple[str, float, float]] = []
    with tempfile.TemporaryFile("w+") as seen:
        with process("--probe", url, seen):
            time.sleep(seconds)  # caches and connections are warm
            for number in range(periods):
                kinds = list(sorts)
                turn = number % len(kinds)
                for kind in kinds[turn:] + kinds[:turn]:
                    with ExitStack() as beside:
                        for mode in sorted({"fails", "answers"} & set(sorts[kind])):
                            for _ in range(CLIENTS):
                                beside.enter_context(process(f"--{mode}", url))
                        if "trains" in sorts[kind]:
                            beside.enter_context(training(client))
                        time.sleep(2.0)
                        spans.append((kind, time.monotonic(), time.monotonic() + seconds))
                        time.sleep(seconds)
                    time.sleep(2.0)
        seen.seek(0)
        lines = [line.split() for line in seen if line.endswith("\n")]
    began, took, code = np.array(lines, np.float64).T
    assert (code == 200).all(), "the third model has failed"
    found: dict[str, list[Period]] = {kind: [] for kind in sorts}
    for kind, start, end in spans:
        inside = 1000 * took[(began >= start) & (began < end)]
        quantiles = np.quantile(inside, [0.5, 0.99])
        found[kind].append((len(inside), float(quantiles[0]), float(quantiles[1])))
    return found


def table(found: dict[str, list[Period]]) -> str:
    """Return the page's table."""
    lines = [
        "| beside | requests | median | 99 % | 99 % against alone |",
        "|---|---|---|---|---|",
    ]
    alone = [high for _, _, high in found["nothing"]]
    for kind, rounds in found.items():
        counts, middle, high = zip(*rounds, strict=True)
        ratios = [one / other for one, other in zip(high, alone, strict=True)]
        cells = [f"{spread(middle)} | {spread(high)}", spread(ratios)]
        lines.append(f"| {kind} | {sum(counts):,} | {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(values: list[float] | tuple[float, ...]) -> str:
    """Return a median with the lowest and the highest."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def labelled(client: Client, reference: Path) -> None:
    """Give the first model labels to train on."""
    data = np.load(reference)
    x, y = data["x"][:LABELS], data["y"][:LABELS]
    assert client.feedback(client.infer(x, "labelled").ids, y.tolist())["rejected"] == []
    eventually(lambda: client.drift().labelled, until=lambda seen: seen >= LABELS)


def write(path: Path, tables: list[str], load: float) -> None:
    head = (__doc__ or "").partition("\n\n")[2]
    others = f"The machine's load average was {load:.1f} before a platform was started.\n"
    text = "\n".join(["# Models beside each other\n", head, others, "\n\n".join(tables)]) + "\n"
    print(text, flush=True)
    path.write_text(text, encoding="utf-8")


def tried(
    nice: int | str, sorts: dict[str, tuple[str, ...]], periods: int, seconds: float
) -> dict[str, list[Period]]:
    """Return what `measure` finds on a platform of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        starter = Path(scratch) / "starter"
        assert undrift("init", str(starter), cwd=Path(scratch)).returncode == 0
        path = platform(starter, Path(scratch) / "run", nice)
        running = Running(path, model=MODEL)
        try:
            client = running.await_ready().client
            labelled(client, running.config.reference)
            return measure(running.url, client, sorts, periods, seconds)
        finally:
            running.kill_all()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--periods", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--table", type=Path, default=Path("docs/neighbours.md"))
    parser.add_argument("--probe", help=argparse.SUPPRESS)
    parser.add_argument("--fails", help=argparse.SUPPRESS)
    parser.add_argument("--answers", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.probe:
        probe(asked.probe)
    if asked.fails or asked.answers:
        flood(asked.fails or asked.answers, fails=bool(asked.fails))
    load = os.getloadavg()[0]
    times = asked.periods, asked.seconds
    found = [tried(10, KINDS, *times), tried("idle", TRAINED, *times)]
    write(asked.table, [table(each) for each in found], load)


if __name__ == "__main__":
    main()
