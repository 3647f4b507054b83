"""What other requests cost those who ask the model: inference beside feedback and long lists.

    python -m benchmarks.beside [--rounds 5]

A real platform, one replica, a linear model of 250 inputs and 25 classes. A process of its own
asks for one row after the other and notes how long each took, while in turn nothing else happens;
the longest body of feedback that is taken comes, 25,000 labels; one of 16 MB is refused; the
longest JSON of an inference comes, 999 rows; 16 MB of tensors come as bytes and are answered by
400,000 numbers as bytes, or in JSON; 200,000 labels come in requests of 5,000; and 1,000 stored
versions are listed again and again. For that, `serve.max_labels_per_request` is 25,000 and
`serve.max_rows_per_request` 16,000. Milliseconds; medians over the rounds, and the worst of all
rounds in brackets.

Where it goes, measured once by hand, on one core for the 16 MB as bytes: parts of the body joined
3 to 20 ms, checked and copied 2 ms, one forward pass 16 ms during which the others wait, as a
flip may not come between, ids 2 ms, cut into messages for the monitor 1 ms (92 ms, 25 of them at
a time, before they were views). Not separated: what the other processes take of two cores, that
is who sends, HAProxy, through which each body goes, and the monitor, which stores and folds
16,000 rows. By default `serve.max_rows_per_request` is 4,096, a quarter of that.
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
from typing import Any

import httpx
import numpy as np
import torch
from safetensors.torch import save_file

from tests.ray.running import MODEL, Running, free_port, project, undrift
from undrift.serve.protocol import BINARY, LENGTH_HEADER

VERSIONS, LABELS, PART = 1_000, 200_000, 5_000
BIG, MOST_LABELS = 16_000_000, 25_000
WIDTH, CLASSES, JSON_ROWS, ROWS = 250, 25, 999, 16_000
TIMES = 10
QUIET_S = 10.0
PATH = f"/v2/models/{MODEL}"
MODEL_FILE = f"from torch import nn\n\n\ndef build():\n    return nn.Linear({WIDTH}, {CLASSES})\n"


def probe(url: str) -> None:
    """Ask until the input ends, and print when each request began and how long it took."""
    body = json.dumps({"inputs": [tensor(1, data=[0.1] * WIDTH)]}).encode()
    headers = {"Content-Type": "application/json"}
    end = time.monotonic() + 1e9
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
        while time.monotonic() < end:
            began = time.monotonic()
            http.post(f"{PATH}/infer", content=body, headers=headers).raise_for_status()
            print(began, time.monotonic() - began, flush=True)
            time.sleep(0.002)


def tensor(rows: int, **more: Any) -> dict[str, Any]:
    return {"name": "input", "shape": [rows, WIDTH], "datatype": "FP32", **more}


def labels(first: int, n: int) -> bytes:
    return json.dumps([{"id": f"row-{first + i:012d}", "label": i % 3} for i in range(n)]).encode()


def loads(url: str) -> dict[str, Callable[[], None]]:
    """Return what happens beside the inference, by name."""
    http = httpx.Client(base_url=url, timeout=120, trust_env=False)
    headers = {"Content-Type": "application/json"}
    size = len(labels(0, 1_000)) / 1_000
    big, most = labels(0, round(BIG / size)), labels(0, MOST_LABELS)
    values = np.random.default_rng(0).normal(size=ROWS * WIDTH).astype(np.float32)
    few = [float(v) for v in values[: JSON_ROWS * WIDTH]]
    long = json.dumps({"inputs": [tensor(JSON_ROWS, data=few)]}).encode()
    given = [tensor(ROWS, parameters={"binary_data_size": values.nbytes})]
    heads = [
        json.dumps({"inputs": given, "parameters": {"binary_data_output": packed}}).encode()
        for packed in (True, False)
    ]
    in_bytes, in_json = ((head + values.tobytes(), len(head)) for head in heads)
    parts = [labels(start, PART) for start in range(0, LABELS, PART)]

    def feedback(body: bytes) -> None:
        while True:
            answer = http.post(f"{PATH}/feedback", content=body, headers=headers)
            if answer.status_code != 503:
                answer.raise_for_status()
                return
            time.sleep(1.0)

    def refused() -> None:
        for _ in range(TIMES):
            assert http.post(f"{PATH}/feedback", content=big, headers=headers).status_code == 413

    def infer(body: bytes, length: int | None = None) -> None:
        size = {} if length is None else {LENGTH_HEADER: str(length), "Content-Type": BINARY}
        for _ in range(TIMES):
            http.post(f"{PATH}/infer", content=body, headers=headers | size).raise_for_status()

    def listing() -> None:
        end = time.monotonic() + QUIET_S
        while time.monotonic() < end:
            assert len(http.get(f"{PATH}/versions").raise_for_status().json()) >= VERSIONS

    return {
        "nothing": lambda: time.sleep(QUIET_S),
        f"a feedback of {MOST_LABELS:,} labels": lambda: feedback(most),
        f"a feedback of {len(big) / 1e6:.0f} MB, refused": refused,
        f"JSON of {len(few):,} values": lambda: infer(long),
        f"{values.nbytes / 1e6:.0f} MB as bytes": lambda: infer(*in_bytes),
        f"the same, {ROWS * CLASSES:,} values of JSON back": lambda: infer(*in_json),
        f"{LABELS:,} labels": lambda: [feedback(part) for part in parts] and None,
        f"{VERSIONS:,} versions listed": listing,
    }


def wide(folder: Path) -> None:
    """Put a linear model of many inputs in the place of the starter's."""
    rng = np.random.default_rng(0)
    (folder / "model.py").write_text(MODEL_FILE, encoding="utf-8")
    layer = torch.nn.Linear(WIDTH, CLASSES)
    save_file(layer.state_dict(), folder / "weights.safetensors")
    x = rng.normal(size=(200, WIDTH)).astype(np.float32)
    np.savez(folder / "reference.npz", x=x, y=rng.integers(0, CLASSES, len(x)))


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


def write(path: Path, found: dict[str, list[tuple[int, float, float, float]]]) -> None:
    head = (__doc__ or "").partition("\n\n")[2]
    text = f"# Inference beside other requests\n\n{head}\n{table(found)}\n"
    print(text, flush=True)
    path.write_text(text, encoding="utf-8")


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
        limits = {"max_labels_per_request": MOST_LABELS, "max_rows_per_request": ROWS}
        serve = {"port": free_port(), "replicas": 1, **limits}
        model = {"input_shape": [WIDTH], "classes": CLASSES}
        wide(starter)
        kept = {"versions": 2_000}
        path = project(starter, Path(scratch) / "run", serve=serve, model=model, retention=kept)
        running = Running(path)
        try:
            store = running.await_ready().store
            weights, reference = store.state_dict(1), store.reference(1)
            for _ in range(VERSIONS):
                store.add_version(weights, parent=1, reference=reference, metrics={}, plan=None)
            running.client.versions()
            found = measure(running.url, asked.rounds)
            write(asked.table, found)
        finally:
            running.kill_all()


if __name__ == "__main__":
    main()
