"""What a change of weights costs those who ask: our swap, and Ray Serve's own update.

    python -m benchmarks.swap [--rounds 5]

The same network of 67 MB, two replicas each, asked for one row after the other over two
connections by a process of its own. In a round undrift promotes another stored version, and Ray
Serve, started as its pages have it, is given other weights: by `serve.run` with another argument,
which replaces its replicas one after the other, and by `user_config`, which its replicas load in
place between two requests. *All new* is the time from the order to the last answer of the old
weights. The 99 % in the swap is that of the requests which began between the order and a second
after *all new*; it is held against that of the five seconds before. Medians over the rounds, with
the lowest and the highest in brackets.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests.helpers.support import eventually
from tests.ray.running import MODEL, Running, free_port, project, undrift
from tests.ray.test_swap import QUIET

STEADY_S, AFTER_S, PAUSE_S, CONNECTIONS, PATIENCE_S = 5.0, 1.0, 0.002, 2, 240.0
TAIL = 64 * 1024  # bytes of what was seen, more than a second of it
INPUTS, WIDTH, CLASSES = 64, 4096, 3
FILE = """\
from torch import nn


def build():
    return nn.Sequential(
        nn.Linear(64, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 3)
    )
"""
OURS, REPLACED, IN_PLACE = "undrift, promote", "Ray Serve, serve.run", "Ray Serve, user_config"
Round = dict[str, float]


def build() -> nn.Module:
    """Return the network: 67 MB of weights."""
    inner = (nn.Linear(INPUTS, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU())
    return nn.Sequential(*inner, nn.Linear(WIDTH, CLASSES))


def weights(folder: Path) -> list[Path]:
    """Write the weights of two versions."""
    paths = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        paths.append(folder / f"weights-{seed}.safetensors")
        save_file(build().state_dict(), paths[-1])
    return paths


# ---------------------------------------------------------------------------- who asks


def probe(url: str) -> None:
    """Ask until this process is ended; print when each began, how long it took, code, version."""
    tensor = {"name": "input", "shape": [1, INPUTS], "datatype": "FP32", "data": [0.1] * INPUTS}
    body = json.dumps({"inputs": [tensor], "x": [[0.1] * INPUTS]}).encode()
    headers, told = {"Content-Type": "application/json"}, threading.Lock()

    def ask() -> None:
        with httpx.Client(timeout=60, trust_env=False) as http:
            while True:
                began = time.monotonic()
                try:
                    answer = http.post(url, content=body, headers=headers)
                    code, version = answer.status_code, answer.json().get("model_version", 0)
                except httpx.HTTPError:
                    code, version = 0, 0
                with told:
                    print(began, time.monotonic() - began, code, version, flush=True)
                time.sleep(PAUSE_S)

    for _ in range(CONNECTIONS):
        threading.Thread(target=ask).start()


class Asked:
    """What the process that asks has seen."""

    def __init__(self, url: str, folder: Path) -> None:
        self._file = folder / "asked.txt"
        with self._file.open("w") as out:
            command = [sys.executable, "-m", "benchmarks.swap", "--probe", url]
            self._process = subprocess.Popen(command, stdout=out)

    def answers(self) -> np.ndarray:
        """Return (n, 4): when each began, how long it took, code and version."""
        lines = self._file.read_text().rpartition("\n")[0].splitlines()
        return np.array([line.split() for line in lines], np.float64).reshape(-1, 4)

    def newest(self) -> np.ndarray:
        """Return the same of the newest, without reading all."""
        with self._file.open("rb") as file:
            file.seek(max(0, self._file.stat().st_size - TAIL))
            lines = file.read().decode().rpartition("\n")[0].splitlines()[1:]
        return np.array([line.split() for line in lines], np.float64).reshape(-1, 4)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


def measured(asked: Asked, change: Callable[[], object], version: int) -> Round:
    """Change the weights and return what that cost; ``version`` is what is answered then."""
    eventually(lambda: len(asked.newest()), PATIENCE_S)
    time.sleep(STEADY_S)
    ordered = time.monotonic()
    change()

    def is_over() -> bool:
        newest = asked.newest()
        newest = newest[newest[:, 0] > time.monotonic() - AFTER_S]
        return len(newest) > 10 and bool((newest[:, 3] == version).all())

    eventually(is_over, PATIENCE_S)
    rows = asked.answers()
    began, took, code, told = rows.T
    old = (began + took)[(told != version) & (code == 200) & (began + took > ordered)]
    over = float(old.max()) if len(old) else ordered
    steady = took[(began >= ordered - STEADY_S) & (began + took < ordered)]
    within = took[(began + took >= ordered) & (began <= over + AFTER_S)]
    before, meanwhile = float(np.quantile(steady, 0.99)), float(np.quantile(within, 0.99))
    return {
        "seconds": over - ordered,
        "failed": float((code[began + took >= ordered] != 200).sum()),
        "steady_ms": 1000 * before,
        "swap_ms": 1000 * meanwhile,
        "ratio": meanwhile / before,
        "worst_ms": 1000 * float(within.max()),
    }


# ---------------------------------------------------------------------------- who answers


def ray_serve(port: int, paths: list[str]) -> None:
    """Run a deployment of stock Ray Serve, and change its weights as each line of input says."""
    import ray
    from ray import serve

    @serve.deployment
    class Model:
        def __init__(self, path: str, version: int) -> None:
            self.net = build().eval()
            self.load(path, version)

        def load(self, path: str, version: int) -> None:
            self.net.load_state_dict(load_file(path))
            self.version = version

        def reconfigure(self, config: dict[str, Any]) -> None:
            self.load(config["path"], config["version"])

        async def __call__(self, request: Any) -> dict[str, Any]:
            given = await request.json()
            with torch.inference_mode():
                answer = torch.softmax(self.net(torch.tensor(given["x"])), dim=1)
            return {"probabilities": answer.tolist(), "model_version": self.version}

    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    first = Model.options(num_replicas=2, ray_actor_options={"num_cpus": 0})
    here = {"path": paths[0], "version": 1}
    deployed = first.options(user_config=here).bind(paths[0], 1)
    serve.run(deployed)
    print("ready", flush=True)
    start = 1
    for line in sys.stdin:
        way, number = line.split()
        there = {"path": paths[(int(number) - 1) % 2], "version": int(number)}
        if way == "replace":
            start = int(number)
        path = paths[(start - 1) % 2]
        serve.run(first.options(user_config=there).bind(path, start))
        print("done", flush=True)


@contextmanager
def stock(folder: Path, paths: list[Path]) -> Iterator[tuple[str, Callable[[str, int], None]]]:
    """Run Ray Serve; yields where it answers, and what changes its weights."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.swap", "--ray", str(port), *map(str, paths)]
    env = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    with (folder / "ray.txt").open("w") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=env
        )
    assert process.stdin is not None
    assert process.stdout is not None
    given, told = process.stdin, process.stdout

    def until(word: str) -> None:
        for line in told:
            if line.strip() == word:
                return
        raise RuntimeError((folder / "ray.txt").read_text()[-2000:])

    def change(way: str, version: int) -> None:
        given.write(f"{way} {version}\n")
        given.flush()
        threading.Thread(target=until, args=("done",), daemon=True).start()

    try:
        until("ready")
        yield f"http://127.0.0.1:{port}/", change
    finally:
        given.close()
        process.wait(60)


def of_ray_serve(folder: Path, paths: list[Path], rounds: int) -> dict[str, list[Round]]:
    """Return what a change cost in Ray Serve, by either way."""
    found: dict[str, list[Round]] = {REPLACED: [], IN_PLACE: []}
    with stock(folder, paths) as (url, change):
        asked, version = Asked(url, folder), 1
        try:
            for _ in range(rounds):
                for name, way in ((REPLACED, "replace"), (IN_PLACE, "load")):
                    version += 1
                    order = partial(change, way, version)
                    found[name].append(measured(asked, order, version))
                    print(name, found[name][-1], flush=True)
        finally:
            asked.end()
    return found


def of_undrift(folder: Path, paths: list[Path], rounds: int) -> dict[str, list[Round]]:
    """Return what our swap cost."""
    starter = folder / "starter"
    assert undrift("init", str(starter), cwd=folder).returncode == 0
    (starter / "model.py").write_text(FILE, encoding="utf-8")
    paths[0].rename(starter / "weights.safetensors")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, INPUTS)).astype(np.float32)
    np.savez(starter / "reference.npz", x=x, y=rng.integers(0, CLASSES, len(x)))
    settings = {
        "serve": {"port": free_port(), "replicas": 2},
        "model": {"input_shape": [INPUTS], "classes": CLASSES},
        "lifecycle": {"mode": "off"},
    }
    running, found = Running(project(starter, folder / "run", **settings)), list[Round]()
    try:
        store = running.await_ready().store
        reference, state = store.reference(1), load_file(paths[1])
        store.add_version(state, parent=1, reference=reference, metrics={}, plan=None)
        asked = Asked(f"{running.url}/v2/models/{MODEL}/infer", folder)
        try:
            for number in range(rounds):
                version = 2 - number % 2
                order = partial(running.client.promote, version)
                found.append(measured(asked, order, version))
                print(OURS, found[-1], flush=True)
                eventually(lambda: running.client.status().phase in QUIET)
        finally:
            asked.end()
    finally:
        running.kill_all()
    return {OURS: found}


# ---------------------------------------------------------------------------- the page


def table(found: dict[str, list[Round]]) -> str:
    """Return the page's table."""
    lines = [
        "| way | rounds | all new, s | not answered | 99 % before, ms | in the swap, ms | ratio "
        "| worst, ms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    columns = ("steady_ms", "swap_ms", "ratio", "worst_ms")
    for name, rounds in found.items():
        cells = [spread([r[c] for r in rounds]) for c in columns]
        failed = sum(int(r["failed"]) for r in rounds)
        seconds = spread([r["seconds"] for r in rounds])
        lines.append(f"| {name} | {len(rounds)} | {seconds} | {failed} | {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    """Return a median with the lowest and the highest."""
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def write(path: Path, found: dict[str, list[Round]], load: float) -> None:
    head = (__doc__ or "").partition("\n\n")[2]
    others = f"The machine's load average was {load:.1f} before anything was started.\n"
    text = f"# A change of weights under load\n\n{head}\n{others}\n{table(found)}\n"
    print(text, flush=True)
    path.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--table", type=Path, default=Path("docs/swap.md"))
    parser.add_argument("--probe", help=argparse.SUPPRESS)
    parser.add_argument("--ray", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.probe:
        probe(asked.probe)
    elif asked.ray:
        ray_serve(int(asked.ray[0]), asked.ray[1:])
    else:
        load = os.getloadavg()[0]
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            paths = weights(folder)
            found = of_ray_serve(folder, paths, asked.rounds)
            found = of_undrift(folder, paths, asked.rounds) | found
        write(asked.table, found, load)


if __name__ == "__main__":
    main()
