"""Versions in a bucket: whole or not there, read through a cache that is never believed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from tests.unit.store.test_versions import REFERENCE, WEIGHTS, add
from undrift.errors import StoreError
from undrift.store import cached
from undrift.store.bucket import Bucket
from undrift.store.place import Place
from undrift.store.remote import BucketVersions
from undrift.store.store import Store


def machine(bucket: Bucket, folder: Path) -> Store:
    """Return the store as a machine with a folder of its own sees it."""
    return Store(Bucket(str(bucket), folder))


def files(folder: Path) -> list[Path]:
    return sorted((folder / "cache").iterdir())


def test_version_is_read_on_another_machine_as_it_was_stored(
    bucket: Bucket, tmp_path: Path
) -> None:
    choices = {"bandit": np.array(["sample"]), "probability": np.array([0.25], dtype=np.float32)}
    made = machine(bucket, tmp_path / "a").add_version(
        WEIGHTS, parent=None, reference=REFERENCE, metrics={}, plan=None, choices=choices
    )
    other = machine(bucket, tmp_path / "b")
    assert other.versions() == [made]
    weights, reference, log = other.state_dict(1), other.reference(1), other.bandit_log(1)
    assert all(torch.equal(weights[name], WEIGHTS[name]) for name in WEIGHTS)
    assert_array_equal(reference.x, REFERENCE.x)
    assert log is not None
    assert_array_equal(log["bandit"], choices["bandit"])
    assert [path.name for path in files(tmp_path / "b")] == sorted(
        [made.hash, made.reference_hash, made.bandit_log_hash]
    )
    assert (tmp_path / "b" / "cache").stat().st_mode & 0o077 == 0
    assert files(tmp_path / "a") == []


def test_cached_file_stands_for_the_object_and_is_read_again_if_damaged(
    bucket: Bucket, tmp_path: Path
) -> None:
    store = machine(bucket, tmp_path)
    path = add(store) and store.weights_path(1)
    stored = bucket / "versions" / "1" / f"model-{path.name}.safetensors"
    content = stored.read()
    stored.remove()
    assert store.weights_path(1).read_bytes() == content
    path.write_bytes(content[:-1])
    with pytest.raises(StoreError, match=r"model version 1 is damaged: .*model-.* is missing"):
        store.weights_path(1)
    stored.write(content)
    assert store.weights_path(1).read_bytes() == content
    path.unlink()
    stored.write(content[:-1] + b"?")
    with pytest.raises(StoreError, match=rf"is damaged: expected SHA-256 {path.name}, found"):
        store.weights_path(1)
    assert files(tmp_path) == [], "what is damaged is not kept"


def test_cache_keeps_what_was_used_last(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached, "_FEWEST", 2)
    monkeypatch.setattr(cached, "_BYTES", 0)
    cache, paths = cached.Cache(tmp_path / "cache"), []
    left = cache.make() / ".tmp-killed"
    left.mkdir()
    os.utime(left, (0, 0))
    for n in range(3):
        source = bucket / f"{n}"
        source.write(b"%d" % n)
        name = hashlib.sha256(b"%d" % n).hexdigest()
        paths.append(cache.path(source, name, ""))
        os.utime(paths[0], (2e9, 2e9))  # used meanwhile
        if n:
            os.utime(paths[n], (1e9 + n, 1e9 + n))
    assert files(tmp_path) == sorted([paths[0], paths[2]])


def test_upload_that_was_cut_off_leaves_no_version_and_is_swept(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = machine(bucket, tmp_path)
    add(store)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "create", killed)
        with pytest.raises(KeyboardInterrupt):
            add(store, run_id="r1")
    stray = bucket / "versions" / "2" / "model-torn.safetensors"
    stray.write(b"x")
    assert len((bucket / "versions" / "2").names()) == 3
    assert store.version_numbers() == [1]
    again = machine(bucket, tmp_path)
    assert again.versions() == store.versions()
    assert add(again, run_id="r1").version == 2
    names = (bucket / "versions" / "2").names()
    assert len(names) == 3
    assert "manifest.json" in names
    assert not stray.exists()


def test_each_of_those_who_add_at_once_gets_a_number_of_its_own(
    bucket: Bucket, tmp_path: Path
) -> None:
    stores = [machine(bucket, tmp_path / str(n)) for n in range(3)]
    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(lambda n: add(stores[n], run_id=f"r{n}"), range(3)))
    assert sorted(m.version for m in made) == [1, 2, 3]
    assert sorted(stores[0].versions(), key=lambda m: m.run_id) == made
    for number in (1, 2, 3):
        stores[1].weights_path(number), stores[1].reference(number)


def test_manifest_of_which_the_answer_was_lost_is_ours(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = Bucket.create

    def twice(self: Bucket, data: bytes) -> str:
        create(self, data)
        return create(self, data)  # as the client does after a lost answer

    monkeypatch.setattr(Bucket, "create", twice)
    store = machine(bucket, tmp_path)
    assert add(store).version == 1
    assert store.version_numbers() == [1]


@pytest.mark.parametrize("cut_off", [False, True])
def test_dropped_version_leaves_its_manifest_and_its_number(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut_off: bool
) -> None:
    store = machine(bucket, tmp_path)
    made = [add(store, run_id=f"r{n}") for n in range(2)]
    shelf = BucketVersions(Bucket(str(bucket / "versions"), tmp_path))
    if cut_off:
        with monkeypatch.context() as patch:
            patch.setattr(BucketVersions, "_sweep", _raise)
            with pytest.raises(StoreError, match="the end"):
                shelf.drop(2)
    else:
        shelf.drop(2)
        assert (bucket / "versions" / "2").names() == ["manifest.json"]
    assert store.version_numbers() == [1]
    assert machine(bucket, tmp_path / "b").manifest(2) == made[1]
    with pytest.raises(StoreError, match=r"version 2 is not kept any more .* stored: 1"):
        machine(bucket, tmp_path / "b").weights_path(2)
    assert add(store).version == 3
    assert (bucket / "versions" / "2").names() == ["manifest.json"]


def _raise(*_: object) -> None:
    raise OSError("the end")


def test_version_without_its_weights_is_damaged_and_the_others_go_on(
    bucket: Bucket, tmp_path: Path
) -> None:
    store = machine(bucket, tmp_path)
    first, second = add(store), add(store, run_id="r2")
    (bucket / "versions" / "2" / f"model-{second.hash}.safetensors").remove()
    shelf = BucketVersions(bucket / "versions")
    assert list(shelf.damaged()) == [2]
    assert "is missing" in shelf.damaged()[2]
    assert add(store, run_id="r3").version == 3
    assert [m.version for m in store.versions()] == [1, 3]
    assert first in store.versions()


@pytest.mark.parametrize("ask", [Store.manifest, Store.weights_path, Store.reference])
def test_unknown_version_lists_the_stored_ones(root: Place, ask: Callable[..., object]) -> None:
    store = Store(root)
    add(store)
    with pytest.raises(StoreError, match=r"no model version 7 .* stored: 1"):
        ask(store, 7)
