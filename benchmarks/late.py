"""Labels that come a week late: how fast their predictions are found in the store.

    python -m benchmarks.late FOLDER [--rows 10000000] [--labels 200000]

Ten million predictions of four numbers are in the store, one each 60 ms, so they span a week. The
oldest are asked for by their ids, in order as their labels come in bulk; as many drawn from all of
them at random; and the oldest once more by the whole way of the monitor: joined with the window in
vain, stored in commits of 5,000, and looked up. Not in these figures: HTTP, and the signals. One
process, one core; what it takes in memory is its own peak above that before. The store stays in
FOLDER and is gone on with if it is not whole yet.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from undrift.monitor.join import LabelJoin
from undrift.monitor.late import LateLabels
from undrift.records import Labels, Predictions
from undrift.store.blobs import Blobs
from undrift.store.store import Store

PART, STEP_MS, BEGUN_MS = 50_000, 60, 1_750_000_000_000
WINDOW, COMMIT = 100_000, 5_000


def names(rows: np.ndarray) -> list[str]:
    """Return the UUIDv7 of each row."""
    noise = (rows * 0x9E3779B97F4A7C15 & (2**62 - 1)).tolist()
    times = (BEGUN_MS + rows * STEP_MS).tolist()
    return [
        f"{t >> 16:08x}-{t & 0xFFFF:04x}-7000-{0x8000 | n >> 48:04x}-{n & (1 << 48) - 1:012x}"
        for t, n in zip(times, noise, strict=True)
    ]


def fill(store: Store, rows: int) -> None:
    """Store what is not there yet."""
    rng = np.random.default_rng(0)
    begun = max(store.as_of()["predictions"], 0)
    for part in range(begun, rows // PART):
        row = np.arange(part * PART, (part + 1) * PART, dtype=np.uint64)
        x = rng.normal(size=(PART, 4)).astype(np.float32)
        found = Predictions(
            ids=tuple(names(row)),
            row=row.astype(np.int64),
            at=(BEGUN_MS + row * np.uint64(STEP_MS)).astype(np.float64) / 1000 + 0.005,
            version=np.ones(PART, np.int64),
            x=x,
            embedding=x,
            output=np.full((PART, 2), 0.5, np.float32),
        )
        store.append_predictions(part + 1, found, ours=True)
        if part % 20 == 19:
            print(f"{(part + 1) * PART:,} rows stored", flush=True)
    store.compact()


def measure(store: Store, rows: np.ndarray) -> tuple[float, float]:
    """Return labels a second, and the peak of memory above that before, MB."""
    ids = names(rows.astype(np.uint64))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    found = sum(len(part) for part in store.look_up(ids))
    spent = time.process_time() - began
    assert found == len(rows)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return len(rows) / spent, (peak - before) / 1000


def whole_way(store: Store, rows: np.ndarray, newest: int) -> tuple[float, float]:
    """Return what `measure` does, of labels that the monitor takes."""
    window = store.predictions(newest - WINDOW - COMMIT)
    ids, at = names(rows.astype(np.uint64)), np.full(COMMIT, (BEGUN_MS + newest * STEP_MS) / 1000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as scratch:
        join, late = LabelJoin(WINDOW), LateLabels(store, Blobs(scratch))
        join.add(window)
        labels, began = Store(scratch), time.process_time()
        for start in range(0, len(ids), COMMIT):
            part = tuple(ids[start : start + COMMIT])
            told = Labels(part, np.zeros(len(part), np.int64), at[: len(part)])
            labels.append_labels(1 + start // COMMIT, told, ours=True)
            join.label(told)
            late.take(join.left)
        late.look_up(newest)
        spent = time.process_time() - began
    view = late.view()
    assert view is not None
    assert view["found"] == len(rows)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return len(rows) / spent, (peak - before) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--labels", type=int, default=200_000)
    parser.add_argument("--table", type=Path, default=Path("docs/late.md"))
    asked = parser.parse_args()
    pa.set_cpu_count(1)
    store = Store(asked.folder)
    fill(store, asked.rows)
    everywhere = np.random.default_rng(1).choice(asked.rows, asked.labels, replace=False)
    lines = ["| labels | a second of one core | MB more |", "|---|---|---|"]
    cases = {"in order, the oldest": np.arange(asked.labels), "at random": np.sort(everywhere)}
    for name, rows in cases.items():
        rate, peak = measure(store, rows)
        lines.append(f"| {len(rows):,} {name} | {rate:,.0f} | {peak:,.0f} |")
        print(lines[-1], flush=True)
    rate, peak = whole_way(store, cases["in order, the oldest"], asked.rows)
    lines.append(f"| {asked.labels:,} joined, stored and looked up | {rate:,.0f} | {peak:,.0f} |")
    print(lines[-1], flush=True)
    head = (__doc__ or "").partition("\n\n")[2]
    asked.table.write_text("# Labels a week late\n\n" + head + "\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
