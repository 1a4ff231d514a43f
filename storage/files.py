"""Data files, the calls that make bytes and names survive the end of the machine, and opening without waiting."""

import errno
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO


@dataclass(frozen=True)
class DataFile:
    """A Parquet file in a table's folder.

    `relative` is its path below the table's folder with `/` between the parts, `size` in bytes, `values` the
    partition columns as text, `rows` the row count, `stats` the JSON text of the commit log (bounds and null counts).
    """

    relative: str
    size: int
    values: Mapping[str, str]
    rows: int
    stats: str


def open_regular(path: Path) -> BinaryIO:
    """Open a file whose name somebody else gave, to read it.

    Raises OSError, for a folder as well, and for a FIFO, a device or a socket, of which a reader might wait for ever.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket
            raise _irregular(path) from None
        raise
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise _irregular(path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _irregular(path: Path) -> OSError:
    return OSError(errno.EINVAL, "it is a FIFO, a device or a socket, expected a regular file", str(path))


def sync_data(descriptor: int) -> None:
    """Wait until a file's bytes and size are on disk. Raises OSError."""
    getattr(os, "fdatasync", os.fsync)(descriptor)


def sync_file(path: Path) -> None:
    """The same for a file that is not open. Raises OSError."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        sync_data(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on disk. Raises OSError. Windows has no such call and needs none."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folders(folder: Path, root: Path) -> None:
    """Create `folder` and what is missing between it and `root`, names synced; `root` itself too. Raises OSError."""
    if folder.is_dir():
        return
    if folder == root:
        folder.parent.mkdir(parents=True, exist_ok=True)
    else:
        make_folders(folder.parent, root)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def is_full(error: BaseException) -> bool:
    """Whether an error is, or comes from, that of a disk or of a user's share of it (a quota) that has no room left."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
