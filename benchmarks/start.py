"""What a start of the controller costs after a long life: time, memory, and events that are folded.

    python benchmarks/start.py [--events 100000]

The journal is evidence that warns and calms down again, 1 KB an event. The first start has no
snapshot and folds them all; the second is the usual one.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa

from undrift.control.memory import Memory
from undrift.control.settings import LifecycleSettings
from undrift.control.story import Story
from undrift.events import Codec, Scored
from undrift.evidence import DriftKind, Evidence, Level, SignalReport
from undrift.store.files import open_root
from undrift.store.journal import EVENTS
from undrift.store.tables import Table

AT_ONCE = 10_000


def write(root: Path, events: int) -> None:
    """Leave a journal of this many events."""
    table = Table(open_root(root) / "tables" / EVENTS)
    for start in range(0, events, AT_ONCE):
        rows = [_row(seq) for seq in range(start, min(start + AT_ONCE, events))]
        table.append(rows[-1]["seq"], pa.Table.from_pylist(rows))


def _row(seq: int) -> dict[str, object]:
    level = Level.NONE if seq % 2 else Level.WARNING
    names = ("input", "output", "performance", "segments")
    signals = tuple(SignalReport(name, level, 3.0, 1.0, 2.0, seq, seq) for name in names)
    found = Evidence(level, DriftKind.NONE, signals, 1, seq, seq, reason="inputs have moved")
    body = json.dumps(Codec.encode(Scored(at=float(seq), evidence=found)))
    return {
        "seq": seq,
        "at": float(seq),
        "type": "Scored",
        "run_id": "",
        "cause": "",
        "body": body,
    }


def start(root: Path) -> dict[str, float]:
    """Start, and return what it cost."""
    folded, follow = [0], Story.follow

    def counted(self: Story, *args: object) -> object:
        folded[0] += 1
        return follow(self, *args)  # type: ignore[arg-type]

    Story.follow = counted  # type: ignore[assignment, method-assign]
    begun = time.perf_counter()
    memory = Memory(root, LifecycleSettings())
    _, story = memory.recall()
    seconds = time.perf_counter() - begun
    page = memory.page(story, 0, 1000)
    return {
        "events folded": folded[0],
        "seconds": round(seconds, 2),
        "first 1,000 told, seconds": round(time.perf_counter() - begun - seconds, 2),
        "told": story.told,
        "on the page": len(page.events),
        "peak memory, MB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def main() -> None:
    """Write a journal, and start on it twice."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--start", type=Path)
    asked = parser.parse_args()
    if asked.start is not None:
        print(json.dumps(start(asked.start)))
        return
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), asked.events)
        for _ in range(2):
            subprocess.run([sys.executable, __file__, "--start", folder], check=True)


if __name__ == "__main__":
    main()
