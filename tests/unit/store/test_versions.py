from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from undrift.errors import StoreError
from undrift.records import Labels, Reference
from undrift.store import versions
from undrift.store.store import Manifest, Store
from undrift.store.versions import Versions

REFERENCE = Reference(
    x=np.arange(12, dtype=np.float32).reshape(2, 2, 3).transpose(0, 2, 1),
    y=np.array([1, 0]),
    embedding=np.ones((2, 4), dtype=np.float32),
    output=np.full((2, 2), 0.5, dtype=np.float32),
    recent=np.array([True, False]),
)
WEIGHTS = {"layer.weight": torch.arange(6.0).reshape(2, 3).T, "step": torch.tensor(3)}


def add(store: Store, run_id: str = "", parent: int | None = None) -> Manifest:
    return store.add_version(
        WEIGHTS,
        parent=parent,
        reference=REFERENCE,
        metrics={"accuracy": 0.9},
        plan=None,
        run_id=run_id,
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_same_weights_are_one_version_where_that_is_wanted(store: Store, tmp_path: Path) -> None:
    def bring(weights: dict[str, torch.Tensor]) -> int:
        given = {"parent": 1, "reference": REFERENCE, "metrics": {}, "plan": None}
        return store.add_version(weights, **given, once=True).version

    assert (add(store).version, add(store).version) == (1, 2)
    other = {**WEIGHTS, "step": torch.tensor(4)}
    assert [bring(WEIGHTS), bring(other), bring(dict(reversed(other.items())))] == [1, 3, 3]
    assert sorted(path.name for path in (tmp_path / "versions").iterdir() if path.is_dir()) == [
        "1",
        "2",
        "3",
    ]


def test_version_comes_back_as_it_went_in(store: Store, tmp_path: Path) -> None:
    first = add(store)
    second = add(store, run_id="r1", parent=1)
    assert (first.version, second.version, second.parent) == (1, 2, 1)
    other = Store(tmp_path)
    assert other.versions() == [first, second]
    assert other.manifest(2) == second
    assert second.metrics == {"accuracy": 0.9}
    assert second.hash == hashlib.sha256(other.weights_path(2).read_bytes()).hexdigest()
    weights = other.state_dict(2)
    assert weights.keys() == WEIGHTS.keys()
    assert all(torch.equal(weights[name], WEIGHTS[name]) for name in WEIGHTS)
    reference = other.reference(2)
    for name in ("x", "y", "embedding", "output", "recent"):
        assert_array_equal(getattr(reference, name), getattr(REFERENCE, name))
        assert getattr(reference, name).dtype == getattr(REFERENCE, name).dtype


def test_newest_rows_lie_in_the_reference(store: Store) -> None:
    assert store.reference(add(store).version).newest is None
    whole = replace(REFERENCE, newest=replace(REFERENCE, y=np.array([0, 0])))
    made = store.add_version(WEIGHTS, parent=None, reference=whole, metrics={}, plan=None)
    newest = store.reference(made.version).newest
    assert newest is not None
    assert_array_equal(newest.y, [0, 0])
    assert_array_equal(newest.x, REFERENCE.x)


def test_choices_of_a_run_lie_beside_its_manifest(store: Store, tmp_path: Path) -> None:
    choices = {
        "bandit": np.array(["sample", "block"]),
        "probability": np.array([0.25, 1.0], dtype=np.float32),
    }
    made = store.add_version(
        WEIGHTS, parent=None, reference=REFERENCE, metrics={}, plan=None, choices=choices
    )
    found = Store(tmp_path).bandit_log(made.version)
    assert found is not None
    assert found["bandit"].tolist() == ["sample", "block"]
    assert_array_equal(found["probability"], choices["probability"])
    assert store.bandit_log(add(store).version) is None
    path = tmp_path / "versions" / "1" / "bandit_log.parquet"
    assert made.bandit_log_hash == hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StoreError, match=r"bandit_log\.parquet is damaged: expected SHA-256"):
        store.bandit_log(made.version)


def test_tied_weights_are_stored(store: Store) -> None:
    shared = torch.ones(3)
    store.add_version(
        {"a": shared, "b": shared}, parent=None, reference=REFERENCE, metrics={}, plan=None
    )
    assert torch.equal(store.state_dict(1)["b"], shared)


def test_same_run_adds_one_version(store: Store, tmp_path: Path) -> None:
    first = add(store, run_id="r1")
    assert add(Store(tmp_path), run_id="r1") == first
    assert add(store, run_id="r2").version == 2
    assert [m.run_id for m in store.versions()] == ["r1", "r2"]


def test_manifest_names_the_tables_of_the_plan_else_the_present_ones(store: Store) -> None:
    store.append_labels(7, Labels(("a",), np.array([1]), np.array([0.0])))
    assert add(store).tables == {"predictions": -1, "labels": 7}
    plan = {"seed": 1, "as_of": {"predictions": 4, "labels": 3}}
    planned = store.add_version(
        WEIGHTS, parent=1, reference=REFERENCE, metrics={}, plan=plan, run_id="r"
    )
    assert planned.tables == {"predictions": 4, "labels": 3}
    assert store.manifest(2).plan == plan


def test_kill_before_the_rename_leaves_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(store)
    with monkeypatch.context() as patch:
        patch.setattr("os.rename", _killed)
        with pytest.raises(KeyboardInterrupt):
            add(store, run_id="r1")
    assert len(store.versions()) == 1
    assert any(p.name.startswith(".tmp-") for p in (tmp_path / "versions").iterdir())
    again = Store(tmp_path)
    assert not any(p.name.startswith(".tmp-") for p in (tmp_path / "versions").iterdir())
    assert add(again, run_id="r1").version == 2


def test_versions_are_listed_once_and_each_manifest_is_read_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(4):
        add(store)
    done: list[str] = []
    numbers, read = Versions.numbers, versions.read_json

    def listing(self: Versions) -> list[int]:
        done.append("listed")
        return numbers(self)

    def reading(path: Path) -> dict[str, object]:
        done.append(path.parent.name)
        return read(path)

    monkeypatch.setattr(Versions, "numbers", listing)
    monkeypatch.setattr(versions, "read_json", reading)
    assert [m.version for m in store.versions()] == [1, 2, 3, 4]
    assert done == ["listed", "1", "2", "3", "4"]
    assert [m.version for m in store.versions()] == [1, 2, 3, 4]
    assert done[5:] == ["listed"]


def test_unknown_version_lists_the_stored_ones(store: Store) -> None:
    with pytest.raises(StoreError, match=r"no model version 7 .* stored: none"):
        store.manifest(7)
    add(store)
    with pytest.raises(StoreError, match=r"no model version 7 .* stored: 1"):
        store.weights_path(7)


def test_changed_weights_are_refused_with_both_hashes(store: Store) -> None:
    expected = add(store).hash
    path = store.weights_path(1)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    found = hashlib.sha256(data).hexdigest()
    with pytest.raises(StoreError, match=rf"model\.safetensors .*{expected}.*{found}"):
        store.state_dict(1)


@pytest.mark.parametrize("name", ["model.safetensors", "reference.safetensors", "manifest.json"])
@pytest.mark.parametrize("truncated", [True, False])
def test_damaged_or_missing_file_is_named(store: Store, name: str, truncated: bool) -> None:
    add(store)
    path = store.weights_path(1).with_name(name)
    path.write_bytes(path.read_bytes()[:20]) if truncated else path.unlink()
    read = {"m": store.state_dict, "r": store.reference}[name[0]]
    with pytest.raises(StoreError, match=name):
        read(1)


def test_manifest_with_an_unknown_field_is_refused(store: Store) -> None:
    manifest = add(store)
    path = store.weights_path(1).with_name("manifest.json")
    path.write_text(json.dumps({**manifest.to_dict(), "colour": "red"}))
    with pytest.raises(StoreError, match=r"newer release.*colour"):
        store.manifest(1)


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("manifest.json", b"{"),
        ("manifest.json", b"{}"),
        ("manifest.json", b"[]"),
        ("manifest.json", None),
        ("model.safetensors", b""),
        ("model.safetensors", None),
        ("reference.safetensors", b"damaged"),
    ],
)
def test_damaged_version_is_left_out_and_the_others_go_on(
    store: Store, tmp_path: Path, file: str, content: bytes | None
) -> None:
    first, _ = add(store), add(store, run_id="r2")
    path = tmp_path / "versions" / "2" / file
    path.unlink() if content is None else path.write_bytes(content)
    shelf = Versions(tmp_path / "versions", read_only=True)
    assert list(shelf.damaged()) == [2]
    assert file in shelf.damaged()[2]
    third = add(store, run_id="r3")
    assert third.version == 3
    assert Store(tmp_path).versions() == [first, third]
    assert add(store, run_id="r3") == third
    with pytest.raises(StoreError, match=file):
        store.manifest(2), store.weights_path(2), store.reference(2)


def test_manifest_of_another_version_is_damaged(store: Store, tmp_path: Path) -> None:
    add(store), add(store)
    folder = tmp_path / "versions"
    (folder / "2" / "manifest.json").write_bytes((folder / "1" / "manifest.json").read_bytes())
    with pytest.raises(StoreError, match="is not the manifest of version 2"):
        Store(tmp_path).manifest(2)
