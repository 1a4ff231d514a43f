"""What is appended to the journal and not written yet, and the block that it becomes."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from storage.journal.format import Kind, pack_block, payload_offset

MAX_BLOCK_BYTES: Final = 64 << 20
_KIND_SHIFT: Final = 16
_BINARY: Final = int(Kind.BINARY)


@dataclass(frozen=True, eq=False)
class PackedBlock:
    """The first records of a buffer as a block. `packets` are those that its frames claim to hold."""

    data: bytearray
    records: int
    tables: int
    """How many of the records are channel tables."""
    packets: int

    @property
    def callers(self) -> int:
        """How many of the records are those of callers."""
        return self.records - self.tables


class RecordBuffer:
    """Records in order, a list a column. `append` counts and converts nothing: that is done a block at a time."""

    def __init__(self) -> None:
        self._times: list[int] = []
        self._tags: list[int] = []
        self._payloads: list[bytes] = []
        self._tables = 0
        self._measured = (0, 0)  # so many of the payloads, and their bytes

    def __len__(self) -> int:
        return len(self._payloads)

    def append(self, kind: Kind, channel: int, received_at_ns: int, *payloads: bytes) -> None:
        """Buffer records that came together."""
        count = len(payloads)
        self._times += (received_at_ns,) * count
        self._tags += (kind << _KIND_SHIFT | channel,) * count
        self._payloads += payloads

    def append_table(self, written_at_ns: int, payload: bytes) -> None:
        """Buffer a channel table."""
        self.append(Kind.CHANNELS, 0, written_at_ns, payload)
        self._tables += 1

    @property
    def callers(self) -> int:
        """How many of the records are no channel tables."""
        return len(self._payloads) - self._tables

    def measure(self) -> int:
        """Bytes of the payloads. Takes as long as what was appended since it was asked last."""
        count, size = self._measured
        self._measured = (len(self._payloads), size + sum(map(len, self._payloads[count:])))
        return self._measured[1]

    def pack(self, *, seed: int, offset: int, first_record: int) -> PackedBlock:
        """What is buffered, or as much of it as goes into one block: at least one record. It stays buffered."""
        count = len(self._payloads)
        lengths = np.fromiter(map(len, self._payloads), np.uint32, count)
        ends = lengths.cumsum(dtype=np.int64)
        if ends[-1] > MAX_BLOCK_BYTES:
            count = max(1, int(np.searchsorted(ends, MAX_BLOCK_BYTES, "right")))
            lengths, ends = lengths[:count], ends[:count]
        tags = np.array(self._tags[:count], "<u4").view("<u2")
        kinds = tags[1::2].astype(np.uint8)
        block = pack_block(
            seed=seed,
            flags=0,
            offset=offset,
            first_record=first_record,
            received_at_ns=np.array(self._times[:count], np.int64),
            lengths=lengths,
            channels=tags[::2],
            kinds=kinds,
            payloads=self._payloads[:count],
        )
        tables = count - int(np.count_nonzero(kinds)) if self._tables else 0
        return PackedBlock(block, count, tables, _claimed_packets(block, kinds, lengths, ends))

    def drop(self, written: PackedBlock) -> None:
        """Forget the records of a block that was written."""
        count = written.records
        del self._times[:count], self._tags[:count], self._payloads[:count]
        self._tables -= written.tables
        self._measured = (0, 0)


def _claimed_packets(
    block: bytearray, kinds: NDArray[np.uint8], lengths: NDArray[np.uint32], ends: NDArray[np.int64]
) -> int:
    """The sum of the packet counts with which binary frames begin. Heartbeats have no count."""
    payload = np.frombuffer(block, np.uint8, offset=payload_offset(len(kinds)))
    starts = (ends - lengths)[(kinds == _BINARY) & (lengths > 1)]
    return 256 * int(payload[starts].sum()) + int(payload[starts + 1].sum())
