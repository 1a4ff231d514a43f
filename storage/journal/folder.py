"""The journal's folder: its streams and segments, whether a stream still grows, and which of its records count.

The rule of repeated records
----------------------------
After a failed sync a later segment repeats the records that an earlier one may have lost (`storage.journal.format`,
invariant 5). Who reads a stream takes its segments in order, and remembers the ordinal that comes next:

1. A block that begins before it was had already, and is left out.
2. A block that begins with it counts.
3. A block that begins behind it shows a gap. Where a later segment has what is missing, the rest of this one is left
   out, because all of it is repeated there. Where it will not come again, it is lost, and the block counts. As long as
   neither is certain, the block is held back.

So records count in the order of their ordinals, each once, and a row has the same `seq` whenever it is read. What is
missing comes again only in segments of a stream that still grows, and only if the segment was not wholly on disk when
the last one was made, as that one's header says.
"""

import contextlib
import fcntl
from collections.abc import Sequence
from enum import Enum, auto
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from storage.errors import JournalError
from storage.journal.format import Block, Damage
from storage.journal.reader import SegmentBytes, SegmentReader
from storage.layout import STREAM_PATTERN, DataLayout, parse_segment


def streams(layout: DataLayout) -> list[str]:
    """The names of all streams that have a folder, oldest first. Raises JournalError if that cannot be read."""
    return sorted(path.name for path in _list(layout.journal) if STREAM_PATTERN.fullmatch(path.name) and path.is_dir())


def segments(layout: DataLayout, stream: str) -> list[int]:
    """The numbers of a stream's segments, in order, in whichever form each is there.

    Raises JournalError if its folder cannot be read.
    """
    numbers = []
    for path in _list(layout.stream(stream)):
        with contextlib.suppress(ValueError):
            numbers.append(parse_segment(path)[1])
    return sorted(set(numbers))  # for a moment a segment is there in both forms


def is_alive(layout: DataLayout, stream: str) -> bool:
    """Whether a process is writing the stream. A stream that has segments and is not alive will never grow again."""
    path = layout.stream_lock(stream)
    try:
        # Shared, and of a descriptor that only reads: who looks is in nobody's way, and may look at a read-only disk.
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError as error:
        raise JournalError(f"stream {stream}: cannot lock {path}: {error.strerror}") from error
    return False


class RecordReader:
    """The blocks of one segment that count, each once: a SegmentReader under the rule of repeated records.

    `next_record` is the ordinal that comes next, at first as the segments before have left it. None if that is not
    known: then the first block counts, wherever it begins. Use it as a context manager, or `close` it. Raises as
    SegmentReader does.
    """

    def __init__(self, layout: DataLayout, stream: str, number: int, next_record: int | None) -> None:
        self.next_record = next_record
        self._layout = layout
        self._stream = stream
        self._number = number
        self._held: list[Block] = []
        self._reader = SegmentReader(layout.segment(stream, number))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. Blocks that were returned stay valid. Idempotent."""
        self._reader.close()

    @property
    def sealed(self) -> bool:
        """Whether the seal was read: nothing more will be written to the segment."""
        return self._reader.sealed

    @property
    def waiting(self) -> bool:
        """Whether blocks are held back, because those before them may come again in a later segment."""
        return bool(self._held)

    @property
    def position(self) -> int:
        """Where in the segment the next block begins."""
        return self._reader.position

    @property
    def bytes(self) -> SegmentBytes:
        """The bytes of the segment."""
        return self._reader.bytes

    def read(self, scratch: NDArray[np.uint8] | None = None) -> list[Block]:
        """The blocks that count, behind those already returned. Raises JournalError if the system cannot read them.

        For `scratch` see `SegmentReader.read`. There are no more if there are none.
        """
        while True:
            fresh = self._reader.read(scratch)
            counted = self._count([*self._held, *fresh])
            if counted or not fresh:
                break
        # The seal is a record too, which the reader does not return.
        if self.sealed and self.next_record is not None and self._reader.next_record == self.next_record + 1:
            self.next_record += 1
        return counted

    def _count(self, blocks: Sequence[Block]) -> list[Block]:
        """Those that count. What is not certain yet is held back."""
        self._held = []
        counted: list[Block] = []
        for i, block in enumerate(blocks):
            expected = block.first_record if self.next_record is None else self.next_record
            if block.first_record < expected:  # had already
                continue
            if block.first_record > expected:  # a gap: whether what is missing comes again decides
                fate = _fate(self._layout, self._stream, self._number, expected)
                if fate is _Fate.OPEN:
                    self._held = [block.copied() for block in blocks[i:]]
                if fate is not _Fate.LOST:
                    return counted
            counted.append(block)
            self.next_record = block.first_record + len(block)
        return counted

    def finish(self) -> list[Damage]:
        """All damage of a segment that will not grow, in file order, also where its records are repeated."""
        return self._reader.finish()


class _Fate(Enum):
    REPEATED = auto()
    LOST = auto()
    OPEN = auto()


def _fate(layout: DataLayout, stream: str, number: int, record: int) -> _Fate:
    """What becomes of a record that is missing in the segment `number`, or in one before it."""
    try:
        fate = _fate_in_later(layout, stream, number, record)
        if fate is _Fate.OPEN and not is_alive(layout, stream):
            # Once more, since it may have grown until it died.
            fate = _fate_in_later(layout, stream, number, record)
            return _Fate.LOST if fate is _Fate.OPEN else fate
    except JournalError:
        return _Fate.OPEN  # who may not look cannot know
    return fate


def _fate_in_later(layout: DataLayout, stream: str, number: int, record: int) -> _Fate:
    """What the segments behind `number` say."""
    fate = _Fate.OPEN
    for later in segments(layout, stream):
        if later <= number:
            continue
        # One that cannot be read says nothing.
        with contextlib.suppress(JournalError), SegmentReader(layout.segment(stream, later)) as reader:
            header = reader.header
            if (header is None or header.first_record <= record) and any(
                block.first_record <= record < block.first_record + len(block) for block in reader.read()
            ):
                return _Fate.REPEATED
            if header is not None and later - header.unsynced_segments > number:
                fate = _Fate.LOST
    return fate


def _list(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise JournalError(f"folder {folder}: cannot read: {error.strerror}") from error
