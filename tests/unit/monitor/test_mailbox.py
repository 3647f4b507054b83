"""The mailbox: what fits is taken once, what does not is refused and may come again."""

from __future__ import annotations

import asyncio

import pytest

from tests.helpers.streams import Stream
from undrift.errors import StoreError
from undrift.monitor.mailbox import Mailbox
from undrift.records import Labels


def test_rows_beyond_the_bound_are_refused_and_taken_when_there_is_room() -> None:
    rows, _ = Stream(5).take(50)
    mailbox = Mailbox(max_bytes=2 * rows.nbytes, enough=100)
    mailbox.put(rows, "one")
    mailbox.put(rows, "one")  # sent again
    assert not mailbox.full.is_set()
    mailbox.put(rows, "two")
    assert mailbox.full.is_set()
    with pytest.raises(StoreError, match="100 rows wait to be stored"):
        mailbox.put(rows, "three")
    assert [len(part) for part in mailbox.empty()[0]] == [50, 50]
    assert not mailbox
    mailbox.put(rows, "three")
    assert [len(part) for part in mailbox.empty()[0]] == [50]


def test_one_message_larger_than_the_bound_is_taken() -> None:
    rows, _ = Stream(5).take(50)
    mailbox = Mailbox(max_bytes=1, enough=100)
    mailbox.put(rows, "")
    assert mailbox


def test_labels_are_refused_while_none_can_be_stored_and_where_too_many_wait() -> None:
    async def run() -> None:
        _, labels = Stream(5).take(50)
        mailbox = Mailbox(max_bytes=1, enough=1)
        mailbox.refused = "the disk is full"
        with pytest.raises(StoreError, match="the disk is full"):
            mailbox.label(labels)
        mailbox.refused = ""
        one = Labels(labels.ids[:1], labels.label[:1], labels.at[:1])
        for _ in range(mailbox.CALLS):
            mailbox.label(one)
        with pytest.raises(StoreError, match="20000 labels wait"):
            mailbox.label(one)
        mailbox.empty()
        many = Labels.concat([labels] * (mailbox.LABELS // 50 + 1))
        mailbox.label(many)  # alone, as one that never fits would be sent again for ever
        with pytest.raises(StoreError, match="try again"):
            mailbox.label(labels)

    asyncio.run(run())


def test_rows_alone_wait_after_a_long_commit_and_labels_and_many_rows_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Mailbox, "LONGEST_S", 3600.0)

    async def run() -> None:
        rows, labels = Stream(5).take(50)
        mailbox = Mailbox(max_bytes=10**9, enough=100)
        mailbox.put(rows, "quick")
        await mailbox.due(0.001)
        mailbox.empty()
        mailbox.took(1000.0)

        mailbox.put(rows, "alone")
        due = asyncio.create_task(mailbox.due(0.001))
        await asyncio.sleep(0.1)
        assert not due.done()
        mailbox.label(labels)
        await asyncio.wait_for(due, 60)
        mailbox.empty()

        due = asyncio.create_task(mailbox.due(0.001))
        mailbox.put(rows, "many")
        mailbox.put(rows, "enough")
        await asyncio.wait_for(due, 60)

    asyncio.run(run())
