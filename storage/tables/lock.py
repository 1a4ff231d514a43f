"""The lock that one process at a time holds while it changes tables."""

import contextlib
from collections.abc import Iterator
from typing import Final

from filelock import FileLock, Timeout

from storage.errors import DataFolderError
from storage.layout import DataLayout

LOCK_SECONDS: Final = 60.0


@contextlib.contextmanager
def hold_tables(layout: DataLayout) -> Iterator[None]:
    """Be the only process that takes files out of the tables. The writer, which only adds some, goes on meanwhile.

    Raises DataFolderError if another process holds them for more than LOCK_SECONDS.
    """
    lock = FileLock(layout.seal_lock, thread_local=False)
    try:
        lock.acquire(timeout=LOCK_SECONDS)
    except Timeout:
        raise DataFolderError(
            f"{layout.seal_lock}: another process swaps files of the tables for more than {LOCK_SECONDS:.0f} s"
        ) from None
    except OSError as error:
        raise DataFolderError(f"{layout.seal_lock}: cannot lock: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()
