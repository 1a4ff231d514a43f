"""Every error that Kitelake raises on purpose, bottom of the hierarchy first.

Each says what was got, what was expected and, where there is one, the next step. None carries a secret.
"""


class KitelakeError(Exception):
    """The root: `except KitelakeError` catches whatever this project raises on purpose."""


class StorageError(KitelakeError):
    """Something in the data folder is not as it must be."""


class JournalError(StorageError):
    """A journal segment cannot be read or written as a segment."""


class TableError(StorageError):
    """A table in the data folder cannot be read or committed to."""


class DataFolderError(StorageError):
    """The data folder cannot be used: not writable, or held by another process."""
