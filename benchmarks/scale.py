"""What the control plane costs as replicas, rows and labels grow: real parts, simulated clients.

    python benchmarks/scale.py      # some three minutes; writes docs/scale.md and docs/scale.svg

Replicas are simulated by the messages that they would send; the monitor with its store, the label
join, the swap coordinator and the metrics page are the platform's own. Times are CPU seconds of one
process, medians of several runs. Transport between processes and nodes is not in them.
"""

from __future__ import annotations

import asyncio
import pickle
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import ray
from matplotlib.figure import Figure
from torch import nn

from undrift.monitor.actor import MonitorActor
from undrift.monitor.join import LabelJoin
from undrift.monitor.settings import MonitorSettings
from undrift.records import Assignment, Labels, Predictions, Reference
from undrift.serve.metrics import ReplicaMetrics, exposition
from undrift.serve.settings import SwapSettings
from undrift.serve.swap import Commit, Prepare, ReplicaStatus, SwapCoordinator, Target
from undrift.store.store import Store

RUNS = 5
REPLICAS = (1, 3, 10, 30, 100, 300, 1000)
VOLUMES = (1_000, 10_000, 100_000, 1_000_000)
FEATURES, EMBEDDING, CLASSES = 20, 64, 5
MESSAGE_ROWS = (1, 32)
PAGE = Path(__file__).with_name("scale.page.md")
DOCS = Path(__file__).parents[1] / "docs"


def median(once: Callable[[], float], runs: int = RUNS) -> float:
    return statistics.median(once() for _ in range(runs))


def rows(n: int, prefix: str, seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    return Predictions(
        ids=tuple(f"{prefix}-{i}" for i in range(n)),
        row=np.arange(n, dtype=np.int64),
        at=np.full(n, 1.0),
        version=np.ones(n, np.int64),
        x=rng.normal(size=(n, FEATURES)).astype(np.float32),
        embedding=rng.normal(size=(n, EMBEDDING)).astype(np.float32),
        output=rng.dirichlet(np.ones(CLASSES), n).astype(np.float32),
    )


def prepare(state: Path) -> Path:
    """Store a version to be monitored."""
    known = rows(1000, "reference")
    reference = Reference(
        x=known.x,
        y=np.random.default_rng(1).integers(CLASSES, size=1000),
        embedding=known.embedding,
        output=known.output,
        recent=np.ones(1000, np.bool_),
    )
    weights = nn.Linear(EMBEDDING, CLASSES).state_dict()
    Store(state).add_version(weights, parent=None, reference=reference, metrics={}, plan=None)
    return state


def tick_seconds(replicas: int, size: int) -> float:
    """Return the cost of one tick in which each replica's message of `size` rows comes in."""

    async def measure() -> float:
        with tempfile.TemporaryDirectory() as folder:
            actor = MonitorActor(prepare(Path(folder)), MonitorSettings(), live_version=1)
            taken = []
            for run in range(RUNS + 1):
                sent = [pickle.dumps(rows(size, f"{run}-{i}", i)) for i in range(replicas)]
                began = time.process_time()
                for message in sent:
                    actor.ingest(pickle.loads(message))
                await actor.drain()
                taken.append(time.process_time() - began)
            actor._loop.cancel()
            return statistics.median(taken[1:])

    return asyncio.run(measure())


def join_seconds(volume: int) -> float:
    """Return the cost of joining a label when the window holds `volume` predictions."""
    join = LabelJoin(window=volume)
    join.add(rows(volume, "r"))
    n = min(volume, 10_000)
    labels = Labels(tuple(f"r-{i}" for i in range(n)), np.zeros(n, np.int64), np.full(n, 2.0))
    began = time.process_time()
    joined, _ = join.label(labels)
    taken = time.process_time() - began
    assert len(joined) == n
    return taken / n


def swap_seconds(replicas: int) -> float:
    """Return what the coordinator spends on one swap over all replicas."""
    names = [f"replica-{i}" for i in range(replicas)]
    swaps = SwapCoordinator(Target(Assignment(1), ("a",)), SwapSettings())
    for name in names:
        swaps.poll(name, ReplicaStatus(1), 0.0)
    began = time.process_time()
    swaps.begin("s", Target(Assignment(2), ("b",)), 0.0)
    for name in names:
        assert isinstance(swaps.poll(name, ReplicaStatus(1), 0.0), Prepare)
    prepared = ReplicaStatus(1, "s", 2)
    commands = [swaps.poll(name, prepared, 0.0) for name in names]
    assert isinstance(commands[-1], Commit)
    for name in names:
        swaps.poll(name, ReplicaStatus(2), 0.0)
    taken = time.process_time() - began
    assert swaps.target.live == 2
    return taken


def page_seconds(replicas: int) -> float:
    """Return the cost of one scrape: the counts of all replicas, summed and written."""
    counts = ReplicaMetrics("m")
    for version in (1, 2):
        counts.request(version, 200, 0.004)
    counts.batch(2)
    counts.tap(offered=10, dropped=0)
    snapshots = [counts.snapshot()] * replicas
    began = time.process_time()
    exposition(snapshots)
    return time.process_time() - began


class Mailbox(MonitorActor):
    """The monitor actor, which also tells what its process has spent."""

    def spent(self) -> float:
        return time.process_time()


def call_seconds() -> float:
    """Return what the monitor's process spends on one message of one row, sent through Ray."""
    calls = 2000
    with tempfile.TemporaryDirectory() as folder:
        actor = ray.remote(Mailbox).remote(prepare(Path(folder)), MonitorSettings(), 1)
        taken = []
        for run in range(RUNS):
            parts = [rows(1, f"{run}-{i}", i) for i in range(calls)]
            began = ray.get(actor.spent.remote())
            ray.get([actor.ingest.remote(part) for part in parts])
            ray.get(actor.drain.remote())
            taken.append((ray.get(actor.spent.remote()) - began) / calls)
        ray.kill(actor)
        return statistics.median(taken)


def _rounded(value: float) -> int:
    """Return a number to two digits."""
    return int(float(f"{value:.2g}"))


def write(
    ticks: dict[int, list[float]],
    join: list[float],
    swap: list[float],
    page: list[float],
    call: float,
) -> None:
    """Write the page and its plot."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for size, seconds in ticks.items():
        left.loglog(REPLICAS, np.array(seconds) * 1e3, "o-", label=f"tick, {size} rows a message")
    left.loglog(REPLICAS, np.array(swap) * 1e3, "s-", label="swap, coordinator")
    left.loglog(REPLICAS, np.array(page) * 1e3, "^-", label="metrics page")
    left.set(xlabel="replicas", ylabel="CPU, ms")
    left.legend(fontsize=7)
    right.loglog(VOLUMES, np.array(join) * 1e6, "o-")
    right.set(xlabel="predictions in the join window", ylabel="CPU for a label, us")
    figure.savefig(DOCS / "scale.svg", metadata={"Date": None})
    lines = [
        "| replicas | tick, 1 row each, ms | tick, 32 rows each | swap | metrics page |",
        "|---|---|---|---|---|",
        *(
            f"| {n:,} | {a * 1e3:.1f} | {b * 1e3:.1f} | {s * 1e3:.2f} | {p * 1e3:.2f} |"
            for n, a, b, s, p in zip(REPLICAS, ticks[1], ticks[32], swap, page, strict=True)
        ),
        "",
        "| predictions in the window | a label joined, us |",
        "|---|---|",
        *(f"| {n:,} | {s * 1e6:.2f} |" for n, s in zip(VOLUMES, join, strict=True)),
    ]
    row = (ticks[32][-1] - ticks[32][0]) / (32 * (REPLICAS[-1] - REPLICAS[0]))
    text = PAGE.read_text(encoding="utf-8").format(
        table="\n".join(lines),
        row=row * 1e6,
        rows=_rounded(1 / row),
        call=call * 1e6,
        calls=_rounded(1 / call),
        replicas=_rounded(0.1 / call),
        swap=swap[-1] * 1e3,
    )
    (DOCS / "scale.md").write_text(text, encoding="utf-8")


def main() -> None:
    ticks = {n: [tick_seconds(r, n) for r in REPLICAS] for n in MESSAGE_ROWS}
    join = [median(lambda v=v: join_seconds(v), 3) for v in VOLUMES]
    swap = [median(lambda r=r: swap_seconds(r)) for r in REPLICAS]
    page = [median(lambda r=r: page_seconds(r)) for r in REPLICAS]
    with ray.init(num_cpus=1, include_dashboard=False, logging_level="error"):
        call = call_seconds()
    write(ticks, join, swap, page, call)


if __name__ == "__main__":
    main()
