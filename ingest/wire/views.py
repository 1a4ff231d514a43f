"""Packets as numpy structured arrays over the bytes they came in: nothing is copied, nothing is converted.

For looking at a few packets, or for code that wants one field of a run. Prices are the wire's integers, to be divided
by `layouts.divisor_of(token)`. A view is read-only if its bytes are, and keeps them alive.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingest.errors import WireError
from ingest.wire.layouts import LAYOUTS, PREFIX_BYTES
from ingest.wire.walk import walk_frames

Bytes = bytes | bytearray | memoryview | NDArray[np.uint8]


def packet_view(packet: Bytes) -> NDArray[Any]:
    """One packet (without its length prefix) as an array of shape (): `int(view["last_price"])`.

    Raises WireError for a length that no layout has.
    """
    data = np.frombuffer(packet, np.uint8)
    return np.ndarray((), _dtype(len(data)), data)


def run_view(run: Bytes, length: int, *, prefixed: bool = False) -> NDArray[Any]:
    """Packets of one length, back to back, as an array of shape (n,). `prefixed`: each behind its two length bytes.

    The prefixes are skipped, not looked at. Raises WireError for a length that no layout has, or if the bytes are not
    a whole number of packets.
    """
    data = np.frombuffer(run, np.uint8)
    skipped = PREFIX_BYTES if prefixed else 0
    dtype, stride = _dtype(length), length + skipped
    n, rest = divmod(len(data), stride)
    if rest:
        raise WireError(f"run of packets: got {len(data)} bytes, expected a multiple of {stride}")
    return np.ndarray((n,), dtype, data, skipped if n else 0, (stride,))


def frame_views(frame: Bytes) -> list[NDArray[Any]]:
    """A frame's good packets in wire order: one strided array of shape (n,) for each run of equal lengths.

    What is no good packet is left out, and ends a run; see `walk_frames` for what it was. A heartbeat has no views.
    """
    data = np.frombuffer(frame, np.uint8)
    found = walk_frames(data, np.array([len(data)]))
    if not len(found.offsets):
        return []
    lengths, offsets = found.lengths, found.offsets
    breaks = (np.diff(lengths) != 0) | (np.diff(offsets) != lengths[:-1] + PREFIX_BYTES)
    starts = [0, *(np.flatnonzero(breaks) + 1).tolist()]
    counts = np.diff(starts, append=len(offsets)).tolist()
    views = []
    for start, n in zip(starts, counts, strict=True):
        length = int(lengths[start])
        views.append(np.ndarray((n,), _dtype(length), data, int(offsets[start]), (length + PREFIX_BYTES,)))
    return views


def _dtype(length: int) -> np.dtype[Any]:
    layout = LAYOUTS.get(length)
    if layout is None:
        raise WireError(f"packet of {length} bytes: expected one of {', '.join(map(str, LAYOUTS))}")
    return layout.dtype
