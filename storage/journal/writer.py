"""The journal: append-only segments of raw frames, written by one process while others read.

`storage.journal.format` has the byte layout and what always holds. This module has the writer, and re-exports the
reader and the listing, so that users of the journal import one name.

What the writer promises:

- `append` only buffers. `flush` writes all that is buffered as one block; a record that was written survives the end
  of this process. `sync` makes what was written survive the end of the machine. Two counts say how far each has come.
- A write that fails leaves whole blocks only (the torn bytes are cut off, or the segment is left for a new one), and
  every record stays buffered: the next `flush` tries again. Memory is the limit until then.
- A failed `fdatasync` is never retried on the same descriptor, because the system reports a lost page once and then
  calls it clean: what was not durable is rewritten to a new segment. For that, blocks stay in memory until a sync has
  confirmed them. The next `flush` does it; `sync` raises once for each failure. The new segment is made aside and
  renamed when it is whole, so that the end of this process never hides what the old one holds. If it cannot be synced
  either, the same again, after a pause that doubles: a disk that refuses for long is not filled with repetitions.
- `durable_records` is a prefix of the stream: it never counts a record before all of those before it.

The writer holds a lock on its stream, which ends with the process: so others know whether a stream still grows.

Threads: `append`, `flush`, `mend`, `channel` and `close` belong to one thread (the event loop's). `sync` may run in
another at the same time; it alone waits for the disk.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from storage.errors import JournalError, JournalSyncError, JournalWriteError
from storage.files import sync_folder
from storage.journal.folder import RecordReader, is_alive, segments, streams
from storage.journal.format import (
    FINAL,
    SEALED,
    SEGMENT_HEADER,
    SERVICE,
    TABLE,
    Block,
    Channel,
    Damage,
    Kind,
    SegmentHeader,
    block_seed,
    pack_block,
    pack_channels,
    payload_offset,
)
from storage.journal.reader import SegmentReader
from storage.journal.segment import SegmentFile, WrittenBlock
from storage.layout import DataLayout

__all__ = [
    "Block",
    "Channel",
    "Damage",
    "JournalWriter",
    "Kind",
    "RecordReader",
    "SegmentReader",
    "is_alive",
    "segments",
    "streams",
]

MAX_BLOCK_BYTES: Final = 64 << 20
MAX_CHANNELS: Final = 1 << 16
_KIND_SHIFT: Final = 16
_BINARY: Final = int(Kind.BINARY)
_LOCK_SECONDS: Final = 10.0
_REWRITE_SECONDS: Final = (1.0, 60.0)  # between rewritings that fail one after the other: the first pause, the longest


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
        self._measured = (0, 0)  # so many of the payloads, and their bytes: append itself counts nothing
        self._next_ordinal = 0
        self._next_number = 0
        self._written_records = 0
        self._written_bytes = 0
        self._packets = 0
        self._durable_records = 0
        self._current: SegmentFile | None = None
        self._opened_at = 0.0
        self._closed = False
        self._sync_lock = threading.Lock()  # one sync at a time
        self._lock = threading.Lock()  # guards those below
        self._unsynced: list[SegmentFile] = []
        self._unsynced_bytes = 0
        self._failed = False  # what is unsynced has to be rewritten
        self._rewrite_pause = 0.0
        self._rewrite_at = 0.0
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
        """Write all that is buffered, then begin a new segment if it is time. After a failed sync, rewrite first.

        Raises JournalWriteError if the system did not take the bytes: what was not written stays buffered.
        """
        if self._closed:
            if self._tags:
                raise JournalError(f"stream {self.stream}: got {len(self._tags)} records after it was closed")
            return
        self.mend()
        segment = self._current
        if segment is None or segment.torn:
            segment = self._next_segment()
        try:
            while self._tags:
                self._write_block(segment)
        except JournalWriteError:
            if self._is_over(segment):  # another file may take what this one does not
                self._next_segment()
            raise
        if self._is_over(segment):
            self._next_segment()

    def mend(self) -> None:
        """Rewrite what a failed sync has left, if it is time, and write nothing else. Raises JournalWriteError."""
        if self._failed and self._monotonic() >= self._rewrite_at:
            self._rewrite()

    def sync(self) -> None:
        """Wait until what is written now is on disk. May run in another thread than the rest.

        Raises JournalSyncError, once for each failure. From then on it does nothing until a flush has rewritten what
        is not durable.
        """
        with self._sync_lock:
            with self._lock:
                if self._failed:
                    return
                # In this order of things a segment's folder is always synced before its records count as durable.
                targets = [(segment, segment.done, len(segment.unsynced)) for segment in self._unsynced]
                folders, self._changed_folders = self._changed_folders, set()
            self._sync_folders(folders)
            for target in targets:
                self._sync_segment(*target)

    def close(self) -> None:
        """Flush, seal the last segment as the stream's last, sync. Idempotent; after a JournalWriteError, try again.

        Raises JournalSyncError, and is closed all the same, if a sync failed. It rewrites once: `durable_records` says
        whether that was confirmed.
        """
        if self._closed:
            return
        self.flush()
        self._seal(self._current or self._next_segment(), SEALED | FINAL)
        self._closed = True
        try:
            self._last_sync()
        finally:
            with self._sync_lock:
                for segment in self._unsynced:
                    segment.close()
                self._unsynced.clear()
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
    def buffered_bytes(self) -> int:
        """Bytes of the payloads that are appended and not written: what the end of this process would cost.

        For the thread that appends. Takes as long as what was appended since it was asked last.
        """
        count, size = self._measured
        self._measured = (len(self._payloads), size + sum(map(len, self._payloads[count:])))
        return self._measured[1]

    @property
    def unsynced_bytes(self) -> int:
        """Bytes of the blocks that are written and not durable. They are kept in memory."""
        return self._unsynced_bytes

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

    def _open_segment(self, again: Sequence[WrittenBlock] = ()) -> SegmentFile:
        """Create the next segment. It begins with the channel table, which is a record unless it repeats blocks."""
        number = self._next_number
        path = self._layout.segment(self.stream, number)
        with self._lock:
            oldest = min((segment.oldest for segment in self._unsynced if segment.unsynced), default=number)
        first_record = again[0].first_record if again else self._next_ordinal
        header = SegmentHeader(self.stream, number, self._clock_ns(), first_record, number - oldest)
        seed, flags = block_seed(self.stream, number), TABLE if again else 0
        table = self._pack_table(seed, SEGMENT_HEADER.size, flags, first_record)
        segment = SegmentFile(path, header, table, again, oldest=oldest if again else number)
        opened_at = self._monotonic()
        with self._lock:
            self._changed_folders.add(path.parent)
            self._unsynced.append(segment)
        if not again:
            self._written(segment, table, records=1, callers=0)
        self._written_bytes += segment.size
        self._next_number += 1
        self._current, self._opened_at = segment, opened_at
        return segment

    def _is_over(self, segment: SegmentFile) -> bool:
        """Whether it is time for another segment."""
        age_seconds = self._monotonic() - self._opened_at
        return segment.has_records and (segment.size >= self.segment_bytes or age_seconds >= self.segment_seconds)

    def _next_segment(self) -> SegmentFile:
        """Seal the current segment, if it can be, and open the next. If that cannot be, an unsealed one stays."""
        segment = self._current
        if segment is not None and not segment.torn:
            with contextlib.suppress(JournalWriteError):
                self._seal(segment, SEALED)
                self._current = None
        new = self._open_segment()
        if segment is not None:
            self._retire(segment)
        return new

    def _rewrite(self) -> SegmentFile:
        """Begin a new segment with all that is not durable, and leave the old ones as they are."""
        first, longest = _REWRITE_SECONDS
        self._rewrite_pause = min(max(2 * self._rewrite_pause, first), longest)
        self._rewrite_at = self._monotonic() + self._rewrite_pause
        old = list(self._unsynced)  # nobody else changes it: there is no sync until this is done
        segment = self._open_segment([block for each in old for block in each.unsynced])
        with self._lock:
            self._unsynced = [segment]
            self._failed = False
        for each in old:
            each.close()
        return segment

    def _last_sync(self) -> None:
        """Sync the sealed segment. If that fails, or failed before, rewrite, and sync that."""
        problem: JournalSyncError | None = None
        try:
            self.sync()
        except JournalSyncError as error:
            problem = error
        if self._failed:
            try:
                self._seal(self._rewrite(), SEALED | FINAL)
                self.sync()
            except JournalError as error:
                raise JournalSyncError("; ".join(str(each) for each in (problem, error) if each)) from error
        if problem is not None:
            raise problem

    def _seal(self, segment: SegmentFile, flags: int) -> None:
        table = self._pack_table(segment.seed, segment.size, flags, self._next_ordinal)
        self._write(segment, table, records=1, callers=0)
        self._retire(segment)

    def _retire(self, segment: SegmentFile) -> None:
        """Nothing more will be written to it: the next sync closes it."""
        with self._lock:
            segment.done = True

    def _write(self, segment: SegmentFile, block: bytearray, *, records: int, callers: int) -> None:
        """Append a block of so many records, of which `callers` are no channel tables. Raises JournalWriteError."""
        segment.write(block)
        self._written_bytes += len(block)
        self._written(segment, block, records=records, callers=callers)

    def _written(self, segment: SegmentFile, block: bytearray, *, records: int, callers: int) -> None:
        """Take note of a written block, which is kept until it is durable."""
        with self._lock:
            segment.unsynced.append(WrittenBlock(block, self._next_ordinal, callers))
            self._unsynced_bytes += len(block)
        segment.has_records |= callers > 0
        self._next_ordinal += records
        self._written_records += callers

    def _pack_table(self, seed: int, offset: int, flags: int, first_record: int) -> bytearray:
        """A block with the channel table alone."""
        payload = pack_channels(self._channels)
        return pack_block(
            seed=seed,
            flags=flags,
            offset=offset,
            first_record=first_record,
            received_at_ns=np.array([self._clock_ns()], np.int64),
            lengths=np.array([len(payload)], np.uint32),
            channels=np.zeros(1, np.uint16),
            kinds=np.array([Kind.CHANNELS], np.uint8),
            payloads=[payload],
        )

    def _write_block(self, segment: SegmentFile) -> None:
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
        tables = count - int(np.count_nonzero(kinds)) if self._buffered_tables else 0
        self._write(segment, block, records=count, callers=count - tables)
        self._buffered_tables -= tables
        self._measured = (0, 0)
        self._packets += _claimed_packets(block, kinds, lengths, ends)
        del self._times[:count], self._tags[:count], self._payloads[:count]

    def _sync_folders(self, folders: set[Path]) -> None:
        for folder in folders:
            try:
                sync_folder(folder)
            except OSError as error:
                with self._lock:
                    self._changed_folders |= folders
                raise JournalSyncError(f"folder {folder}: cannot sync: {error.strerror}") from error

    def _sync_segment(self, segment: SegmentFile, done: bool, blocks: int) -> None:
        """Sync one file with its first unsynced blocks, and close it if it is done. Raises JournalSyncError."""
        if blocks:
            try:
                segment.sync()
            except OSError as error:
                with self._lock:
                    self._failed = True
                raise JournalSyncError(f"segment {segment.path}: cannot sync: {error.strerror}") from error
        with self._lock:
            durable = segment.unsynced[:blocks]
            del segment.unsynced[:blocks]
            self._unsynced_bytes -= sum(len(block.data) for block in durable)
            self._durable_records += sum(block.records for block in durable)
            if blocks:
                self._rewrite_pause = self._rewrite_at = 0.0
            if done:
                self._unsynced.remove(segment)
                segment.close()


def _claimed_packets(
    block: bytearray, kinds: NDArray[np.uint8], lengths: NDArray[np.uint32], ends: NDArray[np.int64]
) -> int:
    """The sum of the packet counts with which binary frames begin. Heartbeats have no count."""
    payload = np.frombuffer(block, np.uint8, offset=payload_offset(len(kinds)))
    starts = (ends - lengths)[(kinds == _BINARY) & (lengths > 1)]
    return 256 * int(payload[starts].sum()) + int(payload[starts + 1].sum())
