"""Data files, files that are replaced whole, and the calls that make bytes and names survive the end of the machine."""

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

BEGUN: Final = ".*.new"
"""What follows a file's name, as a pattern, in that of one that is being written to replace it."""


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


def write_whole(path: Path, data: str | bytes, *, mode: int | None = None, durable: bool = True) -> None:
    """Write a file in the place of the one before: whoever reads it has either, and never a part.

    Text is written as UTF-8. `mode` and `durable` as `replacing` has them. Raises OSError.
    """
    with replacing(path, mode=mode, durable=durable) as file:
        file.write(data.encode() if isinstance(data, str) else data)


@contextlib.contextmanager
def replacing(path: Path, *, mode: int | None = None, durable: bool = True) -> Iterator[BinaryIO]:
    """The same for a file that is written in pieces: it has its name when the context ends, and not if that raises.

    Until then it lies beside, under a name that no other writer of the same file has. It has exactly the permissions
    `mode` before its first byte; None: those of any new file. With `durable` it survives the end of the machine when
    this returns; without, an old file may be lost as well as the new one then, but disks are not waited for.

    Raises OSError, as of a full disk: then the file of before is there, or the new one whole, and nothing beside.
    """
    new = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(new, flags, 0o666 if mode is None else mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if mode is not None:
                os.fchmod(descriptor, mode)  # the umask may have taken some of it
            yield file
            file.flush()
            if durable:
                sync_data(descriptor)
        new.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            new.unlink()
        raise
    if durable:
        sync_folder(path.parent)


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


def is_full(error: OSError) -> bool:
    """Whether a disk, or a user's share of it (a quota), has no room left."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
