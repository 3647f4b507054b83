"""A version trained again from the state alone: the same bits, or the reason why not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from tests.helpers import retraining as small
from undrift.app import prepare_state
from undrift.cli.verbs import app
from undrift.config import Config, load_config
from undrift.model.network import factory_of
from undrift.store.store import Store
from undrift.store.versions import CONDITIONS
from undrift.train.attempt import attempt
from undrift.train.conditions import conditions
from undrift.train.rebuild import Rebuilt, rebuild
from undrift.train.stored import read_pool
from undrift.train.trainee import Trainee

MODEL = """\
import torch
from torch import nn


def build():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(2, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Dropout(0.1),
        nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, {outputs})
    )
"""
ROWS, COMMITS = 600, 6


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def project(folder: Path, *, numbers: bool = False, changed: int = 0) -> Config:
    """A model, 600 rows in six commits whose world turns after 200, and a label to each."""
    folder.mkdir(exist_ok=True)
    name = f"model_{folder.name}"  # of its own: modules of one name are imported once
    source = MODEL.format(outputs=1 if numbers else 2)
    (folder / f"{name}.py").write_text(source, encoding="utf-8")
    section = {"name": "m", "factory": f"{name}:build", "weights": "w.safetensors"}
    kind = {"task": "regression"} if numbers else {"classes": 2}
    data = {"model": {**section, "input_shape": [2], **kind}, "reference": "reference.npz"}
    path = folder / "undrift.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    scope: dict[str, Any] = {}
    exec(source, scope)
    save_file(scope["build"]().state_dict(), folder / "w.safetensors")
    x, y = small.rows(200, turned=False, seed=2, numbers=numbers)
    np.savez(folder / "reference.npz", x=x, y=y.astype(np.float32) if numbers else y)
    config = load_config(path)
    prepare_state(config)
    store = Store(config.model_state)
    old, new = (small.rows(n, turned=n > 200, seed=n, numbers=numbers) for n in (200, 400))
    x, y = (np.concatenate(pair) for pair in zip(old, new, strict=True))
    x[changed] += 1e-6 if changed else 0.0
    every = ROWS // COMMITS
    for seq in range(COMMITS):
        part = np.arange(seq * every, (seq + 1) * every)
        rows = small.predictions(x[part], int(part[0]))
        ids = tuple(f"row-{i}" for i in part)
        outputs = rows.output[:, :1] if numbers else rows.output
        rows = replace(rows, ids=ids, at=part.astype(np.float64), output=outputs)
        store.append_predictions(seq, rows)
        store.append_labels(seq, replace(small.labels(y[part]), ids=ids, at=part + 0.5))
    return config


def trained(config: Config, **changes: Any) -> int:
    """Store what a worker would store of a plan, and return its version."""
    store = Store(config.model_state)
    settings = small.SETTINGS.model_copy(update={"steps": 40})
    plan = replace(small.plan(), steps=40, until_row=ROWS, as_of=store.as_of(), **changes)
    reference = store.reference(1)
    pool = read_pool(store, plan, reference, settings.max_pool_rows)
    trainee = Trainee(factory_of(config.model, config.folder)())
    known = conditions(settings, config.model, pool, reference, "cpu")
    made = attempt(
        trainee, [1], store.state_dict, pool, reference, plan, settings=settings, reference_rows=20
    )
    manifest = store.add_version(
        made.result.state_dict,
        parent=1,
        reference=made.reference,
        metrics={**made.figures(), CONDITIONS: known},
        plan=plan.to_dict(),
    )
    return manifest.version


def again(config: Config, version: int) -> Rebuilt:
    store = Store(config.model_state, read_only=True)
    return rebuild(store, version, config.model, config.folder)


def tamper(config: Config, version: int, *names: str, value: Any) -> None:
    """Change a value of a manifest."""
    path = Store(config.model_state).weights_path(version).parent / "manifest.json"
    data = inner = json.loads(path.read_text(encoding="utf-8"))
    for name in names[:-1]:
        inner = inner[name]
    inner[names[-1]] = value
    path.write_text(json.dumps(data), encoding="utf-8")


@pytest.mark.parametrize("budget", ["", "0.5 GFLOP"])
def test_version_is_trained_again_bit_for_bit_also_when_rows_and_versions_came_since(
    tmp_path: Path, budget: str
) -> None:
    config = project(tmp_path)
    version = trained(config, budget=budget)
    store = Store(config.model_state)
    x, y = small.rows(100, turned=False, seed=9)
    ids = tuple(f"later-{i}" for i in range(100))
    rows = replace(small.predictions(x, ROWS), ids=ids, at=np.full(100, 1e6))
    store.append_predictions(COMMITS, rows)
    store.append_labels(COMMITS, replace(small.labels(y), ids=ids, at=np.full(100, 2e6)))
    store.compact()
    trained(config, seed=77)
    found = again(config, version)
    assert found.same, found.text
    assert found.found == found.expected == store.manifest(version).hash
    assert not found.differs


def test_regression_is_trained_again_in_its_units(tmp_path: Path) -> None:
    config = project(tmp_path, numbers=True)
    assert again(config, trained(config)).same


def test_verb_says_so_offline_and_in_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = project(tmp_path)
    version = trained(config)
    monkeypatch.setenv("UNDRIFT_CONFIG", str(tmp_path / "undrift.yaml"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # which the verb sets, and the test puts back
    done = CliRunner().invoke(app, ["rebuild", str(version), "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert (said["same"], said["found"]) == (True, Store(config.model_state).manifest(2).hash)
    first = CliRunner().invoke(app, ["rebuild", "1"])
    assert first.exit_code == 1
    assert "version 1 was not trained here" in first.stdout


@pytest.mark.parametrize(
    ("names", "value"),
    [
        (("plan", "seed"), 6),
        (("metrics", "training", "learning_rate"), 0.011),
        (("metrics", "training", "start_version"), 2),
        (("metrics", CONDITIONS, "settings", "batch_size"), 31),
    ],
)
def test_another_plan_comes_out_otherwise(
    tmp_path: Path, names: tuple[str, ...], value: Any
) -> None:
    config = project(tmp_path)
    version = trained(config)
    tamper(config, version, *names, value=value)
    found = again(config, version)
    assert not found.same
    assert found.found
    assert "nothing differs that its manifest says" in found.text


def test_other_weights_to_start_from_come_out_otherwise(tmp_path: Path) -> None:
    config = project(tmp_path)
    version = trained(config)
    store = Store(config.model_state)
    path = store.weights_path(1)
    weights = load_file(path)
    weights["0.weight"][0, 0] += 1e-3
    save_file(weights, path)
    tampered = again(config, version)
    assert not tampered.same
    assert "is damaged" in tampered.text


@pytest.mark.parametrize("row", [50, ROWS - 1])
def test_row_that_changed_is_found_before_anything_is_trained(tmp_path: Path, row: int) -> None:
    folders = tmp_path / f"a{row}", tmp_path / f"b{row}"
    config, other = (project(folder, changed=n * row) for n, folder in enumerate(folders))
    version = trained(config)
    tables = config.model_state / "tables"
    shutil.rmtree(tables)
    shutil.copytree(other.model_state / "tables", tables)
    found = again(config, version)
    assert (found.same, found.found) == (False, "")
    assert "the rows, labels or reference of version 2 are not the same now" in found.text


def test_rows_that_retention_dropped_are_named(tmp_path: Path) -> None:
    config = project(tmp_path)
    version = trained(config)
    Store(config.model_state).drop_before(2)
    found = again(config, version)
    assert (found.same, found.found) == (False, "")
    assert found.text == (
        "the rows since row 0 are not kept any more (retention): the store begins at row 200"
    )


@pytest.mark.parametrize(
    ("names", "value", "told"),
    [
        (("plan", "budget"), "30s", "a budget of 30s: the clock decided"),
        (("plan", "workers"), 2, "was trained by 2 workers"),
        (("plan", "weights"), "0" * 64, "was not trained here: its weights were brought"),
        (("metrics", CONDITIONS, "device"), "cuda", r"was trained on a GPU (cuda)"),
        (("metrics", CONDITIONS), None, "a release that did not record the conditions"),
        (("plan",), None, "was not trained here, so"),
    ],
)
def test_what_cannot_come_out_the_same_is_not_tried(
    tmp_path: Path, names: tuple[str, ...], value: Any, told: str
) -> None:
    config = project(tmp_path)
    version = trained(config)
    tamper(config, version, *names, value=value)
    found = again(config, version)
    assert (found.same, found.found) == (False, "")
    assert told in found.text


def test_conditions_that_differ_are_named(tmp_path: Path) -> None:
    config = project(tmp_path)
    torch.set_num_threads(2)
    version = trained(config)
    tamper(config, version, "metrics", CONDITIONS, "threads", value=1)
    tamper(config, version, "metrics", CONDITIONS, "torch", value="1.0")
    found = again(config, version)
    assert not found.same
    assert found.differs == {"torch": ("1.0", torch.__version__)}
    assert f"came out with other weights: torch was 1.0, is {torch.__version__}" in found.text
