"""Segments as the journal's writer has them: a file that is appended to, and those that are not on disk yet."""

import contextlib
import errno
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Final

from storage.errors import DiskFullError, JournalSyncError, JournalWriteError
from storage.files import is_full, sync_data, sync_folder
from storage.journal.format import SegmentHeader, block_seed, move_block, pack_segment_header

_NEW_SUFFIX: Final = ".new"
_REWRITE_SECONDS: Final = (1.0, 60.0)  # between rewritings that fail one after the other: the first pause, the longest


@dataclass(frozen=True, eq=False)
class WrittenBlock:
    """A block as it was written. `records` counts callers' records in it, so channel tables are left out."""

    data: bytearray
    first_record: int
    records: int


class SegmentFile:
    """A new segment: a header, the block `table`, and `again`, blocks of other segments. One rename makes it visible.

    `unsynced` are its blocks that are not known to be on disk, at first those of `again`. `oldest` is the oldest
    segment of whose records this one has some. Raises JournalWriteError (DiskFullError), and leaves no file, if the
    system refuses.
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
            raise _refusal(f"segment {path}: cannot create", error) from error
        self._file = file

    def write(self, block: bytearray) -> None:
        """Append a block. If that fails, cut off what was written, and raise JournalWriteError (DiskFullError)."""
        try:
            _write_all(self._file, block)
        except OSError as error:
            try:
                self._file.truncate(self.size)
                self._file.seek(self.size)
            except OSError:
                self.torn = True
            what = f"segment {self.path}: cannot write {len(block)} bytes at {self.size}"
            raise _refusal(what, error) from error
        self.size += len(block)

    def sync(self) -> None:
        """Wait until what is written is on disk. Raises OSError, and must not be called again then."""
        sync_data(self._file.fileno())

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._file.close()


class UnsyncedSegments:
    """The segments with blocks that are not known to be on disk, oldest first, and the folders with such names.

    `sync` may run in another thread than the rest, and alone waits for the disk. `failed` says that a sync has failed:
    from then on it does nothing, until all that is unsynced is in a new segment and `keep_only` says which.
    """

    def __init__(self) -> None:
        self._sync_lock = threading.Lock()  # one sync at a time
        self._lock = threading.Lock()  # guards those below
        self._segments: list[SegmentFile] = []
        self._folders: set[Path] = set()
        self._rewrite_pause = 0.0
        self._rewrite_at = 0.0
        self.failed = False
        self.bytes = 0
        """Bytes of the unsynced blocks."""
        self.durable_records = 0
        """Callers' records that are on disk, with all before them."""

    def add_folders(self, *folders: Path) -> None:
        """Names in these folders are new."""
        with self._lock:
            self._folders.update(folders)

    def add(self, segment: SegmentFile) -> None:
        """A segment was created. The blocks that it repeats count already."""
        with self._lock:
            self._folders.add(segment.path.parent)
            self._segments.append(segment)

    def note(self, segment: SegmentFile, block: WrittenBlock) -> None:
        """A block was written to one of the segments."""
        with self._lock:
            segment.unsynced.append(block)
            self.bytes += len(block.data)

    def retire(self, segment: SegmentFile) -> None:
        """Nothing more will be written to it: the next sync closes it."""
        with self._lock:
            segment.done = True

    def oldest(self, number: int) -> int:
        """The oldest segment of whose records some are not on disk; `number` if there is none."""
        with self._lock:
            return min((segment.oldest for segment in self._segments if segment.unsynced), default=number)

    def is_rewriting_due(self, now: float) -> bool:
        """Whether a sync has failed, and the pause is over that rewriting has to make."""
        return self.failed and now >= self._rewrite_at

    def begin_rewriting(self, now: float) -> list[WrittenBlock]:
        """All that is unsynced, for a new segment. The pause before the next time doubles until a sync succeeds."""
        first, longest = _REWRITE_SECONDS
        self._rewrite_pause = min(max(2 * self._rewrite_pause, first), longest)
        self._rewrite_at = now + self._rewrite_pause
        return [block for segment in self._segments for block in segment.unsynced]

    def keep_only(self, segment: SegmentFile) -> None:
        """It was added, and repeats all that was unsynced: the others are closed as they are."""
        with self._lock:
            others = [each for each in self._segments if each is not segment]
            self._segments = [segment]
            self.failed = False
        for each in others:
            each.close()

    def sync(self) -> None:
        """Wait until what is written now is on disk. Raises JournalSyncError, once for each failure."""
        with self._sync_lock:
            with self._lock:
                if self.failed:
                    return
                # In this order of things a segment's folder is always synced before its records count as durable.
                targets = [(segment, segment.done, len(segment.unsynced)) for segment in self._segments]
                folders, self._folders = self._folders, set()
            self._sync_folders(folders)
            for target in targets:
                self._sync_segment(*target)

    def close(self) -> None:
        """Close the files, synced or not."""
        with self._sync_lock:
            for segment in self._segments:
                segment.close()
            self._segments.clear()

    def _sync_folders(self, folders: set[Path]) -> None:
        for folder in folders:
            try:
                sync_folder(folder)
            except OSError as error:
                self.add_folders(*folders)
                raise JournalSyncError(f"folder {folder}: cannot sync: {error.strerror}") from error

    def _sync_segment(self, segment: SegmentFile, done: bool, blocks: int) -> None:
        """Sync one file with its first unsynced blocks, and close it if it is done. Raises JournalSyncError."""
        if blocks:
            try:
                segment.sync()
            except OSError as error:
                with self._lock:
                    self.failed = True
                raise JournalSyncError(f"segment {segment.path}: cannot sync: {error.strerror}") from error
        with self._lock:
            durable = segment.unsynced[:blocks]
            del segment.unsynced[:blocks]
            self.bytes -= sum(len(block.data) for block in durable)
            self.durable_records += sum(block.records for block in durable)
            if blocks:
                self._rewrite_pause = self._rewrite_at = 0.0
            if done:
                self._segments.remove(segment)
                segment.close()


def _refusal(what: str, error: OSError) -> JournalWriteError:
    """The system did not take bytes, and why."""
    kind = DiskFullError if is_full(error) else JournalWriteError
    return kind(f"{what}: {error.strerror}")


def _write_all(file: FileIO, data: bytes | bytearray) -> None:
    """Write all of it, in as many pieces as the system takes it. Raises OSError."""
    view = memoryview(data)
    while view:
        count = file.write(view)
        if not count:
            raise OSError(errno.EIO, "wrote nothing")
        view = view[count:]
