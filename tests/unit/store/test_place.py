"""A folder and a bucket do the same for those who keep state in them."""

from __future__ import annotations

import pickle
import sys

import pytest

from undrift.errors import StoreError
from undrift.store.place import Bucket, Place, place, read_json
from undrift.store.runs import TrainingFolder


def test_what_was_written_is_read_and_replaced_as_a_whole(root: Place) -> None:
    found = root / "a" / "b.json"
    assert not found.exists()
    with pytest.raises(FileNotFoundError):
        found.read()
    for data in (b"{}", b"", bytes(7 << 20)):
        found.write(data)
        assert found.read() == data
    assert found.exists()
    assert found.name == "b.json"


def test_listings_tell_children_and_all_sizes(root: Place) -> None:
    assert root.names() == []
    assert root.sizes() == {}
    for name, size in (("b", 1), ("ab", 2), ("a", 0)):
        (root / name / "file").write(b"x" * size)
    (root / "b" / "deep" / "file").write(b"xyz")
    (root / "top").write(b"")
    assert root.names() == ["a", "ab", "b", "top"]
    assert (root / "b").names() == ["deep", "file"]
    assert (root / "b").sizes() == {"file": 1, "deep/file": 3}
    assert not (root / "b").exists(), "nothing to read"


def test_removal_takes_what_is_below_and_nothing_beside(root: Place) -> None:
    for name in ("run/plan", "run/deep/0.pt", "run-2/plan", "other"):
        (root / name).write(b"x")
    for gone in ("run", "other", "never"):
        (root / gone).remove()
    assert root.sizes() == {"run-2/plan": 1}


def test_place_travels_to_another_process(root: Place) -> None:
    (root / "file").write(b"x")
    assert (pickle.loads(pickle.dumps(root)) / "file").read() == b"x"
    assert (place(str(root)) / "file").read() == b"x"


def test_missing_or_damaged_object_is_named(root: Place) -> None:
    with pytest.raises(StoreError, match=r"cannot read .*plan\.json: "):
        read_json(root / "plan.json")
    (root / "plan.json").write(b"{")
    with pytest.raises(StoreError, match=r"plan\.json is damaged: it is not JSON"):
        read_json(root / "plan.json")


def test_runs_but_those_under_way_are_forgotten(root: Place) -> None:
    for run in ("run-1", "run-2"):
        assert TrainingFolder(root, run).plan(lambda: {"seed": 1}) == {"seed": 1}
    TrainingFolder.remove_others(root, {"run-2"})
    assert root.sizes().keys() == {"training/run-2/plan.json"}


def test_store_that_does_not_answer_as_it_should_is_told_in_a_few_words(bucket: Bucket) -> None:
    with pytest.raises(OSError, match="NoSuchBucket") as caught:
        Bucket("s3://nobodys/state").write(b"x")
    assert "RetryError" not in str(caught.value)


@pytest.mark.parametrize("url", ["gs://bucket/state", "s3://", "s3://bucket", "https://host/state"])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(StoreError, match="must be s3://bucket/prefix"):
        place(url)


def test_bucket_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(StoreError, match=r"pip install 'undrift\[s3\]'"):
        place("s3://bucket/state")


def test_what_is_renamed_lies_beside_itself_and_whole(root: Place) -> None:
    for name in ("3/a", "3/deep/b", "4.npz"):
        (root / name).write(name.encode())
    assert str((root / "3").rename("3.damaged")) == str(root / "3.damaged")
    (root / "4.npz").rename("4.npz.damaged")
    assert root.sizes() == {"3.damaged/a": 3, "3.damaged/deep/b": 8, "4.npz.damaged": 5}
    assert (root / "3.damaged" / "a").read() == b"3/a"
