"""Makes the golden state folder of this release: `make golden`, once for each release.

It is small and whole: two versions, predictions and late labels in ticks, an order to re-arm with
the monitor's checkpoint, and the journal of the drift that led to the second version. What it
holds is recorded beside it; every later release has to read the same.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.helpers.recording import SETTINGS, acting, feeding, rearm
from tests.helpers.streams import Stream
from undrift.control.lifecycle import initial
from undrift.control.settings import LifecycleSettings
from undrift.control.story import FIRST_VERSION, recover
from undrift.events import Codec, Configured, Event, ProbationPassed, Scored, Swapped, Trained
from undrift.evidence import DriftKind, Evidence, Level, SignalReport
from undrift.store.journal import REARMINGS, Journal
from undrift.store.store import Store

FOLDER = Path(__file__).parents[1] / "data" / "golden"
POLICY = LifecycleSettings(retrain_when="worse", min_regime_rows=50)
SMALL = SETTINGS.model_copy(update={"join_window_rows": 400, "label_lag_rows": 200})


def make(root: Path) -> None:
    """Write a state folder with the classes that a platform writes it with."""
    store = Store(root)
    for seed, parent in ((0, None), (1, 1)):
        store.add_version(
            {"w": torch.arange(3.0) + seed},
            parent=parent,
            reference=Stream(seed).reference(50),
            metrics={"accuracy": 0.75},
            plan=None,
            run_id=f"run-{seed}" if seed else "",
        )
    source: Stream = Stream(5)
    acting(
        root,
        feeding(source, {}, ticks=1),
        rearm,
        feeding(source, {}, ticks=1, version=2, flipped=0.3),
        settings=SMALL,
    )
    journal = Journal(root)
    for event in events():
        journal.append(Codec.encode(event), at=event.at)


def events() -> list[Event]:
    """Return the life of the first two versions."""
    signal = SignalReport("performance", Level.DRIFT, 5.5, 3.0, 5.0, 60, 90)
    found = Evidence(Level.DRIFT, DriftKind.CONCEPT, (signal,), 1, 100, 80, 60, reason="errors")
    return [
        Configured(at=1.0, policy=POLICY.model_dump(), live_version=1),
        Scored(at=2.0, evidence=found),
        Trained(at=3.0, run_id="run-1", version=2, accepted=True, reason="better", regime_rows=60),
        Swapped(at=4.0, run_id="run-1", version=2),
        ProbationPassed(at=5.0, run_id="run-1", detail="as good"),
    ]


def contents(root: Path) -> dict[str, Any]:
    """Return what the present release reads in a state folder, as plain JSON values."""
    store = Store(root)
    state, story = recover(Journal(root).read(), initial(POLICY, FIRST_VERSION).settings)
    rows, labels = store.predictions(), store.labels()
    read = {
        "lifecycle": {
            "phase": state.phase,
            "live": state.live,
            "previous": state.previous,
            "runs": state.runs,
            "regime": [state.regime_kind, state.regime_start, state.regime_rows],
            "not_before": state.not_before,
            "baseline": Codec.encode(state.baseline) if state.baseline else None,
            "told": [entry.text for entry in story.entries],
        },
        "versions": [[m.version, m.hash, m.parent, m.tables] for m in store.versions()],
        "weights": {m.version: store.state_dict(m.version)["w"].tolist() for m in store.versions()},
        "references": [_digest(store.reference(m.version).x) for m in store.versions()],
        "rows": [len(rows), rows.ids[-1], int(rows.row[-1]), rows.version.tolist().count(2)],
        "columns": [_digest(getattr(rows, name)) for name in ("at", "x", "embedding", "output")],
        "labels": [len(labels), labels.ids[0], _digest(labels.label), _digest(labels.at)],
        "orders": Journal(root, REARMINGS).read(),
    }
    report = acting(root, settings=SMALL)
    evidence = Codec.encode(report.evidence)
    for found in evidence["signals"]:
        found["statistic"] = round(found["statistic"], 6)
        found["warning_at"], found["drift_at"] = (
            round(found[limit], 6) for limit in ("warning_at", "drift_at")
        )
    read["monitor"] = {"commit": report.commit, "run_id": report.run_id, "evidence": evidence}
    plain: dict[str, Any] = json.loads(json.dumps(read))
    return plain


def recorded(release: str) -> dict[str, Any]:
    """Return what a release's folder held when it was made."""
    values: dict[str, Any] = json.loads((FOLDER / f"{release}.json").read_text(encoding="utf-8"))
    return values


def _digest(array: np.ndarray) -> str:
    """Return dtype, shape and hash of an array."""
    content = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]
    return f"{array.dtype} {list(array.shape)} {content}"


def _forget_where(root: Path) -> None:
    """Take out of the tables' logs the folder in which they were made."""
    for path in root.glob("tables/*/_delta_log/*.json"):
        entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for entry in entries:
            entry.get("commitInfo", {}).get("operationParameters", {}).pop("location", None)
        lines = [json.dumps(entry, separators=(",", ":")) for entry in entries]
        path.write_text("\n".join(lines), encoding="utf-8")


def main() -> None:
    """Make the folder of this release, and record what it holds."""
    root = FOLDER / version("undrift")
    shutil.rmtree(root, ignore_errors=True)
    make(root)
    _forget_where(root)
    text = json.dumps(contents(root), indent=2)
    root.with_name(f"{root.name}.json").write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
