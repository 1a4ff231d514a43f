"""The journal: append-only segments of raw frames, written by one process while others read.

`storage.journal_format` has the byte layout and what always holds. This module has the writer and the listing, and
re-exports the reader, so that users of the journal import one name.

What the writer promises:

- `append` only buffers. `flush` writes all that is buffered as one block; a record that was written survives the end
  of this process. `sync` makes what was written survive the end of the machine. Two counts say how far each has come.
- A write that fails leaves whole blocks only (the torn bytes are cut off, or the segment is left for a new one), and
  every record stays buffered: the next `flush` tries again. Memory is the limit until then.
- A failed `fdatasync` is never repeated on the same file, because the system reports a lost page once and then calls
  it clean. `sync` raises once, the writer goes on in a new segment, and the records in question are counted in
  `unconfirmed_records`. They are not written a second time: `durable_records` then stays that much below `records`.

The writer holds a lock on its stream, which ends with the process: so others know whether a stream still grows.

Threads: `append`, `flush`, `channel` and `close` belong to one thread (the event loop's). `sync` may run in another at
the same time; it alone waits for the disk.
"""

import contextlib
import errno
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Final

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from storage.errors import JournalError, JournalSyncError, JournalWriteError
from storage.files import sync_data, sync_folder
from storage.journal_format import (
    FINAL,
    SEALED,
    SERVICE,
    Block,
    Channel,
    Damage,
    Kind,
    SegmentHeader,
    block_seed,
    pack_block,
    pack_channels,
    pack_segment_header,
    payload_offset,
)
from storage.journal_reader import SegmentReader
from storage.layout import STREAM_PATTERN, DataLayout, parse_segment

__all__ = [
    "Block",
    "Channel",
    "Damage",
    "JournalWriter",
    "Kind",
    "SegmentReader",
    "is_alive",
    "segments",
    "streams",
]

MAX_BLOCK_BYTES: Final = 64 << 20
MAX_CHANNELS: Final = 1 << 16
_KIND_SHIFT: Final = 16
_BINARY: Final = int(Kind.BINARY)
_NEW_SUFFIX: Final = ".new"
_LOCK_SECONDS: Final = 10.0


@dataclass(eq=False)
class _Segment:
    """A file of the writer's. Counts are of callers' records in it."""

    number: int
    path: Path
    file: FileIO
    size: int
    opened_at: float
    seed: int
    written_records: int = 0
    synced_records: int = 0
    done: bool = False  # nothing more will be written to it
    torn: bool = False  # bytes of a failed write could not be cut off
    failed: bool = False  # it could not be synced, and that is not tried again


class JournalWriter:
    """Writes one stream. Opens its first segment at once, so that an unusable folder shows before the first frame.

    A segment with records in it is sealed, and the next one begun, when a flush finds `segment_bytes` reached or
    `segment_seconds` passed. Counts of records are those of callers: the writer's own channel tables are left out.
    Raises JournalError if the stream exists already or its folder cannot be written.
    """

    def __init__(
        self,
        layout: DataLayout,
        stream: str,
        *,
        segment_bytes: int = 64 << 20,
        segment_seconds: float = 10.0,
        clock_ns: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stream = stream
        self.segment_bytes = segment_bytes
        self.segment_seconds = segment_seconds
        self._layout = layout
        self._clock_ns = clock_ns
        self._monotonic = monotonic
        self._channels = [SERVICE]
        # What append fills, a list a column. All of it is one block at the next flush.
        self._times: list[int] = []
        self._tags: list[int] = []
        self._payloads: list[bytes] = []
        self._buffered_tables = 0
        self._next_ordinal = 0
        self._next_number = 0
        self._written_records = 0
        self._written_bytes = 0
        self._packets = 0
        self._durable_records = 0
        self._current: _Segment | None = None
        self._closed = False
        self._sync_lock = threading.Lock()  # one sync at a time
        self._lock = threading.Lock()  # guards the three below
        self._unsynced: list[_Segment] = []
        self._failed: list[_Segment] = []
        self._changed_folders: set[Path] = set()
        folder = layout.stream(stream)
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise JournalError(f"stream {stream}: cannot create {folder}: {error.strerror}") from error
        # Whoever asks whether the stream is alive holds the lock for a moment.
        self._alive = FileLock(layout.stream_lock(stream), thread_local=False)
        try:
            self._alive.acquire(timeout=_LOCK_SECONDS)
        except (OSError, Timeout) as error:
            raise JournalError(f"stream {stream}: cannot lock {self._alive.lock_file}: {error}") from error
        self._changed_folders.update((folder.parent, folder.parent.parent))
        self._open_segment()

    def channel(self, account: str, connection: int) -> int:
        """The number of a connection of an account, the same for the stream's whole life. New ones are journalled."""
        channel = Channel(account, connection)
        if channel in self._channels:
            return self._channels.index(channel)
        if len(self._channels) == MAX_CHANNELS:
            raise JournalError(f"stream {self.stream}: got one channel more than {MAX_CHANNELS}")
        self._channels.append(channel)
        self.append(Kind.CHANNELS, 0, self._clock_ns(), pack_channels(self._channels))
        self._buffered_tables += 1
        return len(self._channels) - 1

    def append(self, kind: Kind, channel: int, received_at_ns: int, payload: bytes) -> None:
        """Buffer one record (under 4 GiB; `channel` as `channel()` gave it). Does no I/O and cannot fail."""
        self._times.append(received_at_ns)
        self._tags.append(kind << _KIND_SHIFT | channel)
        self._payloads.append(payload)

    def flush(self) -> None:
        """Write all that is buffered, then begin a new segment if it is time.

        Raises JournalWriteError if the system did not take the bytes: what was not written stays buffered.
        """
        if self._closed:
            if self._tags:
                raise JournalError(f"stream {self.stream}: got {len(self._tags)} records after it was closed")
            return
        segment = self._current
        if segment is None or segment.failed or segment.torn:
            segment = self._next_segment()
        while self._tags:
            self._write_block(segment)
        age_seconds = self._monotonic() - segment.opened_at
        if segment.written_records and (segment.size >= self.segment_bytes or age_seconds >= self.segment_seconds):
            self._next_segment()

    def sync(self) -> None:
        """Wait until what is written now is on disk. May run in another thread than the rest.

        Raises JournalSyncError, once for each segment, if the system could not confirm its records.
        """
        with self._sync_lock:
            with self._lock:
                # In this order of things a segment's folder is always synced before its records count as durable.
                targets = [(segment, segment.done, segment.written_records) for segment in self._unsynced]
                folders, self._changed_folders = self._changed_folders, set()
            self._sync_folders(folders)
            problems = [problem for target in targets if (problem := self._sync_segment(*target))]
            if problems:
                raise JournalSyncError("; ".join(problems))

    def close(self) -> None:
        """Flush, seal the last segment as the stream's last, sync. Idempotent; after a JournalWriteError, try again."""
        if self._closed:
            return
        self.flush()
        segment = self._current or self._next_segment()
        self._seal(segment, SEALED | FINAL)
        self._closed = True
        try:
            self.sync()
        finally:
            self._alive.release()

    @property
    def closed(self) -> bool:
        """Whether `close` has sealed the stream: nothing can be appended any more."""
        return self._closed

    @property
    def records(self) -> int:
        """Records appended."""
        return self._written_records + len(self._tags) - self._buffered_tables

    @property
    def written_records(self) -> int:
        """Records in the file: they survive the end of this process."""
        return self._written_records

    @property
    def durable_records(self) -> int:
        """Records on disk: they survive the end of the machine."""
        return self._durable_records

    @property
    def unconfirmed_records(self) -> int:
        """Written records that the system could not confirm to be on disk, and never will be asked about again."""
        with self._lock:
            return sum(segment.written_records - segment.synced_records for segment in self._failed)

    @property
    def written_bytes(self) -> int:
        """Bytes of all segments, headers included."""
        return self._written_bytes

    @property
    def packets(self) -> int:
        """Packets in the written frames, by the count with which each binary frame begins."""
        return self._packets

    @property
    def segment(self) -> int:
        """The number of the segment being written."""
        return self._next_number - 1

    def _open_segment(self) -> _Segment:
        """Create the next segment with its header and first block, and make it visible with one rename."""
        number = self._next_number
        path = self._layout.segment(self.stream, number)
        new = path.with_name(path.name + _NEW_SUFFIX)
        header = pack_segment_header(SegmentHeader(self.stream, number, self._clock_ns(), self._next_ordinal))
        seed = block_seed(self.stream, number)
        opening = header + self._pack_table(seed, offset=len(header), flags=0)
        file: FileIO | None = None
        try:
            file = FileIO(new, "w")
            _write_all(file, opening)
            new.rename(path)
        except OSError as error:
            if file is not None:
                file.close()
            with contextlib.suppress(OSError):
                new.unlink()
            raise JournalWriteError(f"segment {path}: cannot create: {error.strerror}") from error
        segment = _Segment(number, path, file, len(opening), self._monotonic(), seed)
        self._written_bytes += len(opening)
        self._next_ordinal += 1
        self._next_number += 1
        self._current = segment
        with self._lock:
            self._changed_folders.add(path.parent)
            self._unsynced.append(segment)
        return segment

    def _next_segment(self) -> _Segment:
        """Seal the current segment, if it can be, and open the next."""
        segment, self._current = self._current, None
        if segment is not None and not segment.torn:
            try:
                self._seal(segment, SEALED)
            except JournalWriteError:
                if not segment.failed and not segment.torn:
                    self._current = segment
                    raise
        if segment is not None:
            self._retire(segment)
        return self._open_segment()

    def _seal(self, segment: _Segment, flags: int) -> None:
        self._write(segment, self._pack_table(segment.seed, offset=segment.size, flags=flags))
        self._next_ordinal += 1
        self._retire(segment)

    def _retire(self, segment: _Segment) -> None:
        """Nothing more will be written to it: the next sync closes it, or this does if there will be none."""
        with self._lock:
            segment.done = True
            if segment.failed:
                segment.file.close()

    def _pack_table(self, seed: int, *, offset: int, flags: int) -> bytearray:
        """A block with the channel table alone."""
        payload = pack_channels(self._channels)
        return pack_block(
            seed=seed,
            flags=flags,
            offset=offset,
            first_record=self._next_ordinal,
            received_at_ns=np.array([self._clock_ns()], np.int64),
            lengths=np.array([len(payload)], np.uint32),
            channels=np.zeros(1, np.uint16),
            kinds=np.array([Kind.CHANNELS], np.uint8),
            payloads=[payload],
        )

    def _write_block(self, segment: _Segment) -> None:
        """Write what is buffered, or as much as goes into one block, and forget it."""
        count = len(self._payloads)
        lengths = np.fromiter(map(len, self._payloads), np.uint32, count)
        ends = lengths.cumsum(dtype=np.int64)
        if ends[-1] > MAX_BLOCK_BYTES:
            count = max(1, int(np.searchsorted(ends, MAX_BLOCK_BYTES, "right")))
            lengths, ends = lengths[:count], ends[:count]
        tags = np.array(self._tags[:count], "<u4").view("<u2")
        kinds = tags[1::2].astype(np.uint8)
        block = pack_block(
            seed=segment.seed,
            flags=0,
            offset=segment.size,
            first_record=self._next_ordinal,
            received_at_ns=np.array(self._times[:count], np.int64),
            lengths=lengths,
            channels=tags[::2],
            kinds=kinds,
            payloads=self._payloads[:count],
        )
        self._write(segment, block)
        tables = count - int(np.count_nonzero(kinds)) if self._buffered_tables else 0
        segment.written_records += count - tables
        self._written_records += count - tables
        self._buffered_tables -= tables
        self._next_ordinal += count
        self._packets += _claimed_packets(block, kinds, lengths, ends)
        del self._times[:count], self._tags[:count], self._payloads[:count]

    def _write(self, segment: _Segment, block: bytearray) -> None:
        """Append a block. If that fails, cut off what was written of it, and raise JournalWriteError."""
        try:
            _write_all(segment.file, block)
        except OSError as error:
            try:
                segment.file.truncate(segment.size)
                segment.file.seek(segment.size)
            except OSError:
                segment.torn = True
            reason = f"cannot write {len(block)} bytes at {segment.size}: {error.strerror}"
            raise JournalWriteError(f"segment {segment.path}: {reason}") from error
        segment.size += len(block)
        self._written_bytes += len(block)

    def _sync_folders(self, folders: set[Path]) -> None:
        for folder in folders:
            try:
                sync_folder(folder)
            except OSError as error:
                with self._lock:
                    self._changed_folders |= folders
                raise JournalSyncError(f"folder {folder}: cannot sync: {error.strerror}") from error

    def _sync_segment(self, segment: _Segment, done: bool, written_records: int) -> str:
        """Sync one file, and close it if it is done. Returns what went wrong ("" if nothing did)."""
        problem = ""
        try:
            sync_data(segment.file.fileno())
        except OSError as error:
            problem = f"segment {segment.path}: cannot sync: {error.strerror}"
        with self._lock:
            if problem:
                segment.failed = True
                self._failed.append(segment)
            else:
                self._durable_records += written_records - segment.synced_records
                segment.synced_records = written_records
            if problem or done:
                self._unsynced.remove(segment)
            if segment.done and (problem or done):
                segment.file.close()
        return problem


def streams(layout: DataLayout) -> list[str]:
    """The names of all streams that have a folder, oldest first. Raises JournalError if that cannot be read."""
    return sorted(path.name for path in _list(layout.journal) if STREAM_PATTERN.fullmatch(path.name) and path.is_dir())


def segments(layout: DataLayout, stream: str) -> list[int]:
    """The numbers of a stream's segments, in order. Raises JournalError if its folder cannot be read."""
    numbers = []
    for path in _list(layout.stream(stream)):
        with contextlib.suppress(ValueError):
            numbers.append(parse_segment(path)[1])
    return sorted(numbers)


def is_alive(layout: DataLayout, stream: str) -> bool:
    """Whether a process is writing the stream. A stream that has segments and is not alive will never grow again."""
    path = layout.stream_lock(stream)
    if not path.exists():
        return False
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError as error:
        raise JournalError(f"stream {stream}: cannot lock {path}: {error.strerror}") from error
    lock.release()
    return False


def _claimed_packets(
    block: bytearray, kinds: NDArray[np.uint8], lengths: NDArray[np.uint32], ends: NDArray[np.int64]
) -> int:
    """The sum of the packet counts with which binary frames begin. Heartbeats have no count."""
    payload = np.frombuffer(block, np.uint8, offset=payload_offset(len(kinds)))
    starts = (ends - lengths)[(kinds == _BINARY) & (lengths > 1)]
    return 256 * int(payload[starts].sum()) + int(payload[starts + 1].sum())


def _list(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise JournalError(f"folder {folder}: cannot read: {error.strerror}") from error


def _write_all(file: FileIO, data: bytes | bytearray) -> None:
    """Write all of it, in as many pieces as the system takes it. Raises OSError."""
    view = memoryview(data)
    while view:
        count = file.write(view)
        if not count:
            raise OSError(errno.EIO, "wrote nothing")
        view = view[count:]
