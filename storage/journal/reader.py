"""Reading a segment, in any process, while another may still be writing it.

Bytes are read once into memory and looked at through numpy views. They are read, not mapped: a writer whose write
failed cuts the torn bytes off, and a mapped page behind the end of a file kills the process that touches it.

What cannot be verified at the end of a file is not yet damage, since a block that is being written looks the same.
It is left alone until a valid block follows (then it is damage, and skipped) or until the caller says that the segment
will not grow (`finish`).
"""

import contextlib
import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Final, Self

import numpy as np
from isal.isal_zlib import crc32
from numpy.typing import NDArray

from storage.errors import JournalError, JournalVersionError, SegmentMissingError, SegmentReadError
from storage.journal.archive_format import read_archive
from storage.journal.format import (
    ALIGNMENT,
    BLOCK_HEADER,
    BLOCK_MAGIC,
    CRC_END,
    FINAL,
    SEALED,
    SEGMENT_HEADER,
    TABLE,
    Block,
    Channel,
    Damage,
    Kind,
    SegmentHeader,
    block_seed,
    block_size,
    payload_offset,
    unpack_channels,
    unpack_segment_header,
)
from storage.layout import archive_of, parse_segment

NEAR_BYTES: Final = 4096
"""Ranges that are nearer to one another than this are read at once."""
_MAGIC_WORD = np.frombuffer(BLOCK_MAGIC, "<u8")[0]


class SegmentReader:
    """The blocks of one segment, in order, each returned once. Use it as a context manager, or `close` it.

    `header` is what the file begins with, None if that is damaged. `next_record` is the ordinal behind the last valid
    block so far, the seal included; None before the first.

    Where a segment is archived, its archive is read, and `path` is still the segment's. An archive gives all of the
    segment's bytes or an error.

    A header that is damaged does not cost the blocks: the stream and number are then taken from the path, and the
    header is reported as damage. Raises SegmentMissingError if there is no such file, SegmentReadError if the system
    does not let it be read; JournalError if it is shorter than a header, is neither named like a segment nor has a
    header, or is an archive that is not whole; JournalVersionError if it is of another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes = SegmentBytes(path)
        self.sealed = False
        self.final = False
        self.header: SegmentHeader | None = None
        self.next_record: int | None = None
        self._damage: list[Damage] = []
        self._channels: dict[int, Channel] = {}
        self._table = MappingProxyType(self._channels)
        try:
            self.stream, self.number = self._identify()
        except BaseException:
            self.bytes.close()
            raise
        self._seed = block_seed(self.stream, self.number)
        self._position = SEGMENT_HEADER.size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. Blocks that were returned stay valid. Idempotent."""
        self.bytes.close()

    @property
    def position(self) -> int:
        """Where the next block begins: everything before is returned or reported."""
        return self._position

    def read(self, scratch: NDArray[np.uint8] | None = None) -> list[Block]:
        """All whole blocks behind those already returned, without the seal and tables that are no records.

        With `scratch` they are in it, as many as it holds (there may be more), and valid until it is used again. Those
        that it is too small for have memory of their own. Never raises for what the file contains; raises
        SegmentReadError if the system cannot read it.
        """
        while scratch is not None and not self.sealed and self.bytes.size() - self._position > len(scratch):
            before = self._position
            if blocks := self._take(self.bytes.read(before, len(scratch), scratch), to_the_end=False):
                return blocks
            if self._position == before:
                scratch = None
        return self._take(self._read_from(self._position, scratch), to_the_end=True)

    def _take(self, data: NDArray[np.uint8], *, to_the_end: bool) -> list[Block]:
        """The blocks of bytes that begin at the position, which moves behind them."""
        blocks: list[Block] = []
        at = 0
        while not self.sealed:
            found = self._block(data, at)
            if isinstance(found, str):
                # Not damage if the rest of the block lies behind these bytes, or is not written yet.
                following = self._search(data, at + ALIGNMENT) if to_the_end else None
                if following is None:
                    break
                self._damage.append(Damage(self._position + at, following - at, found))
                at = following
                continue
            block, flags = found
            self._learn(block)
            at += block.size
            self.sealed = bool(flags & SEALED)
            self.final = bool(flags & FINAL)
            if flags & TABLE:  # it has no ordinal
                continue
            self.next_record = block.first_record + len(block)
            if not self.sealed:
                blocks.append(block)
        self._position += at
        return blocks

    def finish(self) -> list[Damage]:
        """All damage of a segment that will not grow, in file order. Call it when `read` has returned everything."""
        data = self._read_from(self._position)
        damage = list(self._damage)
        if len(data):
            found = f"{len(data)} bytes behind the seal" if self.sealed else self._block(data, 0)
            damage.append(Damage(self._position, len(data), found if isinstance(found, str) else "not read"))
        return damage

    def _identify(self) -> tuple[str, int]:
        """The stream and number that the header, or else the path, gives."""
        head = self.bytes.read(0, SEGMENT_HEADER.size)
        try:
            header = self.header = unpack_segment_header(head.tobytes())
        except JournalVersionError as error:
            raise JournalVersionError(f"segment {self.path}: {error}") from None
        except JournalError as error:
            if len(head) < SEGMENT_HEADER.size:
                raise JournalError(f"segment {self.path}: {error}") from None
            try:
                identity = parse_segment(self.path)
            except ValueError:
                raise JournalError(f"segment {self.path}: {error}") from None
            self._damage.append(Damage(0, SEGMENT_HEADER.size, str(error)))
            return identity
        return header.stream, header.segment

    def _read_from(self, position: int, scratch: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        return self.bytes.read(position, max(self.bytes.size() - position, 0), scratch)

    def _block(self, data: NDArray[np.uint8], at: int) -> tuple[Block, int] | str:
        """The block that begins at `at` of `data`, and its flags; or what is wrong with it."""
        left = len(data) - at
        if left < BLOCK_HEADER.size:
            return f"block header: got {left} bytes, expected {BLOCK_HEADER.size}"
        view = data.data
        magic, crc, flags, offset, first_record, records, payload_size = BLOCK_HEADER.unpack_from(view, at)
        if magic != BLOCK_MAGIC:
            return f"block header: got magic {magic.hex()}, expected {BLOCK_MAGIC.hex()}"
        if offset != self._position + at:
            return f"block header: got offset {offset}, expected {self._position + at}"
        size = block_size(records, payload_size)
        if left < size:
            return f"block: got {left} bytes, expected {size}"
        actual = crc32(view[at + CRC_END : at + size], self._seed)
        if actual != crc:
            return f"block: got bytes of CRC {actual:08x}, expected {crc:08x}"
        received_at = at + BLOCK_HEADER.size
        lengths = received_at + 8 * records
        channels = lengths + 4 * records
        kinds = channels + 2 * records
        payload = at + payload_offset(records)
        block = Block(
            first_record=first_record,
            received_at_ns=data[received_at:lengths].view("<i8"),
            lengths=data[lengths:channels].view("<u4"),
            channels=data[channels:kinds].view("<u2"),
            kinds=data[kinds : kinds + records],
            payload=data[payload : payload + payload_size],
            channel_table=self._table,
            offset=offset,
            size=size,
        )
        return block, flags

    def _search(self, data: NDArray[np.uint8], start: int) -> int | None:
        """Where the next valid block begins, or None."""
        for at in self._candidates(data, start):
            if not isinstance(self._block(data, at), str):
                return at
        return None

    @staticmethod
    def _candidates(data: NDArray[np.uint8], start: int) -> Iterator[int]:
        """Where the magic stands, at multiples of 8 from `start`."""
        whole = data[start : start + (len(data) - start) // ALIGNMENT * ALIGNMENT] if start < len(data) else data[:0]
        for word in np.flatnonzero(whole.view("<u8") == _MAGIC_WORD):
            yield start + int(word) * ALIGNMENT

    def _learn(self, block: Block) -> None:
        """Take in the block's channel tables. Blocks returned before see the channels too."""
        if bytes([Kind.CHANNELS]) not in block.kinds.tobytes():  # as a rule, and there are many blocks
            return
        for _position, payload in block.payloads(Kind.CHANNELS):
            self._channels.update(unpack_channels(payload))


class SegmentBytes:
    """The bytes of a segment by their positions, from its file or its archive. Thread-safe.

    The file is open until `close`, or until nobody has this object any more: so it can be read even if it is removed
    meanwhile. When closed, it is opened for each call. Raises SegmentMissingError if there is no such file,
    SegmentReadError if the system does not let it be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._archived: NDArray[np.uint8] | None = None
        self._file: _File | None = None
        try:
            self._file = _File(path)
        except SegmentMissingError:
            # A segment is removed only after its archive has its name.
            if not archive_of(path).exists():
                raise
            self._archived = np.frombuffer(read_archive(archive_of(path)), np.uint8)

    def close(self) -> None:
        """Close the file, when nobody reads it any more. Idempotent."""
        self._file = None

    def size(self) -> int:
        """How many bytes there are now."""
        if self._archived is not None:
            return len(self._archived)
        with self._opened() as file:
            return os.fstat(file).st_size

    def read(self, position: int, size: int, scratch: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """Up to `size` bytes from `position`, read-only: fewer if the file ends, or was cut, before."""
        data = np.empty(size, np.uint8) if scratch is None or size > len(scratch) else scratch[:size]
        if self._archived is not None:
            data = data[: _copy(self._archived, data, position)]
        else:
            with self._opened() as file:
                data = data[: _fill(file, data, position)]
        data.flags.writeable = False
        return data

    def gather(
        self, offsets: NDArray[np.int64], sizes: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The bytes of some ranges, ascending and apart, in one array, and where each range begins in it.

        What lies between two that are near one another is read as well, and is in the array too.
        """
        if self._archived is not None or not len(offsets):
            return np.empty(0, np.uint8) if self._archived is None else self._archived, offsets
        ends = offsets + sizes
        breaks = np.flatnonzero(offsets[1:] - ends[:-1] > NEAR_BYTES) + 1
        firsts = offsets[np.concatenate([[0], breaks])]
        lengths = ends[np.concatenate([breaks - 1, [len(ends) - 1]])] - firsts
        begins = np.cumsum(lengths) - lengths
        data = np.empty(int(lengths.sum()), np.uint8)
        with self._opened() as file:
            for first, length, begin in zip(firsts.tolist(), lengths.tolist(), begins.tolist(), strict=True):
                count = _fill(file, data[begin : begin + length], first)
                if count < length:
                    raise SegmentReadError(f"segment {self.path}: got {count} bytes at {first}, expected {length}")
        counts = np.diff(np.concatenate([[0], breaks, [len(offsets)]]))
        return data, offsets + (begins - firsts).repeat(counts)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        """A descriptor of the file, and the system's errors as ours."""
        file = self._file or _File(self.path)
        try:
            yield file.descriptor
        except OSError as error:
            raise SegmentReadError(f"segment {self.path}: cannot read: {error.strerror}") from error


def _copy(source: NDArray[np.uint8], target: NDArray[np.uint8], position: int) -> int:
    found = source[position : position + len(target)]
    target[: len(found)] = found
    return len(found)


def _fill(file: int, target: NDArray[np.uint8], position: int) -> int:
    """Read as much as there is from `position`; how many bytes that is."""
    filled = 0
    while filled < len(target):
        count = os.preadv(file, [target.data[filled:]], position + filled)
        if not count:
            break
        filled += count
    return filled


class _File:
    """An open file, until nobody has it any more: one that another thread reads is not closed under its hands."""

    def __init__(self, path: Path) -> None:
        try:
            self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise SegmentMissingError(f"segment {path}: cannot open: {error.strerror}") from error
        except OSError as error:
            raise SegmentReadError(f"segment {path}: cannot open: {error.strerror}") from error
        weakref.finalize(self, os.close, self.descriptor)
