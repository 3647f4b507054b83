"""Whose append to a table counts: each records a mark, and in a bucket the epoch of its writer.

By the mark a writer whose append ended in an error finds out whether the append of that number is
its own. By the epoch a writer that has lost its lease (`lease`) is refused.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import DeltaError

from undrift.errors import StoreError
from undrift.store.bucket import Held, taken_over

_MARK, _EPOCH = "undrift.append", "undrift.epoch"
_MARK_BITS = 62  # Delta has signed numbers of 64
_ATTEMPTS = 5


def new_mark() -> int:
    """Return a number that no other append has."""
    return secrets.randbits(_MARK_BITS)


def signed(mark: int, held: Held | None) -> list[Transaction]:
    """Return what an append records of itself and of its writer."""
    own = [] if held is None else [Transaction(_EPOCH, held.epoch)]
    return [Transaction(_MARK, mark), *own]


def has_mark(table: DeltaTable, mark: int) -> bool:
    """Tell whether the last append is the one with this mark."""
    return bool(table.transaction_version(_MARK) == mark)


def epoch_of(table: DeltaTable) -> int:
    """Return the newest epoch that a writer has recorded, 0 if none did."""
    return int(table.transaction_version(_EPOCH) or 0)


def check_epoch(table: DeltaTable, held: Held | None) -> None:
    """Check that nobody has recorded a later epoch.

    Raises:
        StoreError: Somebody has, so the state is his.
    """
    if held is not None and epoch_of(table) > held.epoch:
        raise StoreError(taken_over(held.state))


def fenced(opened: Callable[[], DeltaTable | None], held: Held | None) -> DeltaTable | None:
    """Return a table in which our epoch is recorded; None if there is no table.

    What is recorded without rows has a mark, so an append that was begun before conflicts with it.

    Args:
        opened: Opens the table.
        held: Our term; None records nothing.

    Raises:
        StoreError: There is a later epoch.
        DeltaError: The store refuses.
    """
    for left in reversed(range(_ATTEMPTS)):
        table = opened()
        if table is None or held is None:
            return table
        check_epoch(table, held)
        if epoch_of(table) == held.epoch:
            return table
        properties = CommitProperties(app_transactions=signed(new_mark(), held))
        schema = table.schema()
        try:
            table.create_write_transaction([], "append", schema, [], commit_properties=properties)
        except DeltaError:  # an append of an earlier epoch came first, or an answer was lost
            if not left:
                raise
    return opened()
