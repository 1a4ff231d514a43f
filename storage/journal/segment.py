"""A segment's file as the journal's writer has it: made aside, appended to, and what of it is not on disk yet."""

import contextlib
import errno
from collections.abc import Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Final

from storage.errors import JournalWriteError
from storage.files import sync_data
from storage.journal.format import SegmentHeader, block_seed, move_block, pack_segment_header

_NEW_SUFFIX: Final = ".new"


@dataclass(frozen=True, eq=False)
class WrittenBlock:
    """A block as it was written. `records` counts callers' records in it, so channel tables are left out."""

    data: bytearray
    first_record: int
    records: int


class SegmentFile:
    """A new segment: a header, the block `table`, and `again`, blocks of other segments. One rename makes it visible.

    `unsynced` are its blocks that are not known to be on disk, at first those of `again`. `oldest` is the oldest
    segment of whose records this one has some. Raises JournalWriteError, and leaves no file, if the system refuses.
    """

    def __init__(
        self, path: Path, header: SegmentHeader, table: bytearray, again: Sequence[WrittenBlock] = (), *, oldest: int
    ) -> None:
        self.path = path
        self.number = header.segment
        self.oldest = oldest
        self.seed = block_seed(header.stream, header.segment)
        self.unsynced = list(again)
        self.has_records = any(block.records for block in again)
        self.done = False
        """Nothing more will be written to it."""
        self.torn = False
        """Bytes of a failed write could not be cut off."""
        opening = pack_segment_header(header) + table
        self.size = len(opening)
        for block in again:
            move_block(block.data, seed=self.seed, offset=self.size)
            self.size += len(block.data)
        new = path.with_name(path.name + _NEW_SUFFIX)
        file: FileIO | None = None
        try:
            file = FileIO(new, "w")
            _write_all(file, opening)
            for block in again:
                _write_all(file, block.data)
            new.rename(path)
        except OSError as error:
            if file is not None:
                file.close()
            with contextlib.suppress(OSError):
                new.unlink()
            raise JournalWriteError(f"segment {path}: cannot create: {error.strerror}") from error
        self._file = file

    def write(self, block: bytearray) -> None:
        """Append a block. If that fails, cut off what was written of it, and raise JournalWriteError."""
        try:
            _write_all(self._file, block)
        except OSError as error:
            try:
                self._file.truncate(self.size)
                self._file.seek(self.size)
            except OSError:
                self.torn = True
            reason = f"cannot write {len(block)} bytes at {self.size}: {error.strerror}"
            raise JournalWriteError(f"segment {self.path}: {reason}") from error
        self.size += len(block)

    def sync(self) -> None:
        """Wait until what is written is on disk. Raises OSError, and must not be called again then."""
        sync_data(self._file.fileno())

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._file.close()


def _write_all(file: FileIO, data: bytes | bytearray) -> None:
    """Write all of it, in as many pieces as the system takes it. Raises OSError."""
    view = memoryview(data)
    while view:
        count = file.write(view)
        if not count:
            raise OSError(errno.EIO, "wrote nothing")
        view = view[count:]
