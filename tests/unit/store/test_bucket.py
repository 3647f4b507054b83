"""Tables in a bucket say what is there, whatever becomes of an answer or of another writer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.helpers.lossy import lossy
from undrift.errors import StoreError
from undrift.store.journal import Journal
from undrift.store.place import Bucket


@pytest.mark.thorough
@pytest.mark.parametrize("trouble", ["cut", "500", "lost"])
def test_event_of_which_the_answer_was_lost_is_stored_once(
    object_store: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    journal = Journal(bucket)
    with lossy(object_store) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        numbers = []
        for n in range(4):
            proxy.trouble = trouble if n in (1, 2) else ""
            numbers.append(journal.append({"n": n}, at=0.0))
        assert proxy.befell == 2
        assert numbers == list(range(4))
        assert [event["n"] for event in Journal(bucket).read()] == list(range(4))


@pytest.mark.thorough
def test_of_writers_that_race_for_a_number_each_is_told_the_truth(bucket: Bucket) -> None:
    journals = [Journal(bucket) for _ in range(4)]
    journals[0].append({"by": -1}, at=0.0)

    def append(writer: int) -> int | None:
        try:
            return journals[writer].append({"by": writer}, at=0.0)
        except StoreError:
            return None

    told = {}
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            numbers = list(pool.map(append, range(4)))
            told |= {n: writer for writer, n in enumerate(numbers) if n is not None}
    stored = [event["by"] for event in Journal(bucket).read()]
    assert stored[1:] == [told[n] for n in sorted(told)]
    assert len(told) >= 5


def test_table_is_opened_from_a_checkpoint_before_it_is_compacted(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("undrift.store.tables._CHECKPOINT_EVERY", 4)
    for start in range(0, 6, 3):  # whoever appended
        journal = Journal(bucket)
        for n in range(start, start + 3):
            journal.append({"n": n}, at=0.0)
    log = bucket / "tables" / "events" / "_delta_log"
    assert f"{4:020}.checkpoint.parquet" in log.names()
    assert [event["n"] for event in Journal(bucket).read()] == list(range(6))
    assert journal.trouble == ""
