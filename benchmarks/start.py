"""What starts cost after a long life: seconds, memory, and whether all is as it was.

    python -m benchmarks.start [--events 100000] [--rows 10000000]

The controller starts on a journal of evidence that warns and calms down again, 1 KB an event: at
first without a snapshot, so that it folds them all, and then as usual.

The monitor starts on so many stored predictions of six features. It is killed with SIGKILL when
nearly all that may be folded anew after a kill is unkept, and started again; evidence is compared
byte for byte. Memory is the peak of the process, PyTorch included.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa

from tests.helpers.streams import Stream
from undrift.control.memory import Memory
from undrift.control.settings import LifecycleSettings
from undrift.control.story import Story
from undrift.events import Codec, Scored
from undrift.evidence import DriftKind, Evidence, Level, SignalReport
from undrift.monitor.actor import CHECKPOINT, CHECKPOINT_ITEMS, MonitorActor
from undrift.monitor.monitor import Monitor
from undrift.monitor.settings import MonitorSettings
from undrift.records import Labels
from undrift.store.blobs import Blobs
from undrift.store.journal import EVENTS
from undrift.store.root import open_root
from undrift.store.store import Store
from undrift.store.tables import Table

AT_ONCE = 10_000
COMMIT, LAG = 1_000, 20_000
SETTINGS = MonitorSettings(label_lag_rows=LAG)


def write_journal(root: Path, events: int) -> None:
    """Leave a journal of this many events."""
    table = Table(open_root(root) / "tables" / EVENTS)
    for start in range(0, events, AT_ONCE):
        rows = [_event(seq) for seq in range(start, min(start + AT_ONCE, events))]
        table.append(rows[-1]["seq"], pa.Table.from_pylist(rows))


def _event(seq: int) -> dict[str, Any]:
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


def start_controller(root: Path) -> dict[str, Any]:
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
    memory.page(story, 0, 1000)
    return {"folded": folded[0], "seconds": seconds, "MB": _peak()}


def write_predictions(root: Path, rows: int) -> None:
    """Leave so many predictions, and a monitor's state after them, as one that has folded them."""
    store, source = Store(root), Stream(0)
    weights: dict[str, Any] = {}
    reference = source.reference(2_000)
    store.add_version(weights, parent=None, reference=reference, metrics={}, plan=None)
    for commit in range(1, rows // AT_ONCE + 1):
        store.append_predictions(commit, source.take(AT_ONCE)[0])
    arrays, meta = Monitor(SETTINGS, store.reference(1), 1).state()
    whole = {"monitor": meta, "version": 1, "commit": rows // AT_ONCE, "row": source.row}
    Blobs(root).save(CHECKPOINT, arrays, {**whole, "settings": SETTINGS.model_dump_json()})


async def live(root: Path, rows: int) -> None:
    """Commit rows and late labels, tell the evidence, and be killed before the state is kept."""
    actor, source = MonitorActor(root, SETTINGS, 1), Stream(1)
    source.row, waiting = rows, []
    done = 0
    while done < 2 * LAG or actor._unkept < 0.9 * CHECKPOINT_ITEMS:
        predictions, labels = source.take(COMMIT)
        waiting.append(labels)
        actor.ingest(predictions)
        if len(waiting) > LAG // COMMIT:
            late: Labels = waiting.pop(0)
            await actor.feedback(late)
        await actor.drain()
        done += COMMIT
    print(json.dumps({"evidence": _evidence(actor), "unkept": actor._unkept}), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


async def start_monitor(root: Path) -> dict[str, Any]:
    """Start, and return what it cost and what it knows."""
    begun = time.perf_counter()
    actor = MonitorActor(root, SETTINGS, 1)
    return {
        "seconds": time.perf_counter() - begun,
        "MB": _peak(),
        "evidence": _evidence(actor),
    }


def _evidence(actor: MonitorActor) -> str:
    return json.dumps(Codec.encode(actor.report().evidence))


def _peak() -> int:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def _run(what: str, root: Path, rows: int = 0) -> tuple[dict[str, Any], float]:
    """Return what a process of its own says, and the seconds of its whole life."""
    command = [sys.executable, "-m", "benchmarks.start", "--do", what, "--root", str(root)]
    begun = time.perf_counter()
    run = subprocess.run(
        [*command, "--rows", str(rows)], stdout=subprocess.PIPE, text=True, check=False
    )
    return dict(json.loads(run.stdout)), time.perf_counter() - begun


def measure(events: int, rows: int) -> list[str]:
    """Return the lines of the table."""
    lines = []
    with tempfile.TemporaryDirectory() as scratch:
        journal, record = Path(scratch) / "journal", Path(scratch) / "record"
        write_journal(journal, events)
        for what in ("without a snapshot", "as usual"):
            found, life = _run("controller", journal)
            lines.append(_line(f"controller, {events:,} events, {what}", found, life))
        write_predictions(record, rows)
        before, _ = _run("live", record, rows)
        found, life = _run("monitor", record)
        same = "the same" if found["evidence"] == before["evidence"] else "NOT THE SAME"
        name = f"monitor, {rows:,} rows, {before['unkept']:,} to fold anew; evidence {same}"
        lines.append(_line(name, found, life))
    return lines


def _line(name: str, found: dict[str, Any], life: float) -> str:
    line = f"| {name} | {found['seconds']:.2f} | {life:.1f} | {found['MB']} |"
    print(line, flush=True)
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--table", type=Path, default=Path("docs/start.md"))
    parser.add_argument("--do", choices=("controller", "live", "monitor"), help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.do == "controller":
        print(json.dumps(start_controller(asked.root)))
    elif asked.do == "live":
        asyncio.run(live(asked.root, asked.rows))
    elif asked.do == "monitor":
        print(json.dumps(asyncio.run(start_monitor(asked.root))))
    else:
        head = (__doc__ or "").partition("\n\n")[2]
        text = (
            f"# Starts after a long life\n\n{head}\n"
            "| start | seconds | with imports, seconds | peak memory, MB |\n|---|---|---|---|\n"
            + "\n".join(measure(asked.events, asked.rows))
            + "\n"
        )
        asked.table.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
