"""The power goes at any moment of a platform's life: nothing that was acknowledged is lost."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.disk import Disk
from undrift.control import memory as memories
from undrift.control.memory import SNAPSHOT, Memory
from undrift.control.settings import LifecycleSettings
from undrift.control.story import recover
from undrift.events import PauseRequested, ResumeRequested
from undrift.records import Labels, Predictions, Reference
from undrift.store import tables
from undrift.store.blobs import Blobs
from undrift.store.journal import REARMINGS, Journal
from undrift.store.runs import TrainingFolder
from undrift.store.store import Store

POLICY = LifecycleSettings()
N = 3  # rows of a commit


def rows(seq: int) -> Predictions:
    x = np.full((N, 2), seq, dtype=np.float32)
    ids = tuple(f"{seq}-{i}" for i in range(N))
    stamps = np.full(N, float(seq))
    return Predictions(ids, np.zeros(N, np.int64), stamps, np.ones(N, np.int64), x, x, x).numbered(
        seq * N
    )


def labels(seq: int) -> Labels:
    return Labels(rows(seq).ids, np.zeros(N, np.int64), np.full(N, float(seq)))


class Life:
    """A platform's writer: all kinds of files and tables, one after the other.

    Attributes:
        done: What was acknowledged, by kind: how often.
    """

    KINDS = ("predictions", "labels", "events", "rearmings", "blob", "version", "plan")

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store, self.memory = Store(root), Memory(root, POLICY)
        self.rearmings, self.blobs = Journal(root, REARMINGS), Blobs(root)
        self.torn = self.store.mend() + self.memory.mend() + self.rearmings.mend()
        self.state, self.story = self.memory.recall()
        self.done = dict.fromkeys(self.KINDS, 0)

    def do(self, kind: str) -> None:
        """Write the next of a kind; acknowledged when it returns."""
        getattr(self, f"_{kind}")(self.done[kind])
        self.done[kind] += 1

    def _predictions(self, number: int) -> None:
        self.store.append_predictions(number, rows(number))

    def _labels(self, number: int) -> None:
        self.store.append_labels(number, labels(number))

    def _events(self, number: int) -> None:
        event = (ResumeRequested if number % 2 else PauseRequested)(at=float(number))
        self.memory.record(event)
        self.state, self.story = recover(self.memory._journal.read(), POLICY)
        self.memory.keep(self.state, self.story)

    def _rearmings(self, number: int) -> None:
        self.rearmings.append({"type": "Rearm", "commit": number}, at=0.0)

    def _blob(self, number: int) -> None:
        self.blobs.save("monitor", {"x": np.full(100, number)}, {"number": number})

    def _version(self, number: int) -> None:
        x = rows(0).x
        self.store.add_version(
            {"w": torch.full((4,), float(number))},
            parent=None,
            reference=Reference(x, np.zeros(N, np.int64), x, x, np.ones(N, np.bool_)),
            metrics={},
            plan=None,
            run_id=f"run-{number}",
        )

    def _plan(self, number: int) -> None:
        TrainingFolder(self.root, f"run-{number}").plan(lambda: {"seed": number})

    def found(self) -> dict[str, int]:
        """Return how many of each kind the disk has; all are what they were when written."""
        n = dict.fromkeys(self.KINDS, 0)
        predictions = self.store.predictions()
        n["predictions"] = len(predictions) // N
        assert predictions.ids == sum((rows(k).ids for k in range(n["predictions"])), ())
        told = self.store.labels()
        n["labels"] = len(told) // N
        assert told.ids == sum((labels(k).ids for k in range(n["labels"])), ())
        events = self.memory._journal.read()
        assert [e["at"] for e in events] == list(range(len(events)))
        assert recover(events, POLICY)[0] == self.state
        n["events"] = len(events)
        orders = [order["commit"] for order in self.rearmings.read()]
        assert orders == list(range(len(orders)))
        n["rearmings"] = len(orders)
        blob = self.blobs.load("monitor")
        if blob is not None:
            n["blob"] = blob[1]["number"] + 1
            assert (blob[0]["x"] == blob[1]["number"]).all()
        self.blobs.load(SNAPSHOT)
        for manifest in self.store.versions():
            weights = self.store.state_dict(manifest.version)["w"]
            assert (weights == manifest.version - 1).all()
            self.store.reference(manifest.version)
            n["version"] += 1
        while (self.root / "training" / f"run-{n['plan']}" / "plan.json").exists():
            TrainingFolder(self.root, f"run-{n['plan']}").plan(dict)
            n["plan"] += 1
        return n


def check(left: Path, done: dict[str, int], under_way: str) -> None:
    """Start on what a power cut has left, and go on."""
    life = Life(left / "state" / "models" / "m")
    found = life.found()
    for kind, count in done.items():
        assert found[kind] in (count, count + (kind == under_way)), (kind, found, done)
    life.done = dict(found)
    for kind in Life.KINDS:
        life.do(kind)
    assert life.found() == {kind: count + 1 for kind, count in found.items()}


@pytest.mark.thorough
@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 3))])
def test_power_cut_at_any_moment_loses_nothing_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(tables, "_COMPACT_AT", 4)
    monkeypatch.setattr(memories, "EVERY", 3)
    monkeypatch.setattr(memories, "PAGE", 2)
    rng = random.Random(seed)
    folder, links, left = tmp_path / "disk", tmp_path / "links", tmp_path / "left"
    folder.mkdir(), links.mkdir()
    disk = Disk(folder, links, monkeypatch)
    done: dict[str, int] = dict.fromkeys(Life.KINDS, 0)
    under_way = ""
    share = 0.04

    def moment() -> None:
        if rng.random() < share:
            disk.cut(left, rng, rng.choice((0.0, 0.5, 1.0)))
            try:
                check(left, done, under_way)
            except Exception as error:  # not one that the writer could take for its own
                raise AssertionError(f"{under_way} after {done}: {error}") from error
            shutil.rmtree(left)

    disk.moment = moment
    life = Life(folder / "state" / "models" / "m")
    for _ in range(9):
        for under_way in rng.sample(Life.KINDS, len(Life.KINDS)):
            life.do(under_way)
            done = dict(life.done)
        moment()
