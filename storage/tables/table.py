"""A table of the data folder: a Delta log over Parquet files that we wrote ourselves.

Invariants
----------
1. A commit is one version: its files, its removals and its transactions are in the table together or not at all.
2. A transaction (application, version) is committed once. `commit` looks first and skips what is covered, so a writer
   that died anywhere can do the same again.
3. A snapshot is one version, whatever is committed meanwhile. Its files stay on disk for a while: nothing here unlinks
   any, and `storage.upkeep.vacuum` does so only after a grace time.
4. A commit that returned is on disk: the log does not sync itself, so it is done here.

For ticks, three transactions say how far a stream is in the table: application `<stream>` has the last segment,
`<stream>/seq` the `seq` that comes next, `<stream>/record` the ordinal of the journal's record that comes next. Other
tables have the first and the last. Tables from before records could be repeated have no `<stream>/record`. A fourth
of ticks, FIRST_DAY, has the ordinal (as of `datetime.date`) of the first day that retention has left in the tables.

Paths: the log has them percent-encoded and relative to the table; here they are decoded. A folder whose own path has
what looks like an encoded character (`%20`) cannot be used with Delta, and is refused.
"""

import contextlib
import datetime
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import pyarrow as pa

from storage.errors import TableChangedError, TableError, TableMissingError
from storage.files import DataFile, sync_file, sync_folder
from storage.schema import Table
from storage.tables.delta import (
    CHECKPOINT_INTERVAL,
    add_action,
    create_delta,
    first_line,
    is_refusal,
    open_delta,
    reading_log,
    remove_action,
    write_version,
)
from storage.tables.log import ENCODED, HINT_NAME, TableLog, Version, checkpoint_name, log_of, version_name
from storage.tables.snapshot import Snapshot

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from deltalake.transaction import AddAction, RemoveAction

COMMIT_ATTEMPTS: Final = 20  # each that fails means that another commit was made


class LakeTable:
    """A Delta table at `path` with the columns of `spec`. Safe to use from several threads."""

    def __init__(self, path: Path, spec: Table) -> None:
        self.path = path.absolute()
        self.spec = spec
        self._lock = threading.RLock()
        self._delta: DeltaTable | None = None
        self._snapshot: Snapshot | None = None
        self._follower = TableLog(self.path, spec)

    def open(self, *, create: bool = False) -> Self:
        """Open the table, after creating it if it does not exist and `create` says so. Returns itself.

        Raises TableMissingError if there is none; DamagedLogError if its log cannot be understood; TableError if it
        cannot be looked at, or if the table has other columns.
        """
        if ENCODED.search(str(self.path)):
            raise TableError(f"table {self.path}: got a path with '%' and two hex digits, which Delta would decode")
        with self._lock:
            try:
                there = self._log.is_dir() and any(self._log.iterdir())
            except OSError as error:
                raise TableError(f"table {self.path}: cannot read its log: {error.strerror}") from error
            if not there:
                if not create:
                    raise TableMissingError(f"table {self.path}: there is none")
                create_delta(self.path, self.spec)
            if self._follower.newest() is None:  # a log that is not as we write it, or of other columns
                self._delta = open_delta(self.path)
                self._check_schema(self._delta)
        return self

    def commit(
        self,
        files: Sequence[DataFile],
        *,
        transactions: Mapping[str, int] | None = None,
        remove: Sequence[DataFile] = (),
    ) -> bool:
        """Add and remove files in one version, together with the transactions.

        False if every transaction is covered already: then nothing is done. Raises TableChangedError if a file of
        `remove` is not in the table, TableError if it cannot be committed; the table is then as it was.
        """
        wanted = dict(transactions or {})
        if not files and not remove and not wanted:
            return False
        with self._lock:
            for _ in range(COMMIT_ATTEMPTS):
                newest = self.snapshot()
                if wanted and all(
                    (at := newest.transaction(name)) is not None and at >= to for name, to in wanted.items()
                ):
                    return False
                self._check_there(remove, newest)  # the log itself does not mind
                add = self._add_version if self._follower.is_plain_to_write else self._add_by_library
                obstacle = add(newest.version, files, remove, wanted)
                if obstacle is None:
                    return True
                # It was not made. If what was in the way had the same transactions, the next round sees it.
        raise TableError(f"table {self.path}: cannot commit: {obstacle}")

    def replace(self, values: Mapping[str, str], files: Sequence[DataFile]) -> bool:
        """Make `files` the only ones of the partition `values`, in one version.

        Files are compared by name, so give them names that follow from their content: False if the partition has
        just these already. Files that were replaced stay on disk, for readers of older versions, until
        `storage.upkeep.vacuum` unlinks them. Raises TableError.
        """
        with self._lock:
            old = {e.relative: e for e in self.snapshot().entries if dict(e.values) == dict(values)}
            new = {file.relative: file for file in files}
            added = [file for name, file in new.items() if name not in old]
            removed = [file for name, file in old.items() if name not in new]
            return self.commit(added, remove=removed)

    def snapshot(self) -> Version:
        """The newest version, by our own reading of the log, or the library's where that is not as we write it.

        Raises DamagedLogError.
        """
        with self._lock:
            return self._follower.newest() or self.snapshot_of_library()

    def snapshot_of_library(self) -> Snapshot:
        """The same as the Delta library has it, which reads the log by itself. Raises DamagedLogError."""
        with self._lock:
            delta = self._fresh()
            version = delta.version()
            if self._snapshot is None or self._snapshot.version != version:
                with reading_log(self.path):
                    # `pa.table` would load pandas, to see whether that is one of its frames.
                    actions = pa.RecordBatchReader.from_stream(delta.get_add_actions(flatten=True)).read_all()
                self._snapshot = Snapshot(self.path, self.spec, version, actions, self.transaction_at)
            return self._snapshot

    def read(
        self,
        *,
        date: datetime.date | None = None,
        columns: Sequence[str] | None = None,
        snapshot: Version | None = None,
    ) -> pa.Table:
        """All rows, or those of one `date`, in the table's schema: for tables that fit in memory.

        Of the newest version, or as of a snapshot.
        """
        names = list(columns or self.spec.schema.names)
        schema = pa.schema([self.spec.schema.field(name) for name in names])
        day = None if date is None else date.isoformat()
        entries = [e for e in (snapshot or self.snapshot()).entries if day is None or e.values.get("date") == day]
        return pa.concat_tables(
            [pa.Table.from_batches([], schema), *(self._read_file(entry, schema) for entry in entries)]
        )

    def transaction(self, application: str) -> int | None:
        """An application's version in the newest version of the table."""
        with self._lock:
            return self.snapshot().transaction(application)

    def transaction_at(self, version: int, application: str) -> int | None:
        """An application's version as of a version of the table."""
        with self._lock:
            delta = self._fresh()
            if delta.version() != version:
                delta = open_delta(self.path, version)
            return self._transaction(delta, application)

    @property
    def _log(self) -> Path:
        return log_of(self.path)

    def _fresh(self) -> "DeltaTable":
        """The handle, at the newest version."""
        if self._delta is None:
            self._delta = open_delta(self.path)
            return self._delta
        # A look at the next name is cheaper than asking the log. If our own version was cleaned away, ask.
        version = self._delta.version()
        if (self._log / version_name(version + 1)).exists() or not (self._log / version_name(version)).exists():
            delta, self._delta = self._delta, None  # unless it comes through
            with reading_log(self.path):
                delta.update_incremental()
            self._delta = delta
        return self._delta

    def _add_version(
        self, newest: int, files: Sequence[DataFile], remove: Sequence[DataFile], transactions: Mapping[str, int]
    ) -> str | None:
        """Add the version behind the newest one; what was in the way, if it was not made. Raises TableError."""
        version = newest + 1
        try:
            if not write_version(self._log, version, files, remove, transactions):
                return f"another commit was faster, {COMMIT_ATTEMPTS} times"
        except OSError as error:
            raise TableError(f"table {self.path}: cannot commit: {error.strerror}") from error
        if (version + 1) % CHECKPOINT_INTERVAL == 0:
            self._make_checkpoint(version)
        return None

    def _make_checkpoint(self, version: int) -> None:
        """Let the library sum up the log, and remove what has been summed up for long. It can do without."""
        try:
            delta = self._fresh()
            delta.create_checkpoint()
            delta.cleanup_metadata()
        except BaseException as error:
            if not (isinstance(error, TableError) or is_refusal(error)):
                raise
            self._delta = None
        else:
            self._sync_log(version - 1, delta.version())

    def _add_by_library(
        self, newest: int, files: Sequence[DataFile], remove: Sequence[DataFile], transactions: Mapping[str, int]
    ) -> str | None:
        """The same of a log that is not as we write it."""
        from deltalake import CommitProperties, Transaction
        from deltalake.exceptions import CommitFailedError

        actions: list[AddAction | RemoveAction] = [*map(add_action, files), *map(remove_action, remove)]
        properties = [Transaction(application, version) for application, version in transactions.items()]
        try:
            self._fresh().create_write_transaction(
                actions,
                "append",
                self.spec.schema,
                list(self.spec.partition_by),
                commit_properties=CommitProperties(app_transactions=properties),
            )
        except CommitFailedError as error:
            self._delta = None
            return first_line(error)
        except BaseException as error:
            if not is_refusal(error):
                raise
            # It may have been made all the same, if what failed came after.
            self._delta = None
            there = self.snapshot()
            if not transactions or any(there.transaction(name) != to for name, to in transactions.items()):
                raise TableError(f"table {self.path}: cannot commit: {first_line(error)}") from error
        self._sync_log(newest, self._fresh().version())
        return None

    def _transaction(self, delta: "DeltaTable", application: str) -> int | None:
        with reading_log(self.path):
            version = delta.transaction_version(application)
        return None if version is None else int(version)

    def _check_there(self, files: Sequence[DataFile], newest: Version) -> None:
        if not files:
            return
        there = set(newest.files)
        gone = sorted(file.relative for file in files if f"{self.path}{os.sep}{file.relative}" not in there)
        if gone:
            raise TableChangedError(
                f"table {self.path}: {len(gone)} of {len(files)} files to remove are not in it any more, as {gone[0]}"
            )

    def _sync_log(self, before: int, now: int) -> None:
        try:
            for version in range(before + 1, now + 1):
                names = [version_name(version)]
                if (self._log / checkpoint_name(version)).exists():
                    names += [checkpoint_name(version), HINT_NAME]  # in this order, for the one names the other
                for name in names:
                    with contextlib.suppress(FileNotFoundError):
                        sync_file(self._log / name)
            sync_folder(self._log)
        except OSError as error:
            raise TableError(f"table {self.path}: cannot sync its log: {error.strerror}") from error

    def _check_schema(self, delta: "DeltaTable") -> None:
        with reading_log(self.path):
            got = pa.schema(delta.schema().to_arrow())
            partition_by = delta.metadata().partition_columns
        expected = self.spec.schema
        if got.names != expected.names or [f.type for f in got] != [f.type for f in expected]:
            differing = sorted(set(got.names) ^ set(expected.names)) or [
                f.name for f in expected if got.field(f.name).type != f.type
            ]
            raise TableError(f"table {self.path}: got other columns than expected: {', '.join(differing)}")
        if tuple(partition_by) != self.spec.partition_by:
            raise TableError(
                f"table {self.path}: got partitions by {partition_by}, expected {list(self.spec.partition_by)}"
            )

    def _read_file(self, entry: DataFile, schema: pa.Schema) -> pa.Table:
        import pyarrow.parquet as pq

        path = self.path / entry.relative
        inside = [name for name in schema.names if name not in entry.values]
        try:
            rows = pq.ParquetFile(path).read(columns=inside)
        except (OSError, pa.ArrowInvalid) as error:
            raise TableError(f"file {path}: cannot read: {first_line(error)}") from error
        arrays = []
        for field in schema:
            if field.name in entry.values:
                value = pa.array([entry.values[field.name]]).cast(field.type)[0]
                arrays.append(pa.chunked_array([pa.repeat(value, rows.num_rows)]))
            else:
                arrays.append(rows.column(field.name))
        return pa.table(arrays, schema=schema)
