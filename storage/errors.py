"""Every error that Kitelake raises on purpose, bottom of the hierarchy first.

Each says what was got, what was expected and, where there is one, the next step. None carries a secret.
"""

from pathlib import Path


class KitelakeError(Exception):
    """The root: `except KitelakeError` catches whatever this project raises on purpose."""


class StorageError(KitelakeError):
    """Something in the data folder is not as it must be."""


class JournalError(StorageError):
    """A journal segment cannot be read or written as a segment."""


class SegmentReadError(JournalError):
    """The system does not let a segment be read. What it contains is not to blame."""


class SegmentMissingError(SegmentReadError):
    """A segment is in the journal in no form: it was removed meanwhile, or was never there."""


class JournalVersionError(JournalError):
    """The segment is whole, but of a version that this code does not read."""


class JournalWriteError(JournalError):
    """A block could not be written. Its records are still buffered, and the next flush tries again."""


class DiskFullError(JournalWriteError):
    """The same, because the disk, or its user's share of it (a quota), has no room left."""


class JournalSyncError(JournalError):
    """The system could not say that written records are on disk. They may be, or may be lost with the machine."""


class TableError(StorageError):
    """A table in the data folder cannot be read or committed to."""


class DamagedLogError(TableError):
    """The log of a table cannot be read. `problem` is what is wrong, with the name of the file if that is known."""

    def __init__(self, table: Path, problem: str) -> None:
        super().__init__(
            f"table {table}: cannot read its log: {problem}; `kitelake verify` says what else is damaged, "
            "and docs/operations.md how a log is made anew"
        )
        self.problem = problem


class TableMissingError(TableError):
    """The table does not exist yet."""


class TableChangedError(TableError):
    """Files that were to be removed are not in the table any more. Nothing was done."""


class SealError(TableError):
    """A partition cannot be sealed: files of it are damaged, or would not be the same rows. It is as it was."""


class RowsError(StorageError):
    """Rows are not those of the table that they are for."""


class DataFolderError(StorageError):
    """The data folder cannot be used: not writable, or held by another process."""
