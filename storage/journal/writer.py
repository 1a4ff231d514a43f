"""The journal's writer: append-only segments of raw frames, written by one process while others read.

`storage.journal.format` has the byte layout and what always holds. What the writer promises:

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
import time
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from filelock import FileLock, Timeout

from storage.errors import JournalError, JournalSyncError, JournalWriteError
from storage.journal.buffer import RecordBuffer
from storage.journal.format import (
    FINAL,
    SEALED,
    SEGMENT_HEADER,
    SERVICE,
    TABLE,
    Channel,
    Kind,
    SegmentHeader,
    block_seed,
    pack_block,
    pack_channels,
)
from storage.journal.segment import SegmentFile, UnsyncedSegments, WrittenBlock
from storage.layout import DataLayout

MAX_CHANNELS: Final = 1 << 16
_LOCK_SECONDS: Final = 10.0


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
        self._buffer = RecordBuffer()  # all of it is one block at the next flush
        self._next_ordinal = 0
        self._next_number = 0
        self._written_records = 0
        self._written_bytes = 0
        self._packets = 0
        self._current: SegmentFile | None = None
        self._opened_at = 0.0
        self._closed = False
        self._unsynced = UnsyncedSegments()
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
        self._unsynced.add_folders(folder.parent, folder.parent.parent)
        self._open_segment()

    def channel(self, account: str, connection: int) -> int:
        """The number of a connection of an account, the same for the stream's whole life. New ones are journalled."""
        channel = Channel(account, connection)
        if channel in self._channels:
            return self._channels.index(channel)
        if len(self._channels) == MAX_CHANNELS:
            raise JournalError(f"stream {self.stream}: got one channel more than {MAX_CHANNELS}")
        self._channels.append(channel)
        self._buffer.append_table(self._clock_ns(), pack_channels(self._channels))
        return len(self._channels) - 1

    def append(self, kind: Kind, channel: int, received_at_ns: int, *payloads: bytes) -> None:
        """Buffer records that came together. Does no I/O and cannot fail.

        Each is under 4 GiB; `channel` is as `channel()` gave it.
        """
        self._buffer.append(kind, channel, received_at_ns, *payloads)

    def flush(self) -> None:
        """Write all that is buffered, then begin a new segment if it is time. After a failed sync, rewrite first.

        Raises JournalWriteError if the system did not take the bytes: what was not written stays buffered.
        """
        if self._closed:
            if self._buffer:
                raise JournalError(f"stream {self.stream}: got {len(self._buffer)} records after it was closed")
            return
        self.mend()
        segment = self._current
        if segment is None or segment.torn:
            segment = self._next_segment()
        try:
            while self._buffer:
                self._write_block(segment)
        except JournalWriteError:
            if self._is_over(segment):  # another file may take what this one does not
                self._next_segment()
            raise
        if self._is_over(segment):
            self._next_segment()

    def mend(self) -> None:
        """Rewrite what a failed sync has left, if it is time, and write nothing else. Raises JournalWriteError."""
        if self._unsynced.is_rewriting_due(self._monotonic()):
            self._rewrite()

    def sync(self) -> None:
        """Wait until what is written now is on disk. May run in another thread than the rest.

        Raises JournalSyncError, once for each failure. From then on it does nothing until a flush has rewritten what
        is not durable.
        """
        self._unsynced.sync()

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
            self._unsynced.close()
            self._alive.release()

    @property
    def closed(self) -> bool:
        """Whether `close` has sealed the stream: nothing can be appended any more."""
        return self._closed

    @property
    def records(self) -> int:
        """Records appended."""
        return self._written_records + self._buffer.callers

    @property
    def written_records(self) -> int:
        """Records in the file: they survive the end of this process."""
        return self._written_records

    @property
    def durable_records(self) -> int:
        """Records on disk: they survive the end of the machine."""
        return self._unsynced.durable_records

    @property
    def buffered_bytes(self) -> int:
        """Bytes of the payloads that are appended and not written: what the end of this process would cost.

        For the thread that appends. Takes as long as what was appended since it was asked last.
        """
        return self._buffer.measure()

    @property
    def unsynced_bytes(self) -> int:
        """Bytes of the blocks that are written and not durable. They are kept in memory."""
        return self._unsynced.bytes

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
        oldest = self._unsynced.oldest(number)
        first_record = again[0].first_record if again else self._next_ordinal
        header = SegmentHeader(self.stream, number, self._clock_ns(), first_record, number - oldest)
        seed, flags = block_seed(self.stream, number), TABLE if again else 0
        table = self._pack_table(seed, SEGMENT_HEADER.size, flags, first_record)
        segment = SegmentFile(path, header, table, again, oldest=oldest if again else number)
        opened_at = self._monotonic()
        self._unsynced.add(segment)
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
            self._unsynced.retire(segment)
        return new

    def _rewrite(self) -> SegmentFile:
        """Begin a new segment with all that is not durable, and leave the old ones as they are."""
        # Nobody else changes what is unsynced: there is no sync until this is done.
        segment = self._open_segment(self._unsynced.begin_rewriting(self._monotonic()))
        self._unsynced.keep_only(segment)
        return segment

    def _last_sync(self) -> None:
        """Sync the sealed segment. If that fails, or failed before, rewrite, and sync that."""
        problem: JournalSyncError | None = None
        try:
            self.sync()
        except JournalSyncError as error:
            problem = error
        if self._unsynced.failed:
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
        self._unsynced.retire(segment)

    def _write(self, segment: SegmentFile, block: bytearray, *, records: int, callers: int) -> None:
        """Append a block of so many records, of which `callers` are no channel tables. Raises JournalWriteError."""
        segment.write(block)
        self._written_bytes += len(block)
        self._written(segment, block, records=records, callers=callers)

    def _written(self, segment: SegmentFile, block: bytearray, *, records: int, callers: int) -> None:
        """Take note of a written block, which is kept until it is durable."""
        self._unsynced.note(segment, WrittenBlock(block, self._next_ordinal, callers))
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
        packed = self._buffer.pack(seed=segment.seed, offset=segment.size, first_record=self._next_ordinal)
        self._write(segment, packed.data, records=packed.records, callers=packed.callers)
        self._packets += packed.packets
        self._buffer.drop(packed)
