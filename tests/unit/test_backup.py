"""A state that is packed, lost and unpacked elsewhere is the same state (docs/backup.md)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import torch

from undrift.records import Labels, Predictions, Reference
from undrift.store.blobs import Blobs
from undrift.store.journal import Journal
from undrift.store.store import Store

N = 40


def fill(root: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, 2)).astype(np.float32)
    output = rng.dirichlet(np.ones(3), N).astype(np.float32)
    store = Store(root)
    store.add_version(
        {"weight": torch.ones(3, 2)},
        parent=None,
        reference=Reference(x, np.arange(N) % 3, x, output, np.ones(N, np.bool_)),
        metrics={"accepted": True},
        plan=None,
    )
    ids = tuple(f"row-{i}" for i in range(N))
    rows = Predictions(
        ids, np.zeros(N, np.int64), np.full(N, 1.0), np.ones(N, np.int64), x, x, output
    )
    store.append_predictions(1, rows.numbered(0))
    store.append_labels(2, Labels(ids[:7], np.arange(7) % 3, np.full(7, 2.0)))
    Blobs(root).save("monitor", {"rows": np.arange(3)}, {"tick": 2})
    Journal(root).append({"type": "Tick", "at": 3.0}, at=3.0)


def test_restored_state_holds_versions_rows_labels_checkpoint_and_journal(tmp_path: Path) -> None:
    lost, restored = tmp_path / "shop" / "state", tmp_path / "elsewhere"
    fill(lost)
    before = Store(lost)
    versions, hashes = before.versions(), before.manifest(1).hash
    rows, labels = before.predictions(), before.labels()
    journal = list(Journal(lost).read())
    packed = tmp_path / "state.tar.gz"
    subprocess.run(["tar", "-czf", packed, "-C", lost.parent, lost.name], check=True)
    shutil.rmtree(lost)
    restored.mkdir()
    subprocess.run(["tar", "-xzf", packed, "-C", restored], check=True)
    after = Store(restored / "state")
    assert (after.versions(), after.manifest(1).hash) == (versions, hashes)
    assert torch.equal(after.state_dict(1)["weight"], torch.ones(3, 2))
    assert after.predictions().ids == rows.ids
    np.testing.assert_array_equal(after.predictions().output, rows.output)
    assert after.labels().ids == labels.ids
    saved = Blobs(restored / "state").load("monitor")
    assert saved is not None
    assert saved[1] == {"tick": 2}
    assert list(Journal(restored / "state").read()) == journal != []
    more = Labels(("row-9",), np.array([1]), np.array([4.0]))
    after.append_labels(3, more)  # and it goes on
    assert len(after.labels()) == 8
