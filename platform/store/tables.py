"""An append-only Delta Lake table, one transaction for each numbered append.

A table's version is the number of the last append that it includes. It is recorded in the Delta
log as the transaction of application ``undrift`` and in the column ``seq`` of every row, so the
contents at a version stay readable after compaction, and to any other reader as
``WHERE seq <= version``. That lets the Delta log be short, and it has to be: a commit costs
8 ms over 100 log entries, 33 ms over 5,000 and 118 ms over 20,000.

A commit survives the death of the process; Delta Lake does not wait for the disk, so a power cut
can lose the last seconds.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import (
    ColumnProperties,
    CommitProperties,
    DeltaTable,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import TableNotFoundError

from undrift.store.files import explained

_APP = "undrift"
_NOTHING = -1
_REOPEN_EVERY = 50  # appends; a handle keeps all that it wrote and slows down with it
_COMPACT_EVERY = 256  # appends
_FILE_BYTES = 32 << 20
_WRITER = WriterProperties(
    compression="SNAPPY",
    max_row_group_size=8192,  # the unit that a read by row range can skip
    default_column_properties=ColumnProperties(dictionary_enabled=False),
)
_CONFIGURATION = {
    "delta.logRetentionDuration": "interval 5 minutes",
    "delta.deletedFileRetentionDuration": "interval 1 days",
}


class Table:
    """One table with one writer and any number of readers, in this process or in others.

    Args:
        path: Directory of the table; the first append creates it.
        indexed: Columns whose range is kept for each file, so that reads can skip files.
    """

    def __init__(self, path: Path, indexed: tuple[str, ...] = ("seq",)) -> None:
        self._path = path
        self._indexed = indexed
        self._writer: DeltaTable | None = None
        self._appends = 0

    def version(self) -> int:
        """Return the number of the last append, -1 if there was none."""
        table = self._open()
        return _NOTHING if table is None else _last(table)

    def fields(self) -> dict[str, dict[str, str]]:
        """Return the metadata of each column, empty before the first append."""
        table = self._open()
        return {} if table is None else {f.name: dict(f.metadata) for f in table.schema().fields}

    def append(self, seq: int, rows: pa.Table) -> int:
        """Commit ``rows`` as append ``seq``, unless that or a later one is committed already.

        Args:
            seq: Number of the append; it grows.
            rows: Rows with a column ``seq`` that holds this number.

        Returns:
            The version of the table.

        Raises:
            StoreError: The disk or the table refuses.
        """
        with explained("append to the table", self._path):
            table = self._for_writing(rows.schema)
            last = _last(table)
            if seq <= last or not len(rows):
                return last
            write_deltalake(
                table,
                rows,
                mode="append",
                writer_properties=_WRITER,
                commit_properties=CommitProperties(app_transactions=[Transaction(_APP, seq)]),
            )
        self._appends += 1
        if self._appends % _COMPACT_EVERY == 0:
            self.compact()
        return seq

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
        with explained("read the table", self._path):
            return table.to_pyarrow_dataset().to_table(filter=where, columns=columns)

    def compact(self) -> None:
        """Join small files, and delete the ones that were joined more than a day ago.

        Appends do it by themselves now and then; the order of the rows of one append is kept.
        """
        table = self._open()
        if table is None:
            return
        with explained("compact the table", self._path):
            table.optimize.compact(target_size=_FILE_BYTES, writer_properties=_WRITER)
            table.vacuum(dry_run=False)
            table.create_checkpoint()
            table.cleanup_metadata()
        self._writer = None

    def _open(self) -> DeltaTable | None:
        with explained("open the table", self._path):
            try:
                return DeltaTable(self._path)
            except TableNotFoundError:
                return None

    def _for_writing(self, schema: pa.Schema) -> DeltaTable:
        if self._writer is None or self._appends % _REOPEN_EVERY == 0:
            self._writer = self._open() or self._create(schema)
        return self._writer

    def _create(self, schema: pa.Schema) -> DeltaTable:
        statistics = {"delta.dataSkippingStatsColumns": ",".join(self._indexed)}
        return DeltaTable.create(
            self._path, schema=schema, configuration={**_CONFIGURATION, **statistics}
        )


def _last(table: DeltaTable) -> int:
    last = table.transaction_version(_APP)
    return _NOTHING if last is None else last
