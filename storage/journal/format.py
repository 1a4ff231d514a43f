"""The journal's byte layout: what a segment file is, packed and unpacked. No I/O.

Invariants
----------
1. A segment file appears under its name with a whole header and a first block in it (it is written aside and renamed).
2. Blocks follow one another without gaps, each at a multiple of 8. A block is written by one `write`; it is valid if
   its CRC says so, and then every record in it is whole. A record is never split over blocks.
3. A block is valid at its own offset of its own segment only: the offset is inside the block, and its CRC begins from
   the segment's name. Old bytes of another file, or a block inside of a payload, are never taken for a block.
4. A valid block is never changed. Only the bytes behind the last valid block may be cut off, and only by the process
   that writes.
5. Ordinals of records count from 0 in a stream and go on from segment to segment without gaps. Where a segment begins
   with an ordinal that earlier ones have passed, it repeats their blocks: the same records, byte for byte, seals and
   opening tables among them. That happens after a failed sync, and each ordinal counts once (`storage.journal.folder`
   has the rule).
6. Each segment can be read alone: its first block holds the channel table, and so does its seal. A channel's number
   means the same in the whole stream, so a table that is read late is valid for blocks before it. Where a segment
   repeats, its first table has no ordinal of its own: the block is flagged `TABLE`, and is no part of the records.
7. The seal is the last block. Behind it there is nothing.
8. What is repeated comes from segments that were not wholly on disk when the repeating one was made. Each header says
   how many there were, so that a reader knows when what is missing in a segment will not come again.

Layout (little-endian; all sizes in bytes)
------------------------------------------
Segment header, 128:

    0    magic         8s   89 'KLJ' 0D 0A 1A 0A
    8    crc           u32  CRC-32 of bytes 12..127
    12   version       u32  1
    16   segment       u64  number in the stream, from 0
    24   created_at    i64  nanoseconds since the epoch, wall clock
    32   first_record  u64  ordinal of the segment's first record
    40   name_size     u32
    44   stream        80s  name_size bytes of ASCII, then zeros
    124  unsynced      u32  so many segments before this one may have records that were not yet on disk

Block header, 40, then the columns, then the payloads:

    0    magic         8s   8B 'KLBLK' 0D 0A
    8    crc           u32  CRC-32 of the bytes from 12 to the block's end, begun from crc32("<stream>/<segment>")
    12   flags         u32  1 sealed, 2 final (the stream ends here), 4 table (its record has no ordinal)
    16   offset        u64  of this block in the file
    24   first_record  u64  ordinal of the block's first record
    32   records       u32  n
    36   payload_size  u32  sum of the lengths
    40   received_at   i64[n]  nanoseconds since the epoch, wall clock
         lengths       u32[n]
         channels      u16[n]
         kinds         u8[n]
         zeros to a multiple of 8
         payloads, end to end
         zeros to a multiple of 8

Kinds: 0 channel table, JSON `[[channel, "account", connection], …]`; 1 binary frame; 2 text frame; 3 event, JSON.
"""

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final, TypeVar

import numpy as np
from isal.isal_zlib import crc32
from numpy.typing import NDArray

from storage.errors import JournalError, JournalVersionError

VERSION: Final = 1
SEGMENT_MAGIC: Final = b"\x89KLJ\r\n\x1a\n"
BLOCK_MAGIC: Final = b"\x8bKLBLK\r\n"
ALIGNMENT: Final = 8
SEGMENT_HEADER: Final = struct.Struct("<8sIIQqQI80sI")
BLOCK_HEADER: Final = struct.Struct("<8sIIQQII")
CRC_END: Final = 12  # where the bytes under the CRC begin, in both headers
RECORD_COLUMNS_BYTES: Final = 8 + 4 + 2 + 1
SEALED: Final = 1
FINAL: Final = 2
TABLE: Final = 4
_NAME_BYTES: Final = 80

Number = TypeVar("Number", int, NDArray[np.int64])
"""One, or many."""


class Kind(IntEnum):
    """What a record is."""

    CHANNELS = 0
    BINARY = 1
    TEXT = 2
    EVENT = 3


@dataclass(frozen=True)
class Channel:
    """Where a record came from. Channel 0 is the service itself: account "", connection 0."""

    account: str
    connection: int


SERVICE: Final = Channel("", 0)


@dataclass(eq=False)  # not frozen, which takes longer to make: there are thousands
class Block:
    """All records of one write, as columns, never changed. Arrays are read-only views of the file's bytes.

    `first_record` is the ordinal in the stream of the first record, which includes channel tables. Record i has
    `lengths[i]` bytes of `payload`, behind those of the records before it. `channel_table` is what the reader knows
    of the segment, and grows while it reads on. `offset` and `size` are the block's bytes in the file.
    """

    first_record: int
    received_at_ns: NDArray[np.int64]
    lengths: NDArray[np.uint32]
    channels: NDArray[np.uint16]
    kinds: NDArray[np.uint8]
    payload: NDArray[np.uint8]
    channel_table: Mapping[int, Channel]
    offset: int
    size: int

    def __len__(self) -> int:
        return len(self.kinds)

    def copied(self) -> "Block":
        """The same block with bytes of its own."""
        columns = ("received_at_ns", "lengths", "channels", "kinds", "payload")
        return replace(self, **{name: getattr(self, name).copy() for name in columns})

    def payloads(self, kind: Kind) -> list[tuple[int, bytes]]:
        """(position in the block, payload) of each record of one kind: meant for the rare kinds."""
        at = np.flatnonzero(self.kinds == kind)
        ends = np.cumsum(self.lengths, dtype=np.int64)
        starts = ends - self.lengths
        return [(int(i), self.payload[starts[i] : ends[i]].tobytes()) for i in at]


@dataclass(frozen=True)
class Damage:
    """Bytes of a segment that are no valid block: `length` bytes from `offset`, and why."""

    offset: int
    length: int
    reason: str


@dataclass(frozen=True)
class SegmentHeader:
    """The first 128 bytes of a segment, but for magic, CRC and version."""

    stream: str
    segment: int
    created_at_ns: int
    first_record: int
    unsynced_segments: int = 0


def padding(size: Number) -> Number:
    """How many zeros take `size` to the next multiple of 8."""
    return -size % ALIGNMENT


def payload_offset(records: Number) -> Number:
    """Where the payloads begin in a block, or in each of some blocks."""
    columns = records * RECORD_COLUMNS_BYTES
    return BLOCK_HEADER.size + columns + padding(columns)


def block_size(records: int, payload_size: int) -> int:
    """The size of a whole block."""
    return payload_offset(records) + payload_size + padding(payload_size)


def block_seed(stream: str, segment: int) -> int:
    """Where the CRC of a segment's blocks begins."""
    return crc32(f"{stream}/{segment}".encode())


def pack_segment_header(header: SegmentHeader) -> bytes:
    """The 128 bytes. Raises JournalError for a stream name that does not fit."""
    name = header.stream.encode("ascii", "strict")
    if len(name) > _NAME_BYTES:
        raise JournalError(f"stream name {header.stream!r}: got {len(name)} bytes, expected at most {_NAME_BYTES}")
    numbers = (VERSION, header.segment, header.created_at_ns, header.first_record)
    fields = (*numbers, len(name), name, header.unsynced_segments)
    crc = crc32(SEGMENT_HEADER.pack(SEGMENT_MAGIC, 0, *fields)[CRC_END:])
    return SEGMENT_HEADER.pack(SEGMENT_MAGIC, crc, *fields)


def unpack_segment_header(data: bytes) -> SegmentHeader:
    """The header of a segment's first 128 bytes. Raises JournalError saying what is wrong with them."""
    if len(data) < SEGMENT_HEADER.size:
        raise JournalError(f"segment header: got {len(data)} bytes, expected {SEGMENT_HEADER.size}")
    fields = SEGMENT_HEADER.unpack_from(data)
    magic, crc, version, segment, created_at_ns, first_record, name_size, name, unsynced_segments = fields
    if magic != SEGMENT_MAGIC:
        raise JournalError(f"segment header: got magic {magic.hex()}, expected {SEGMENT_MAGIC.hex()}")
    actual = crc32(data[CRC_END : SEGMENT_HEADER.size])
    if crc != actual:
        raise JournalError(f"segment header: got bytes of CRC {actual:08x}, expected {crc:08x}")
    if version != VERSION:
        raise JournalVersionError(f"segment header: got version {version}, expected {VERSION}")
    stream = name[:name_size].decode("ascii")
    return SegmentHeader(stream, segment, created_at_ns, first_record, unsynced_segments)


def pack_block(
    *,
    seed: int,
    flags: int,
    offset: int,
    first_record: int,
    received_at_ns: NDArray[np.int64],
    lengths: NDArray[np.uint32],
    channels: NDArray[np.uint16],
    kinds: NDArray[np.uint8],
    payloads: Sequence[bytes],
) -> bytearray:
    """One block, ready to write. The payloads' lengths must be `lengths`."""
    records = len(kinds)
    payload_size = int(lengths.sum(dtype=np.int64))
    header = BLOCK_HEADER.pack(BLOCK_MAGIC, 0, flags, offset, first_record, records, payload_size)
    gap = bytes(padding(records * RECORD_COLUMNS_BYTES))
    # One join copies each payload once, straight to where it is written from.
    block = bytearray().join(
        (
            header,
            received_at_ns.tobytes(),
            lengths.tobytes(),
            channels.tobytes(),
            kinds.tobytes(),
            gap,
            *payloads,
            bytes(padding(payload_size)),
        )
    )
    struct.pack_into("<I", block, 8, crc32(memoryview(block)[CRC_END:], seed))
    return block


def move_block(block: bytearray, *, seed: int, offset: int) -> None:
    """Make a packed block, in place, one of another segment. A seal becomes a block like others."""
    struct.pack_into("<IQ", block, CRC_END, 0, offset)
    struct.pack_into("<I", block, 8, crc32(memoryview(block)[CRC_END:], seed))


def pack_channels(channels: Sequence[Channel]) -> bytes:
    """The payload of a channel table: position is the channel's number."""
    return json.dumps([[i, c.account, c.connection] for i, c in enumerate(channels)], ensure_ascii=False).encode()


def unpack_channels(payload: bytes) -> dict[int, Channel]:
    """The channels of a table's payload. Raises ValueError or TypeError if it is not one."""
    return {int(number): Channel(str(account), int(connection)) for number, account, connection in json.loads(payload)}
