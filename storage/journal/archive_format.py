"""An archived segment: its bytes in one zstd frame, and behind it what they must be and where they stand in the stream.

Invariants
----------
1. An archive appears under its name whole and synced, and is never changed.
2. It gives back exactly the bytes of the segment, or it is refused: never a shorter segment. Size and CRC are behind
   the frame, and the segment's own CRCs are inside of it.
3. The footer is a skippable frame of the zstd format (RFC 8878, section 3.1.2), so the `zstd` command unpacks an
   archive to the segment that it was made of.

Footer, the last 84 bytes (little-endian):

    0    magic           u32  50 2A 4D 18, as zstd has it for skippable frames
    4    frame_size      u32  76, the bytes that follow
    8    mark            8s   'KLARCH01'
    16   size            u64  of the segment in bytes
    24   crc             u32  CRC-32 of the segment
    28   first_seq       u64  `seq` of its first packet
    36   packets         u64  good packets in it
    44   first_record    u64  ordinal from which its records count
    52   next_record     u64  ordinal behind its last record
    60   least_received  i64  of all its records but channel tables: nanoseconds since the epoch, wall clock
    68   most_received   i64  smaller than `least_received` if there are none
    76   footer_crc      u32  CRC-32 of bytes 0..75, begun from crc32("<stream>/<segment>")
    80   end             4s   'KLAE'

Level 3: higher ones make full packets little smaller, for a time that grows many times over.
"""

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from isal.isal_zlib import crc32

from storage.errors import JournalError, SegmentMissingError, SegmentReadError
from storage.files import replacing
from storage.journal.format import block_seed
from storage.layout import parse_segment

LEVEL: Final = 3
_FOOTER: Final = struct.Struct("<II8sQIQQQQqqI4s")
_FRAME_MAGIC: Final = 0x184D2A50
_MARK: Final = b"KLARCH01"
_END: Final = b"KLAE"
_CRC_AT: Final = 76


@dataclass(frozen=True)
class Place:
    """Where a segment stands in its stream.

    Its good packets have `seq` from `first_seq`, `packets` of them; its records that count have ordinals from
    `first_record` to below `next_record`, and were received from `least_received_ns` to `most_received_ns`.
    """

    first_seq: int
    packets: int
    first_record: int
    next_record: int
    least_received_ns: int
    most_received_ns: int

    @property
    def next_seq(self) -> int:
        """The `seq` of the first packet behind it."""
        return self.first_seq + self.packets


def write_archive(path: Path, data: bytes, place: Place, *, mtime_ns: int) -> int:
    """Make the archive `path` of a segment's bytes, synced, and last written at `mtime_ns`. Returns its size.

    Raises OSError.
    """
    compressed = _codec(LEVEL).compress(data)
    with replacing(path) as file:
        file.write(compressed)
        file.write(_pack_footer(path, data, place))
        file.flush()  # a later write would be the time of the file
        os.utime(file.fileno(), ns=(mtime_ns, mtime_ns))
    return int(compressed.size) + _FOOTER.size


def read_archive(path: Path) -> bytes:
    """The bytes of the segment.

    Raises JournalError if the archive is not whole, SegmentMissingError if it is not there, SegmentReadError if the
    system does not let it be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _read_error(path, error) from error
    size, crc, _place = _unpack_footer(path, data[-_FOOTER.size :])
    frame = memoryview(data)[: -_FOOTER.size]
    try:
        segment: bytes = _codec().decompress(frame, decompressed_size=size, asbytes=True)
    except OSError as error:
        raise JournalError(f"archive {path}: cannot unpack {len(frame)} bytes: {error}") from None
    actual = crc32(segment)
    if actual != crc:
        raise JournalError(f"archive {path}: got a segment of CRC {actual:08x}, expected {crc:08x}")
    return segment


def read_place(path: Path) -> Place:
    """Where the segment stands, of its archive's last bytes. Raises JournalError as `read_archive` does."""
    try:
        with path.open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - _FOOTER.size, 0))
            footer = file.read()
    except OSError as error:
        raise _read_error(path, error) from error
    return _unpack_footer(path, footer)[2]


def _codec(level: int | None = None) -> Any:
    """Arrow's zstd: as quick as any, and here already. Loaded by who packs or unpacks, not by all who read segments."""
    import pyarrow as pa

    return pa.Codec("zstd", compression_level=level)


def _read_error(path: Path, error: OSError) -> SegmentReadError:
    missing = isinstance(error, FileNotFoundError)
    return (SegmentMissingError if missing else SegmentReadError)(f"archive {path}: cannot read: {error.strerror}")


def _pack_footer(path: Path, data: bytes, place: Place) -> bytes:
    packed = _FOOTER.pack(
        _FRAME_MAGIC,
        _FOOTER.size - 8,
        _MARK,
        len(data),
        crc32(data),
        place.first_seq,
        place.packets,
        place.first_record,
        place.next_record,
        place.least_received_ns,
        place.most_received_ns,
        0,
        _END,
    )
    crc = crc32(packed[:_CRC_AT], _seed(path))
    return packed[:_CRC_AT] + struct.pack("<I", crc) + _END


def _unpack_footer(path: Path, footer: bytes) -> tuple[int, int, Place]:
    """Size and CRC of the segment, and its place."""
    if len(footer) < _FOOTER.size:
        raise JournalError(f"archive {path}: got {len(footer)} bytes, expected {_FOOTER.size} or more")
    magic, frame_size, mark, size, crc, *place, footer_crc, end = _FOOTER.unpack(footer)
    if (magic, frame_size, mark, end) != (_FRAME_MAGIC, _FOOTER.size - 8, _MARK, _END):
        raise JournalError(f"archive {path}: got no footer in its last {_FOOTER.size} bytes, expected one")
    actual = crc32(footer[:_CRC_AT], _seed(path))
    if actual != footer_crc:
        raise JournalError(f"archive {path}: got a footer of CRC {actual:08x}, expected {footer_crc:08x}")
    return size, crc, Place(*place)


def _seed(path: Path) -> int:
    return block_seed(*parse_segment(path))
