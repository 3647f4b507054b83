"""Does the state stay as large as its limits say, however long it runs?

    python -m benchmarks.retention [--days 30]

A month is played in virtual time: a row of 128 numbers a second, in commits of ten minutes, each
with the labels of the ten minutes before, and `retention.days: 1`. The real store writes it, so the
tables grow, are compacted and dropped from as they are; the hour for which readers may still use a
dropped file is left out, since it is an hour of real time. At the end of each day: bytes on the
disk, states that stand for dropped rows, the rows that are left and how old the oldest is.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from undrift.monitor.retention import Retention, kept
from undrift.records import Labels, Predictions
from undrift.store import tables
from undrift.store.blobs import Blobs
from undrift.store.settings import RetentionSettings
from undrift.store.store import Store

ROWS, WIDTH = 600, 128  # of a commit, ten minutes of a row a second
DAY = 86_400
WINDOW, POOL = 20_000, 20_000  # rows that labels may be late, and that a retraining reads


def rows(first: int, rng: np.random.Generator) -> Predictions:
    row = np.arange(first, first + ROWS)
    x = rng.normal(size=(ROWS, WIDTH)).astype(np.float32)
    return Predictions(
        ids=tuple(f"row-{i}" for i in row),
        row=row,
        at=row.astype(np.float64),
        version=np.ones(ROWS, np.int64),
        x=x,
        embedding=x[:, :16],
        output=np.full((ROWS, 2), 0.5, np.float32),
    )


def disk(root: Path) -> int:
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


def play(root: Path, days: int) -> list[tuple[int, int, int, int, float]]:
    """Return day, bytes, states, rows left and the age of the oldest in days, for each day."""
    store, blobs, rng = Store(root), Blobs(root), np.random.default_rng(0)
    retention = Retention(store, blobs, RetentionSettings(days=1.0), WINDOW, POOL)
    found, before = [], None
    for commit in range(1, days * DAY // ROWS + 1):
        now = rows((commit - 1) * ROWS, rng)
        store.append_predictions(commit, now)
        if before is not None:
            store.append_labels(commit, Labels(before.ids, before.row % 2, now.at))
        before, done = now, commit * ROWS
        if commit % 10 == 0:  # an hour and forty minutes, as a checkpoint now and then
            monitor = {"format": 0, "labelled_row": done - ROWS}
            meta = {"commit": commit, "row": done, "monitor": monitor}
            retention.hold({"state": np.zeros(100_000)}, meta, float(done))
            assert not retention.trouble, retention.trouble
        if done % DAY < ROWS:
            first = store.first_row() or 0
            left = done - first
            found.append((done // DAY, disk(root), len(kept(blobs)), left, left / DAY))
            print(found[-1], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--table", type=Path, default=Path("docs/retention.md"))
    options = parser.parse_args()
    tables._READERS_HOURS = 0
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        found = play(Path(scratch) / "state", options.days)
    seconds = time.perf_counter() - begun
    lines = [
        f"| {day} | {size / 2**20:.0f} | {starts} | {left:,} | {age:.2f} |"
        for day, size, starts, left, age in found
        if day <= 5 or day % 5 == 0
    ]
    head = (__doc__ or "").partition("\n\n")[2]
    text = (
        f"# A month with a day of retention\n\n{head}\nPlayed in {seconds:.0f} s.\n\n"
        "| day | MiB on the disk | states | rows left | oldest, days |\n|---|---|---|---|---|\n"
        + "\n".join(lines)
        + "\n"
    )
    print(text)
    options.table.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
