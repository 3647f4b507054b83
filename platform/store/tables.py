"""An append-only Delta Lake table, one transaction for each numbered append.

A table's version is the number of the last append that it includes. It is recorded in the Delta
log as the transaction of application ``undrift`` and in the column ``seq`` of every row, so the
contents at a version stay readable after compaction, and to any other reader as
``WHERE seq <= version``. That lets the Delta log be short, and it has to be: a commit costs
8 ms over 100 log entries, 33 ms over 5,000 and 118 ms over 20,000.

Each append also records a mark, and in a bucket the epoch of its writer, see `terms`.

An append that has returned survives a power cut, see `disk`. What one tears is the tail that was
never acknowledged; :meth:`Table.mend` sets it aside. Checkpoints are made when the table is
compacted and settled before the entries that they replace go.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import (
    ColumnProperties,
    CommitProperties,
    DeltaTable,
    PostCommitHookProperties,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import TableNotFoundError

from undrift.errors import StoreError
from undrift.store.disk import DiskLog
from undrift.store.files import explained
from undrift.store.place import Folder, Where, place
from undrift.store.terms import check_epoch, epoch_of, fenced, has_mark, new_mark, signed

_APP = "undrift"
_NOTHING = -1
_REOPEN_EVERY = 50  # appends; a handle keeps all that it wrote and slows down with it
_LONG_S = 60.0  # the entries of a log stay for longer, so a late one meets those it conflicts with
_COMPACT_AT = 256  # small files
_CHECKPOINT_EVERY = 32  # appends in a bucket, where opening a table takes two requests for each
_FILE_BYTES = 32 << 20
_WRITER = WriterProperties(
    compression="SNAPPY",
    max_row_group_size=8192,  # the unit that a read by row range can skip
    default_column_properties=ColumnProperties(dictionary_enabled=False),
)
_READERS_HOURS = 1  # a file that is no longer needed stays for those who still read it
_NO_HOOK = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
_CONFIGURATION = {
    "delta.logRetentionDuration": "interval 5 minutes",
    "delta.deletedFileRetentionDuration": f"interval {_READERS_HOURS} hours",
}


class Appended(NamedTuple):
    """What the table says after an append.

    Attributes:
        version: Number of the last append.
        ours: Whether that is the append asked for, written by this call; not so if its number was
            taken, by an earlier call or by another process, or if it had no rows.
    """

    version: int
    ours: bool


class Table:
    """One table with one writer and any number of readers, in this process or in others.

    Args:
        path: Directory of the table; the first append creates it.
        indexed: Columns whose range is kept for each file, so that reads can skip files.

    Attributes:
        trouble: Why the table's upkeep failed last time; empty if all is well.
    """

    def __init__(self, path: Where, indexed: tuple[str, ...] = ("seq",)) -> None:
        self._place = place(path)
        self._disk = DiskLog(self._place.path) if isinstance(self._place, Folder) else None
        self._indexed = indexed
        self._writer: DeltaTable | None = None
        self._appends = 0
        self._small = 0  # files to join, whoever made them
        self.trouble = ""

    def version(self) -> int:
        """Return the number of the last append, -1 if there was none."""
        table = self._open()
        return _NOTHING if table is None else _last(table)

    def fields(self) -> dict[str, dict[str, str]]:
        """Return the metadata of each column, empty before the first append."""
        table = self._open()
        return {} if table is None else {f.name: dict(f.metadata) for f in table.schema().fields}

    def append(self, seq: int, rows: pa.Table) -> Appended:
        """Commit ``rows`` as append ``seq``, unless a number of theirs is committed already.

        Args:
            seq: Number of the append; it grows.
            rows: Rows with a column ``seq`` that holds this number; or several that grow to it.

        Raises:
            StoreError: It is not committed, or it is not known to be on the disk.
        """
        with explained("append to the table", self._place):
            table = self._for_writing(rows.schema)
            last = _last(table)
        if not len(rows):
            return Appended(last, ours=False)
        if rows["seq"][0].as_py() <= last:
            self._settle()  # the call that wrote it may have failed in that
            return Appended(last, ours=False)
        mark = new_mark()
        try:
            with explained("append to the table", self._place):
                begun = time.monotonic()
                _write(table, rows, [Transaction(_APP, seq), *signed(mark, self._place.held)])
                if self._place.held is not None and time.monotonic() - begun > _LONG_S:
                    raise OSError("it took so long that the log may have gone on without it")
        except StoreError:
            self._writer = None  # an error tells how a write ended; what it did, the table tells
            found = self._open()
            if found is not None:
                check_epoch(found, self._place.held)
            if found is None or _last(found) < seq:
                raise
            if not has_mark(found, mark):
                self._settle()
                return Appended(_last(found), ours=False)
        self._settle()
        self._appends += 1
        self._small += 1
        if self._small >= _COMPACT_AT:
            self._small = 0
            self._keep_up(self.compact)
        elif self._disk is None and self._small % _CHECKPOINT_EVERY == 0:
            self._keep_up(table.create_checkpoint)
        return Appended(seq, ours=True)

    def recorded_epoch(self) -> int:
        """Return the newest epoch that a writer has recorded, 0 if none did."""
        table = self._open()
        return 0 if table is None else epoch_of(table)

    def fence(self) -> None:
        """Record our epoch, so that no append of an earlier one can follow what is read from now.

        Raises:
            StoreError: There is a later one, or the store refuses.
        """
        with explained("fence the table", self._place):
            fenced(self._open, self._place.held)

    def _settle(self) -> None:
        if self._disk is not None:
            with explained("append to the table", self._place):
                self._disk.settle()

    def _keep_up(self, work: Callable[[], None]) -> None:
        """Do what keeps the table fast, or remember why not: what was appended stays appended."""
        try:
            with explained("keep up the table", self._place):
                work()
            self.trouble = ""
        except StoreError as error:
            self.trouble = str(error)

    def mend(self) -> list[Path]:
        """Set aside what a power cut has left unfinished at the end of the log; writers only.

        Nothing of it was acknowledged, or the log's entries say it too, as they do of an unfinished
        checkpoint. Files are renamed, so that they can be looked at.

        Returns:
            What was set aside, newest entry first; empty if all is well.

        Raises:
            StoreError: The directory cannot be read or written.
        """
        if self._disk is None:
            return []
        with explained("mend the table", self._place):
            torn = self._disk.mend()
        if torn:
            self._writer = None
        return torn

    def read(
        self, where: ds.Expression | None = None, columns: list[str] | None = None
    ) -> pa.Table | None:
        """Return the rows that ``where`` selects, in no order; None before the first append.

        Raises:
            StoreError: The table is damaged.
        """
        table = self._open()
        if table is None:
            return None
        with explained("read the table", self._place):
            return table.to_pyarrow_dataset().to_table(filter=where, columns=columns)

    def dataset(self) -> ds.Dataset | None:
        """Return what is stored, to be read in parts; None before the first append."""
        table = self._open()
        return None if table is None else table.to_pyarrow_dataset()

    def size(self, after_seq: int = _NOTHING) -> int:
        """Return the bytes of the files that hold appends after one alone.

        Raises:
            StoreError: The table is damaged.
        """
        return sum(size for first, _, size in self._files() if first > after_seq)

    def lowest(self, column: str) -> int | None:
        """Return the least value of an indexed column, None if there is no row.

        Raises:
            StoreError: The table is damaged.
        """
        return min((first for first, _, _ in self._files(column)), default=None)

    def drop_before(self, seq: int) -> int:
        """Drop appends before one, as far as that takes no rewriting: whole files.

        Files have at most 32 MB, and what is dropped leaves the disk an hour later.

        Returns:
            The first append that is sure to be there still.

        Raises:
            StoreError: The disk refuses.
        """
        files = self._files()
        for first, last, _ in sorted(files, reverse=True):
            if first < seq <= last:
                seq = first
        if all(first >= seq for first, _, _ in files):
            return seq
        self._writer = None
        with explained("drop old rows of the table", self._place):
            table = DeltaTable(str(self._place), storage_options=self._place.options)
            check_epoch(table, self._place.held)
            table.delete(f"seq < {seq}", post_commithook_properties=_NO_HOOK)
            self._settle()
            _vacuum(table)
        return seq

    def _files(self, column: str = "seq") -> list[tuple[int, int, int]]:
        """Return the least and the largest value of a column, and the bytes, of each file."""
        table = self._open()
        if table is None:
            return []
        with explained("list the files of the table", self._place):
            found = pa.table(table.get_add_actions(flatten=True))
            names = (f"min.{column}", f"max.{column}", "size_bytes")
            return list(zip(*(found[name].to_pylist() for name in names), strict=True))

    def compact(self) -> None:
        """Join small files, and delete the ones that were joined more than an hour ago.

        Appends do it by themselves now and then; the order of the rows of one append is kept.
        """
        table = self._open()
        if table is None:
            return
        check_epoch(table, self._place.held)
        self._writer = None
        with explained("compact the table", self._place):
            table.optimize.compact(
                target_size=_FILE_BYTES,
                writer_properties=_WRITER,
                post_commithook_properties=_NO_HOOK,
            )
            _vacuum(table)
            self._settle()
            table.create_checkpoint()
            if self._disk is not None:
                self._disk.settle_checkpoint()
            table.cleanup_metadata()

    def _open(self) -> DeltaTable | None:
        with explained("open the table", self._place):
            try:
                return DeltaTable(str(self._place), storage_options=self._place.options)
            except TableNotFoundError:
                return None

    def _for_writing(self, schema: pa.Schema) -> DeltaTable:
        if self._writer is None or self._appends % _REOPEN_EVERY == 0:
            self._writer = fenced(self._open, self._place.held) or self._create(schema)
        if self._appends == 0:
            self._small = _small_files(self._writer)
        return self._writer

    def _create(self, schema: pa.Schema) -> DeltaTable:
        if self._disk is not None:
            self._disk.prepare()
        if self._place.held is not None:
            self._place.held.check()
        statistics = {"delta.dataSkippingStatsColumns": ",".join(self._indexed)}
        table = DeltaTable.create(
            str(self._place),
            schema=schema,
            configuration={**_CONFIGURATION, **statistics},
            storage_options=self._place.options,
        )
        self._settle()
        return table


def _write(table: DeltaTable, rows: pa.Table, transactions: list[Transaction]) -> None:
    write_deltalake(
        table,
        rows,
        mode="append",
        schema_mode="merge" if _has_more(rows.schema, table) else None,
        writer_properties=_WRITER,
        commit_properties=CommitProperties(app_transactions=transactions),
        post_commithook_properties=_NO_HOOK,
    )


def _has_more(schema: pa.Schema, table: DeltaTable) -> bool:
    """Tell whether rows have a column that the table, of an older release, has not."""
    return not set(schema.names) <= {field.name for field in table.schema().fields}


def _small_files(table: DeltaTable) -> int:
    sizes = pa.table(table.get_add_actions())["size_bytes"].to_numpy()
    return int((sizes < _FILE_BYTES // 2).sum())


def _last(table: DeltaTable) -> int:
    last = table.transaction_version(_APP)
    return _NOTHING if last is None else last


def _vacuum(table: DeltaTable) -> None:
    table.vacuum(_READERS_HOURS, dry_run=False, enforce_retention_duration=False)
