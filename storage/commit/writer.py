"""The writer: complete journal segments become files and commits, each segment once.

For each segment, in order: read its blocks, decode them, write the files of one table, commit them, next table. Ticks
are decoded and written a piece at a time, to the staging folder, before anything is committed. The
tables of events, orders and quarantine come first and only if they have rows; ticks come last and always, because their
commit says that the segment is done. Each commit carries the transaction (stream, segment), so after a death anywhere
the next writer does the same segment again: tables that have it are skipped, files that were written and not committed
are replaced by equal ones. Whatever died in between, each row is in the tables once.

A segment is complete when it is sealed, when a later one exists, or when nobody holds its stream's lock any more. Of
its records those count that `storage.journal.folder` says, so that what a later segment repeats is not there twice. A
complete segment waits as long as what is missing in it may be repeated.

What cannot be decoded does not stop what comes after, and does not vanish: damage of the journal becomes rows of
`quarantine`; a segment on which the decoder fails several times goes there as a whole. The bytes stay in the segment,
which is then never removed. A gap in the numbers of segments is recorded there too.

What fails on the side of the tables (a full disk, a damaged log) is raised: nothing is lost by starting again.
"""

import contextlib
import ctypes
import datetime
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from storage.clock import NS_PER_SECOND
from storage.commit.decoder import Decoder, Part
from storage.commit.segment_rows import (
    JOURNAL_TABLES,
    count_rows,
    decode_in_pieces,
    first_of_each,
    from_record,
    segment_stat,
    values_of,
    with_damage,
)
from storage.errors import DataFolderError, JournalError, RowsError, TableError
from storage.files import DataFile
from storage.journal import Block, Damage, Kind, RecordReader, is_alive, segments, streams
from storage.layout import DataLayout, segment_stem
from storage.schema import QUARANTINE, TICKS, Table
from storage.tables import LakeTable, StagedFile, SymbolBook, Watermark, move_file, stage_file

DECODE_ATTEMPTS: Final = 3
REASON_CHARACTERS: Final = 500
MEMORY_BYTES: Final = 128 << 20
"""What a segment is read into: the usual 64 MiB, and what its last flush adds to them, which is much while the service
has to wait for a processor. The system gives what is read into, and no more: the rest costs nothing."""


@dataclass(frozen=True)
class SegmentCommitted:
    """What became of one segment. Bytes are of the files in the tables and of the binary frames."""

    stream: str
    segment: int
    rows: int
    quarantined: int
    files: int
    file_bytes: int
    wire_bytes: int
    last_received_at_ns: int | None
    lag_seconds: float | None


@dataclass(eq=False)
class _Loaded:
    """One segment, read so far. `damage` has the number of the segment with each, since gaps are told here too."""

    stream: str
    number: int
    next_record: int | None
    reader: RecordReader | None = None
    blocks: list[Block] = field(default_factory=list)
    damage: list[tuple[int, Damage]] = field(default_factory=list)
    complete: bool = False
    is_awaited: bool = False
    """Whether the next one is complete, too, and waits for it."""

    def close(self) -> None:
        if self.reader is not None:
            self.reader.close()


@dataclass
class _Failures:
    """How often a segment could not be decoded, and when the next attempt is due on the monotonic clock."""

    count: int = 0
    due: float = 0.0


class SegmentWriter:
    """Commits the journal of a data folder to its tables. One at a time a folder: `run` waits for the lock.

    `live_stream` is the stream to follow to its end; without one, `run` ends when the dead streams are committed.
    `on_commit` is told of every segment. `after_step` is called with the name of each step that is done; it is for
    tests that end the process there.
    """

    def __init__(
        self,
        layout: DataLayout,
        decoder: Decoder,
        live_stream: str | None = None,
        *,
        on_commit: Callable[[SegmentCommitted], None] = lambda _segment: None,
        after_step: Callable[[str], None] = lambda _step: None,
        clock_ns: Callable[[], int] = time.time_ns,
        retry_seconds: float = 2.0,
    ) -> None:
        self._layout = layout
        self._decoder = decoder
        self._live_stream = live_stream
        self._on_commit = on_commit
        self._after_step = after_step
        self._clock_ns = clock_ns
        self._retry_seconds = retry_seconds
        self._staging = layout.staging / "writer"
        self._symbols = SymbolBook(layout)
        self._tables: dict[str, LakeTable] = {}
        self._dead: set[str] = set()
        self._drained: set[str] = set()
        self._finished = False
        self._loaded: _Loaded | None = None
        self._memory: NDArray[np.uint8] | None = None
        self._failures: dict[tuple[str, int], _Failures] = {}

    def run(self, *, poll_seconds: float, stop: threading.Event) -> None:
        """Commit until the live stream's last segment is in the tables, or until `stop`, after the present segment.

        Raises TableError or JournalError for what only a person can mend; starting again loses nothing.
        """
        with self.hold(stop, poll_seconds) as held:
            if not held:
                return
            was_busy = False
            while not stop.is_set():
                busy = self.advance(stop)
                if was_busy and not busy:
                    self._forget_loaded()  # of the next segment little was read: that is read again
                    self._memory = None
                    _give_back_memory()
                was_busy = busy
                if self._finished:
                    return
                if not busy:
                    stop.wait(poll_seconds)

    @contextlib.contextmanager
    def hold(self, stop: threading.Event, poll_seconds: float) -> Iterator[bool]:
        """Wait for the writer's lock, then clean up and open the tables. Gives False if `stop` came first."""
        lock = FileLock(self._layout.writer_lock, thread_local=False)
        try:
            self._layout.root.mkdir(parents=True, exist_ok=True)
            while not lock.is_locked and not stop.is_set():
                with contextlib.suppress(Timeout):
                    lock.acquire(timeout=poll_seconds)
        except OSError as error:
            raise DataFolderError(f"{self._layout.writer_lock}: cannot lock: {error.strerror}") from error
        try:
            if lock.is_locked:
                self._open()
            yield lock.is_locked
        finally:
            lock.release()

    def advance(self, stop: threading.Event) -> bool:
        """Commit every complete segment there is, dead streams first; whether there was one. Needs the lock held."""
        busy = False
        for stream in self._streams():
            while not stop.is_set() and self._advance(stream):
                busy = True
        at_end = not busy if self._live_stream is None else self._live_stream in self._drained
        self._finished = at_end and not self._failures
        return busy

    def _open(self) -> None:
        """What a writer that died may have left, and what has to be there."""
        shutil.rmtree(self._staging, ignore_errors=True)
        self._tables = {
            spec.name: LakeTable(self._layout.table(spec.name), spec).open(create=True) for spec in JOURNAL_TABLES
        }

    def _streams(self) -> list[str]:
        """Streams with something left to do: dead ones, oldest first, then the live one."""
        found = [name for name in streams(self._layout) if name not in self._drained]
        return sorted(found, key=lambda name: (name == self._live_stream, name))

    def _advance(self, stream: str) -> bool:
        """Commit the stream's next segment if it is complete; whether it was."""
        mark = self._mark(stream)
        loaded = self._next(stream, mark)
        if loaded is None:
            return False
        failures = self._failures.get((stream, loaded.number))
        if failures is not None and time.monotonic() < failures.due:
            return False
        try:
            if not self._read(loaded):
                return False
            parts, staged = self._decode(loaded, mark)
        except TableError:
            raise  # a full disk, or instrument lists that cannot be read: that says nothing about the segment
        except Exception as error:
            self._forget_loaded()
            shutil.rmtree(self._staging, ignore_errors=True)  # files of ticks before the one that failed
            if not self._give_up(stream, loaded.number):
                return False
            if isinstance(error, JournalError):
                loaded.next_record = mark.next_record  # it was not read to its end
            parts, staged = self._whole_damage(loaded, error), []
        self._after_step("decoded")
        self._commit(loaded, parts, staged, mark)
        self._forget_loaded()
        self._failures.pop((stream, loaded.number), None)
        return True

    def _mark(self, stream: str) -> Watermark:
        ticks = self._tables[TICKS.name]
        segment = ticks.transaction(stream)
        if segment is None:
            return Watermark(-1, 0, 0)
        return Watermark(segment, ticks.transaction(f"{stream}/seq") or 0, ticks.transaction(f"{stream}/record"))

    def _next(self, stream: str, mark: Watermark) -> _Loaded | None:
        """The first segment that is not committed, if there is one that is this writer's to commit."""
        numbers = segments(self._layout, stream)
        # In this order: a segment exists only while the stream's lock is held, or after it was given up for good.
        if numbers and stream not in self._dead and not is_alive(self._layout, stream):
            self._dead.add(stream)
            numbers = segments(self._layout, stream)
        todo = [number for number in numbers if number > mark.segment]
        if todo and todo[0] > mark.segment + 1:
            # A listing may miss a name that was made meanwhile, but not one that was there when it began.
            todo = [number for number in segments(self._layout, stream) if number > mark.segment]
        if not todo:
            if stream in self._dead:
                self._drained.add(stream)
            return None
        if stream not in self._dead and stream != self._live_stream:
            return None
        loaded = self._loaded
        if loaded is None or (loaded.stream, loaded.number) != (stream, todo[0]):
            self._forget_loaded()
            loaded = self._loaded = _Loaded(stream, todo[0], mark.next_record)
            if todo[0] > mark.segment + 1:
                first, last = mark.segment + 1, todo[0] - 1
                loaded.damage.append((first, Damage(0, 0, f"segments {first} to {last} are not in the journal")))
        last = stream in self._dead  # behind them there is none that still grows
        loaded.complete = last or len(todo) > 1
        loaded.is_awaited = len(todo) > (1 if last else 2)
        return loaded

    def _read(self, loaded: _Loaded) -> bool:
        """Read what counts of the segment; whether that is all there will be. Raises JournalError."""
        if loaded.reader is None:
            loaded.reader = RecordReader(self._layout, loaded.stream, loaded.number, loaded.next_record)
        # In memory that is used again, each block where it is in the segment, so that they lie in one piece. A segment
        # that is larger than usual has memory of its own.
        if self._memory is None:
            self._memory = np.empty(MEMORY_BYTES, np.uint8)
        fits = loaded.reader.bytes.size() <= MEMORY_BYTES
        while blocks := loaded.reader.read(self._memory[loaded.reader.position :] if fits else None):
            loaded.blocks += blocks
        loaded.next_record = loaded.reader.next_record
        if loaded.reader.waiting or not (loaded.complete or loaded.reader.sealed):
            return False
        loaded.damage += [(loaded.number, damage) for damage in loaded.reader.finish()]
        return True

    def _decode(self, loaded: _Loaded, mark: Watermark) -> tuple[dict[str, list[Part]], list[StagedFile]]:
        """All rows of the segment, checked, and the files of its ticks.

        Raises whatever the decoder raises, and RowsError; TableError if the disk does not take the files.
        """
        stream, number, blocks = loaded.stream, loaded.number, loaded.blocks
        seq = mark.next_seq
        decoded = decode_in_pieces(self._decoder, stream, number, blocks, first_seq=seq, symbols=self._symbols)
        # Where others wait, two exchanges at a time: that takes a fifth less time, if more of the processors'.
        with ThreadPoolExecutor(2 if loaded.is_awaited else 1) as threads:
            staged = list(threads.map(lambda each: self._stage(TICKS, each.values, each.pieces, loaded), decoded.ticks))
        rows = sum(each.file.rows for each in staged)
        if rows != decoded.packets:
            raise RowsError(f"decoder: got {rows} rows of ticks, expected as many as packets: {decoded.packets}")
        return with_damage(decoded.parts, self._layout, stream, number, loaded.damage, blocks), staged

    def _give_up(self, stream: str, number: int) -> bool:
        """Count a failure of the segment; whether it was the last that is granted."""
        failures = self._failures.setdefault((stream, number), _Failures())
        failures.count += 1
        failures.due = time.monotonic() + self._retry_seconds
        return failures.count >= DECODE_ATTEMPTS

    def _whole_damage(self, loaded: _Loaded, error: Exception) -> dict[str, list[Part]]:
        """Rows that say that a whole segment could not be decoded. Raises JournalError if it has gone meanwhile."""
        reason = f"not decoded after {DECODE_ATTEMPTS} attempts: {type(error).__name__}: {error}"
        size, _ = segment_stat(self._layout, loaded.stream, loaded.number)
        gaps = [item for item in loaded.damage if item[0] != loaded.number]
        loaded.damage = [*gaps, (loaded.number, Damage(0, size, reason[:REASON_CHARACTERS]))]
        return with_damage({}, self._layout, loaded.stream, loaded.number, loaded.damage, loaded.blocks)

    def _commit(
        self, loaded: _Loaded, parts: Mapping[str, list[Part]], ticks: Sequence[StagedFile], mark: Watermark
    ) -> None:
        """Write and commit table by table, ticks last, and report."""
        stream, number = loaded.stream, loaded.number
        files: list[DataFile] = []
        tick_count = sum(each.file.rows for each in ticks)
        for spec in JOURNAL_TABLES:
            table = self._tables[spec.name]
            rows = parts.get(spec.name, [])
            transactions = {stream: number}
            if loaded.next_record is not None:
                transactions[f"{stream}/record"] = loaded.next_record
            staged = ticks
            if spec is TICKS:
                transactions[f"{stream}/seq"] = mark.next_seq + tick_count
            elif not rows or _covers(table.transaction(stream), number):
                continue
            else:
                rows = from_record(rows, table.transaction(f"{stream}/record"))
                if spec.unique is not None:
                    rows = self._once(spec, spec.unique, rows)
                staged = [self._stage(spec, part.values, [part.rows], loaded) for part in rows]
            written = [move_file(each, table.path) for each in staged]
            self._after_step(f"{spec.name} written")
            table.commit(written, transactions=transactions)
            self._after_step(f"{spec.name} committed")
            files += written
        received = (block for block in reversed(loaded.blocks) if block.kinds.any())  # not channel tables alone
        last = next(received, None)
        received_ns = None if last is None else int(last.received_at_ns[-1])
        self._on_commit(
            SegmentCommitted(
                stream=stream,
                segment=number,
                rows=tick_count,
                quarantined=count_rows(parts.get(QUARANTINE.name, [])),
                files=len(files),
                file_bytes=sum(file.size for file in files),
                wire_bytes=_wire_bytes(loaded.blocks),
                last_received_at_ns=received_ns,
                lag_seconds=None if received_ns is None else (self._clock_ns() - received_ns) / NS_PER_SECOND,
            )
        )

    def _stage(self, spec: Table, values: Mapping[str, str], pieces: Iterable[pa.Table], loaded: _Loaded) -> StagedFile:
        stem = segment_stem(loaded.stream, loaded.number)
        return stage_file(spec, pieces, values=values, stem=stem, staging=self._staging)

    def _once(self, spec: Table, unique: str, parts: Sequence[Part]) -> list[Part]:
        """The rows whose `unique` value is not in that day's partition yet, nor before them in the segment."""
        kept = []
        for part in parts:
            day = datetime.date.fromisoformat(part.values["date"])
            # Read each time: a segment has no orders as a rule, and what was committed cannot be forgotten.
            stored = self._tables[spec.name].read(date=day, columns=[unique])
            rows = first_of_each(part.rows, [unique], set(values_of(stored, [unique])))
            if rows.num_rows:
                kept.append(Part(part.values, rows))
        return kept

    def _forget_loaded(self) -> None:
        if self._loaded is not None:
            self._loaded.close()
        self._loaded = None


def _give_back_memory() -> None:
    """What Arrow and C's library keep for later goes back to the system."""
    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:  # it is glibc's
        trim(0)


def _covers(done: int | None, number: int) -> bool:
    return done is not None and done >= number


def _wire_bytes(blocks: Sequence[Block]) -> int:
    if not blocks:
        return 0
    lengths, kinds = (np.concatenate(each) for each in zip(*((b.lengths, b.kinds) for b in blocks), strict=True))
    return int(lengths[kinds == Kind.BINARY].sum(dtype=np.int64))
