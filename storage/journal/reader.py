"""Reading a segment, in any process, while another may still be writing it.

Bytes are read once into memory and looked at through numpy views. They are read, not mapped: a writer whose write
failed cuts the torn bytes off, and a mapped page behind the end of a file kills the process that touches it.

What cannot be verified at the end of a file is not yet damage, since a block that is being written looks the same.
It is left alone until a valid block follows (then it is damage, and skipped) or until the caller says that the segment
will not grow (`finish`).
"""

import io
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

import numpy as np
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
        self.sealed = False
        self.final = False
        self.header: SegmentHeader | None = None
        self.next_record: int | None = None
        self._damage: list[Damage] = []
        self._channels: dict[int, Channel] = {}
        self._table = MappingProxyType(self._channels)
        self._file = _open(path)
        try:
            self.stream, self.number = self._identify()
        except BaseException:
            self._file.close()
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
        self._file.close()

    @property
    def position(self) -> int:
        """Where the next block begins: everything before is returned or reported."""
        return self._position

    def read(self) -> list[Block]:
        """All whole blocks behind those already returned, without the seal and tables that are no records.

        Never raises for what the file contains; raises SegmentReadError if the system cannot read it.
        """
        data = self._read_from(self._position)
        blocks: list[Block] = []
        at = 0
        while not self.sealed:
            problem = self._check(data, at)
            if problem:
                found = self._search(data, at + ALIGNMENT)
                if found is None:  # a block that is being written looks the same: not damage yet
                    break
                self._damage.append(Damage(self._position + at, found - at, problem))
                at = found
            block, flags = self._block(data, at)
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
            problem = f"{len(data)} bytes behind the seal" if self.sealed else self._check(data, 0)
            damage.append(Damage(self._position, len(data), problem or "not read"))
        return damage

    def _identify(self) -> tuple[str, int]:
        """The stream and number that the header, or else the path, gives."""
        head = self._pread(0, SEGMENT_HEADER.size)
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

    def _read_from(self, position: int) -> NDArray[np.uint8]:
        try:
            size = self._file.seek(0, os.SEEK_END)
        except OSError as error:
            raise SegmentReadError(f"segment {self.path}: cannot read: {error.strerror}") from error
        return self._pread(position, max(size - position, 0))

    def _pread(self, position: int, size: int) -> NDArray[np.uint8]:
        """Up to `size` bytes from `position`, read-only: fewer if the file ends, or was cut, before."""
        data = np.empty(size, np.uint8)
        filled = 0
        try:
            self._file.seek(position)
            while filled < size:
                count = self._file.readinto(data.data[filled:])
                if not count:
                    break
                filled += count
        except OSError as error:
            reason = f"cannot read at {position + filled}: {error.strerror}"
            raise SegmentReadError(f"segment {self.path}: {reason}") from error
        data.flags.writeable = False
        return data[:filled]

    def _check(self, data: NDArray[np.uint8], at: int) -> str:
        """What is wrong with the block that begins at `at` of `data` ("" if nothing is)."""
        left = len(data) - at
        if left < BLOCK_HEADER.size:
            return f"block header: got {left} bytes, expected {BLOCK_HEADER.size}"
        magic, crc, _flags, offset, _first, records, payload_size = BLOCK_HEADER.unpack_from(data.data, at)
        if magic != BLOCK_MAGIC:
            return f"block header: got magic {magic.hex()}, expected {BLOCK_MAGIC.hex()}"
        if offset != self._position + at:
            return f"block header: got offset {offset}, expected {self._position + at}"
        size = block_size(records, payload_size)
        if left < size:
            return f"block: got {left} bytes, expected {size}"
        actual = zlib.crc32(data.data[at + CRC_END : at + size], self._seed)
        if actual != crc:
            return f"block: got bytes of CRC {actual:08x}, expected {crc:08x}"
        return ""

    def _search(self, data: NDArray[np.uint8], start: int) -> int | None:
        """Where the next valid block begins, or None."""
        for at in self._candidates(data, start):
            if not self._check(data, at):
                return at
        return None

    @staticmethod
    def _candidates(data: NDArray[np.uint8], start: int) -> Iterator[int]:
        """Where the magic stands, at multiples of 8 from `start`."""
        whole = data[start : start + (len(data) - start) // ALIGNMENT * ALIGNMENT] if start < len(data) else data[:0]
        for word in np.flatnonzero(whole.view("<u8") == _MAGIC_WORD):
            yield start + int(word) * ALIGNMENT

    def _block(self, data: NDArray[np.uint8], at: int) -> tuple[Block, int]:
        """The valid block at `at`, and its flags."""
        _magic, _crc, flags, offset, first_record, records, payload_size = BLOCK_HEADER.unpack_from(data.data, at)
        size = block_size(records, payload_size)
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

    def _learn(self, block: Block) -> None:
        """Take in the block's channel tables. Blocks returned before see the channels too."""
        for _position, payload in block.payloads(Kind.CHANNELS):
            self._channels.update(unpack_channels(payload))


def _open(path: Path) -> io.FileIO | io.BytesIO:
    """The segment's file, or what its archive holds."""
    try:
        return io.FileIO(path)
    except FileNotFoundError as error:
        archive = archive_of(path)
        # A segment is removed only after its archive has its name.
        if archive.exists():
            return io.BytesIO(read_archive(archive))
        raise SegmentMissingError(f"segment {path}: cannot open: {error.strerror}") from error
    except OSError as error:
        raise SegmentReadError(f"segment {path}: cannot open: {error.strerror}") from error
