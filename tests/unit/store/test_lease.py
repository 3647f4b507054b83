"""One writer to a state in a bucket: a lease that is renewed, and tables that know its number."""

from __future__ import annotations

import pickle
import threading
import time

import pytest

from tests.helpers.lossy import lossy
from undrift.errors import PlatformError, StoreError
from undrift.store import lease as leases
from undrift.store import tables
from undrift.store.blobs import Blobs
from undrift.store.bucket import Bucket
from undrift.store.journal import Journal
from undrift.store.lease import Keeper, Lease, holder_of
from undrift.store.tables import Table

SHORT_S = 0.5


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "RENEW_S", 0.1)


def model_of(lease: Lease) -> Bucket:
    return lease.state / "models" / "m"


def take(bucket: Bucket, holder: str) -> Lease:
    return Lease.take(bucket, holder, SHORT_S)


def test_lease_that_is_renewed_stays_with_its_holder(bucket: Bucket) -> None:
    keeper = Keeper(take(bucket, "the first"))
    with pytest.raises(PlatformError, match=r"the first already runs on s3://.*; stop it"):
        take(bucket, "the second")
    keeper.check()
    assert holder_of(bucket) == "the first"
    keeper.stop()
    keeper.lease.release()
    assert holder_of(bucket) == ""
    assert take(bucket, "the second").state.held.epoch == 2


def test_lease_that_nobody_renews_goes_to_one_of_those_who_wait(bucket: Bucket) -> None:
    take(bucket, "dead")
    told: list[str] = []

    def wait(name: str) -> None:
        try:
            keeper = Keeper(take(bucket, name))
            told.append(f"{keeper.lease.state.held.epoch}")
            time.sleep(2 * SHORT_S)
            keeper.stop()
        except PlatformError:
            told.append("refused")

    waiting = [threading.Thread(target=wait, args=(name,)) for name in ("a", "b", "c")]
    for thread in waiting:
        thread.start()
    for thread in waiting:
        thread.join()
    assert sorted(told) == ["2", "refused", "refused"]


def test_who_was_taken_for_dead_is_told_and_leaves_the_lease_alone(bucket: Bucket) -> None:
    first = take(bucket, "asleep")
    second = take(bucket, "awake")
    with pytest.raises(StoreError, match=r"awake has taken s3://\S+ over, so nothing more"):
        first.renew()
    with pytest.raises(StoreError, match="awake has taken"):
        Lease.resume(first.state.held, bucket.local)
    keeper = Keeper(first)
    while not keeper.lost:
        time.sleep(0.01)
    with pytest.raises(PlatformError, match="awake has taken"):
        keeper.check()
    first.release()
    second.renew()
    assert holder_of(bucket) == "awake"


def test_what_a_holder_has_already_goes_on_in_the_same_term(bucket: Bucket) -> None:
    first = take(bucket, "the cluster")
    Journal(model_of(first)).append({"n": 0}, at=0.0)
    again = take(bucket, "the cluster")
    assert again.state == first.state
    first.renew()
    again.renew()
    first.renew()
    model = pickle.loads(pickle.dumps(model_of(again)))
    resumed = Lease.resume(model.held, model.local)
    resumed.renew()
    assert resumed.state == first.state
    Journal(model_of(first)).append({"n": 1}, at=0.0)


@pytest.mark.parametrize("fresh", [False, True])
def test_append_of_a_writer_that_lost_its_lease_is_refused(bucket: Bucket, fresh: bool) -> None:
    first = take(bucket, "first")
    old = Journal(model_of(first))
    old.append({"n": 0}, at=0.0)
    if fresh:
        old = Journal(model_of(first))
    second = take(bucket, "second")
    for _ in range(2):
        with pytest.raises(StoreError, match="has taken s3://"):
            old.append({"n": "stale"}, at=0.0)
    new = Journal(model_of(second))
    assert new.append({"n": 1}, at=0.0) == 1
    with pytest.raises(StoreError, match="has taken s3://"):
        old.append({"n": "stale"}, at=0.0)
    assert [event["n"] for event in new.read()] == [0, 1]
    assert old.read() == new.read(), "reading is for all"


def test_old_writer_neither_begins_a_table_nor_replaces_objects_nor_drops_rows(
    bucket: Bucket,
) -> None:
    first = take(bucket, "first")
    state = model_of(first)
    journal = Journal(state)
    journal.append({"n": 0}, at=0.0)
    take(bucket, "second")
    table = Table(state / "tables" / "events")
    late: list[object] = [
        lambda: Journal(state, "told").append({"n": 0}, at=0.0),
        lambda: Blobs(state).save("checkpoint", {}, {}),
        lambda: Blobs(state).remove("checkpoint"),
        lambda: table.drop_before(5),
        table.compact,
    ]
    for act in late:
        with pytest.raises(StoreError, match=r"(second|another platform) has taken"):
            act()  # type: ignore[operator]
    assert (bucket / "models" / "m" / "tables").names() == ["events"]
    assert (bucket / "models" / "m" / "blobs").names() == []
    assert len(journal.read()) == 1


def test_append_that_began_before_the_lease_was_lost_conflicts(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = take(bucket, "first")
    journal = Journal(model_of(first))
    journal.append({"n": 0}, at=0.0)
    write = tables.write_deltalake

    def slept(*args: object, **kwargs: object) -> None:
        monkeypatch.setattr(tables, "write_deltalake", write)
        take(bucket, "second")
        write(*args, **kwargs)

    monkeypatch.setattr(tables, "write_deltalake", slept)
    with pytest.raises(StoreError, match="has taken s3://"):
        journal.append({"n": "stale"}, at=0.0)
    assert [event["n"] for event in journal.read()] == [0]


def test_append_that_took_long_counts_if_the_table_has_it(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_LONG_S", -1.0)
    journal = Journal(model_of(take(bucket, "first")))
    assert [journal.append({"n": n}, at=0.0) for n in range(3)] == [0, 1, 2]
    monkeypatch.setattr(tables, "_write", lambda *args: None)  # it went where nobody reads
    with pytest.raises(StoreError, match="took so long"):
        journal.append({"n": 3}, at=0.0)


def test_lost_lease_begins_after_what_the_tables_know(bucket: Bucket) -> None:
    for holder in ("a", "b", "c"):
        lease = take(bucket, holder)
        Journal(model_of(lease)).append({"by": holder}, at=0.0)
        lease.release()
    (bucket / leases.LEASE_FILE).remove()
    lease = take(bucket, "d")
    assert lease.state.held.epoch == 4
    Journal(model_of(lease)).append({"by": "d"}, at=0.0)


@pytest.mark.parametrize("trouble", ["cut", "500", "lost"])
def test_lease_of_which_an_answer_was_lost_is_still_ours(
    object_store: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    with lossy(object_store) as proxy:
        proxy.matters = leases.LEASE_FILE
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        for holder in ("first", "second"):
            proxy.trouble = trouble
            lease = take(bucket, holder)
            for _ in range(2):
                proxy.trouble = trouble
                lease.renew()
            lease.renew()
            proxy.trouble = trouble
            lease.release()
            assert holder_of(bucket) == ""
        assert proxy.befell == 8


def test_damaged_lease_says_what_to_do(bucket: Bucket) -> None:
    (bucket / leases.LEASE_FILE).write(b"{")
    with pytest.raises(StoreError, match=r"lease\.json is damaged; with nothing running"):
        take(bucket, "first")
