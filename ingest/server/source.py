"""Packets and frames, built from numbers alone: nothing here is shared with the code that reads them.

Theory. An instrument has one packet image for each mode: its two length bytes and its packet as it would be sent now.
A quote packet is the beginning of the full packet and an ltp packet the beginning of both, for indices too (Kite
Connect v3 streaming docs), so a tick is painted once and copied by prefix. A frame is then two bytes of count and a
selection of images, 30 ns a packet in one layout and 150 ns in a mixture.

All integers are big-endian. Words of the full packet, 4 bytes each: token, last price, last quantity, average price,
volume, buy quantity, sell quantity, open, high, low, close, last trade time, oi, oi high, oi low, exchange time, then
ten book entries of quantity, price, orders (uint16, then padding). Of an index: token, last price, high, low, open,
close, change, exchange time.
"""

from collections.abc import Iterator
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Modes = NDArray[np.uint8]

WORDS: Final = 46
INDEX_WORDS: Final = 8
HEARTBEAT: Final = b"\x00"


class Mode(IntEnum):
    """What a connection gets of an instrument; OFF is nothing."""

    OFF = 0
    LTP = 1
    QUOTE = 2
    FULL = 3


LENGTHS: Final = {Mode.LTP: 8, Mode.QUOTE: 44, Mode.FULL: 184}
INDEX_LENGTHS: Final = {Mode.LTP: 8, Mode.QUOTE: 28, Mode.FULL: 32}


class Images:
    """Every instrument's packets in every layout, ready to send."""

    def __init__(self, index: NDArray[np.bool_]) -> None:
        """`index` (n,): which instruments are indices, whose quote and full packets are shorter."""
        self._index = index
        self._bytes: dict[int, NDArray[np.uint8]] = {}
        self._packets: dict[int, NDArray[np.void]] = {}
        for mode in (Mode.LTP, Mode.QUOTE, Mode.FULL):
            for is_index, lengths in enumerate((LENGTHS, INDEX_LENGTHS)):
                length = lengths[mode]
                image = np.zeros((len(index), 2 + length), np.uint8)
                image[:, 1] = length
                self._bytes[2 * mode + is_index] = image
                self._packets[2 * mode + is_index] = image.view(f"V{2 + length}").reshape(-1)

    def paint(self, rows: Ints, words: Ints) -> None:
        """Set the packets of `rows` from (n, 46) words: signed ones in two's complement, of an index the first 8."""
        packets = words.astype(np.uint32).astype(">u4").view(np.uint8).reshape(len(rows), 4 * WORDS)
        index = self._index[rows]
        for is_index, chosen in enumerate((~index, index)):
            for mode, length in (LENGTHS, INDEX_LENGTHS)[is_index].items():
                self._bytes[2 * mode + is_index][rows[chosen], 2:] = packets[chosen, :length]

    def packet(self, row: int, mode: Mode) -> bytes:
        """One packet, without its length."""
        return self._bytes[2 * mode + int(self._index[row])][row, 2:].tobytes()

    def frame(self, rows: Ints, modes: Modes) -> bytes:
        """A frame of (n,) packets, each in its mode; n is at most 65,535."""
        head = len(rows).to_bytes(2, "big")
        layouts = 2 * modes + self._index[rows]
        kinds = np.flatnonzero(np.bincount(layouts)).tolist()
        if len(kinds) == 1:
            return head + self._packets[kinds[0]][rows].tobytes()
        packets = np.empty(len(rows), object)
        for kind in kinds:
            chosen = layouts == kind
            packets[chosen] = self._packets[kind][rows[chosen]].tolist()
        return b"".join([head, *packets.tolist()])


def split(size: int, most: int, random: np.random.Generator) -> Iterator[slice]:
    """Cut `size` packets into frames of at most `most`; about one time in four into more frames than needed."""
    cuts = set(range(most, size, most))
    if size > 1 and random.random() < 0.25:
        cuts.update(random.integers(1, size, 2).tolist())
    start = 0
    for cut in [*sorted(cuts), size]:
        yield slice(start, cut)
        start = cut
