"""What other requests cost those who ask the model: inference beside feedback and long lists.

    python -m benchmarks.beside [--rounds 5]

A real platform, one replica, the starter's model. A process of its own asks for one row after the
other and notes how long each took, while in turn nothing else happens, a body of feedback of 16 MB
comes (`serve.max_labels_per_request` is raised to take it), a million labels come in requests of
5,000, and 1,000 stored versions are listed again and again. Milliseconds; medians over the rounds,
and the worst of all rounds in brackets.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np

from tests.ray.running import MODEL, Running, free_port, project, undrift

VERSIONS, LABELS, PART = 1_000, 1_000_000, 5_000
BIG = 16_000_000
QUIET_S = 10.0
PATH = f"/v2/models/{MODEL}"
ROW = {"name": "input", "shape": [1, 2], "datatype": "FP32", "data": [0.3, -1.2]}


def probe(url: str) -> None:
    """Ask until the input ends, and print when each request began and how long it took."""
    body = json.dumps({"inputs": [ROW]}).encode()
    headers = {"Content-Type": "application/json"}
    end = time.monotonic() + 1e9
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
        while time.monotonic() < end:
            began = time.monotonic()
            http.post(f"{PATH}/infer", content=body, headers=headers).raise_for_status()
            print(began, time.monotonic() - began, flush=True)
            time.sleep(0.002)


def labels(first: int, n: int) -> bytes:
    return json.dumps([{"id": f"row-{first + i:012d}", "label": i % 3} for i in range(n)]).encode()


def loads(url: str) -> dict[str, Callable[[], None]]:
    """Return what happens beside the inference, by name."""
    http = httpx.Client(base_url=url, timeout=120, trust_env=False)
    headers = {"Content-Type": "application/json"}
    size = len(labels(0, 1_000)) / 1_000
    big = labels(0, round(BIG / size))
    parts = [labels(start, PART) for start in range(0, LABELS, PART)]

    def feedback(body: bytes) -> None:
        while True:
            answer = http.post(f"{PATH}/feedback", content=body, headers=headers)
            if answer.status_code != 503:
                answer.raise_for_status()
                return
            time.sleep(1.0)

    def listing() -> None:
        end = time.monotonic() + QUIET_S
        while time.monotonic() < end:
            assert len(http.get(f"{PATH}/versions").raise_for_status().json()) >= VERSIONS

    return {
        "nothing": lambda: time.sleep(QUIET_S),
        f"a feedback of {len(big) / 1e6:.0f} MB": lambda: feedback(big),
        f"{LABELS:,} labels": lambda: [feedback(part) for part in parts] and None,
        f"{VERSIONS:,} versions listed": listing,
    }


def measure(url: str, rounds: int) -> dict[str, list[tuple[int, float, float, float]]]:
    """Return for each load and round: requests, median, 99.9 % and worst, milliseconds."""
    found: dict[str, list[tuple[int, float, float, float]]] = {}
    command = [sys.executable, "-m", "benchmarks.beside", "--probe", url]
    spans: list[tuple[str, float, float]] = []
    beside = loads(url)
    with (
        tempfile.TemporaryFile("w+") as seen,
        subprocess.Popen(command, stdout=seen, text=True) as prober,
    ):
        time.sleep(3.0)
        for _ in range(rounds):
            for name, load in beside.items():
                began = time.monotonic()
                load()
                spans.append((name, began, time.monotonic()))
                print(f"{name}: {spans[-1][2] - began:.1f} s", flush=True)
                time.sleep(1.0)
        prober.terminate()
        prober.wait()
        seen.seek(0)
        lines = [line.split() for line in seen if line.endswith("\n")]
    began, took = np.array(lines, np.float64).T
    for name, start, end in spans:
        inside = 1000 * took[(began + took >= start) & (began <= end)]
        part = (len(inside), float(np.median(inside)), float(np.quantile(inside, 0.999)))
        found.setdefault(name, []).append((*part, float(inside.max())))
    return found


def table(found: dict[str, list[tuple[int, float, float, float]]]) -> str:
    lines = ["| beside | requests | median | 99.9 % | worst |", "|---|---|---|---|---|"]
    for name, rounds in found.items():
        counts, *columns = zip(*rounds, strict=True)
        cells = [f"{statistics.median(c):.1f} ({max(c):.1f})" for c in columns]
        lines.append(f"| {name} | {sum(counts):,} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--table", type=Path, default=Path("docs/beside.md"))
    parser.add_argument("--probe", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.probe:
        probe(asked.probe)
        return
    with tempfile.TemporaryDirectory() as scratch:
        starter = Path(scratch) / "starter"
        assert undrift("init", str(starter), cwd=Path(scratch)).returncode == 0
        serve = {"port": free_port(), "replicas": 1, "max_labels_per_request": 500_000}
        path = project(starter, Path(scratch) / "run", serve=serve, retention={"versions": 2_000})
        running = Running(path)
        try:
            store = running.await_ready().store
            weights, reference = store.state_dict(1), store.reference(1)
            for _ in range(VERSIONS):
                store.add_version(weights, parent=1, reference=reference, metrics={}, plan=None)
            running.client.versions()
            found = measure(running.url, asked.rounds)
        finally:
            running.kill_all()
    head = (__doc__ or "").partition("\n\n")[2]
    text = f"# Inference beside other requests\n\n{head}\n{table(found)}\n"
    print(text)
    asked.table.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
