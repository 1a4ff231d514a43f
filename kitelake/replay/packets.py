"""Packets of a captured day, as bytes that are ready to be sent: cut to the mode in which each is wanted.

A quote packet is the beginning of a full one and an ltp packet the beginning of both, for indices too (Kite Connect v3
streaming docs). So a packet is encoded once, in the mode in which it was captured, and served in that mode or a lesser
one. All works on many packets at once: at full speed there are hundreds of thousands in a second.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ingest.server import INDEX_LENGTHS, LENGTHS, Frames, Ints, Modes, StreamMode
from ingest.wire import packet_view
from kitelake.paper import PriceLevel, Snapshot
from storage.clock import US_PER_SECOND

Bytes = NDArray[np.uint8]
Bools = NDArray[np.bool_]

LONGEST: Final = LENGTHS[StreamMode.FULL]
_TIMES: Final = {"last_trade_time": "last_trade_us", "exchange_timestamp": "exchange_us"}


def _served() -> NDArray[np.int64]:
    """(length of a packet as it was captured, mode that is wanted) → length of what is sent of it."""
    table = np.zeros((LONGEST + 1, len(StreamMode)), np.int64)
    for lengths in (INDEX_LENGTHS, LENGTHS):
        for own in lengths.values():
            for mode, length in lengths.items():
                table[own, mode] = min(own, length)
    return table


_SERVED: Final = _served()


@dataclass(frozen=True, eq=False)
class Slice:
    """Packets in the order in which they were received. `times` are their µs since the epoch, `rows` the places of
    their instruments, `frames_of` the number of the frame in which each came, rising. Packet i lies at
    `data[starts[i]:]`, `lengths[i]` bytes long. `live` and `after_gap` are as `Snapshot` has them."""

    times: Ints
    rows: Ints
    frames_of: Ints
    data: Bytes
    starts: Ints
    lengths: Ints
    live: Bools
    after_gap: Bools

    def __len__(self) -> int:
        return len(self.times)

    def until(self, us: int) -> int:
        """How many of them were received before that moment."""
        return int(np.searchsorted(self.times, us))

    def frames(self, start: int, stop: int, modes: Modes, most: int) -> Frames:
        """What a subscriber with these `modes` (instruments,) gets of the packets from `start` to `stop`: in frames as
        they were received, of at most so many packets."""
        wanted = modes[self.rows[start:stop]]
        chosen = np.flatnonzero(wanted)
        places = chosen + start
        lengths = _SERVED[self.lengths[places], wanted[chosen]]
        return _framed(self.data, self.starts[places], lengths, self.frames_of[places], self.rows[places], most)

    def snapshots(self, start: int, stop: int, rows: Collection[int]) -> list[Snapshot]:
        """Those of the packets from `start` to `stop` that are of instruments at these places."""
        if not rows:
            return []
        places = start + np.flatnonzero(np.isin(self.rows[start:stop], list(rows)))
        return [self._snapshot(place) for place in places.tolist()]

    def _snapshot(self, place: int) -> Snapshot:
        first = self.starts[place]
        packet = self.data[first : first + self.lengths[place]]
        return snapshot_of(packet, int(self.times[place]), bool(self.live[place]), bool(self.after_gap[place]))


class Latest:
    """The last packet of each instrument that was served: what a new subscription brings at once."""

    def __init__(self, size: int) -> None:
        """Of so many instruments; none has one yet."""
        self._data: Bytes = np.zeros(size * LONGEST, np.uint8)
        self._starts: Ints = np.arange(size) * LONGEST
        self._lengths: Ints = np.zeros(size, np.int64)
        self._live: Bools = np.zeros(size, np.bool_)
        self._after_gap: Bools = np.zeros(size, np.bool_)
        self.times: Ints = np.zeros(size, np.int64)
        """When each was received; 0: never."""
        self._place: Ints = np.zeros(size, np.int64)

    def update(self, packets: Slice, start: int, stop: int) -> None:
        """Packets from `start` to `stop` were served."""
        places = np.arange(start, stop)
        rows = packets.rows[start:stop]
        self._place[rows] = places  # of several of one instrument the last remains
        is_last = self._place[rows] == places
        places, rows = places[is_last], rows[is_last]
        _copy(packets.data, packets.starts[places], self._data, self._starts[rows], packets.lengths[places])
        self._lengths[rows] = packets.lengths[places]
        self._live[rows] = packets.live[places]
        self._after_gap[rows] = packets.after_gap[places]
        self.times[rows] = packets.times[places]

    def frames(self, rows: Ints, modes: Modes, most: int) -> Frames:
        """Those of the instruments that have one, each once, in the mode in which it is wanted."""
        rows = rows[(self._lengths[rows] > 0) & (modes[rows] > 0)]
        lengths = _SERVED[self._lengths[rows], modes[rows]]
        return _framed(self._data, self._starts[rows], lengths, np.zeros(len(rows), np.int64), rows, most)

    def snapshot(self, row: int) -> Snapshot | None:
        """Of the instrument at that place."""
        length = int(self._lengths[row])
        if not length:
            return None
        first = row * LONGEST
        return snapshot_of(
            self._data[first : first + length],
            int(self.times[row]),
            bool(self._live[row]),
            bool(self._after_gap[row]),
        )


def snapshot_of(packet: Bytes, received_us: int, live: bool, after_gap: bool) -> Snapshot:
    """A packet's values. Raises WireError for a length that no packet has."""
    view = packet_view(packet)
    values: dict[str, Any] = {}
    for name in view.dtype.names or ():
        value = view[name].item() if name != "depth" else None
        if name in _TIMES:
            values[_TIMES[name]] = value * US_PER_SECOND if value else None
        elif name == "instrument_token":
            values["token"] = value
        elif name != "depth":
            values[name] = value
    mode = next(
        mode for lengths in (LENGTHS, INDEX_LENGTHS) for mode, length in lengths.items() if length == len(packet)
    )
    if "depth" in (view.dtype.names or ()):
        sides = [
            tuple(PriceLevel(price, quantity, orders) for quantity, price, orders, _ in side if price and quantity)
            for side in view["depth"].tolist()
        ]
        values["bids"], values["asks"] = sides
    return Snapshot(received_us=received_us, mode=mode.name.lower(), live=live, after_gap=after_gap, **values)


def _framed(data: Bytes, starts: Ints, lengths: Ints, frames_of: Ints, rows: Ints, most: int) -> Frames:
    size = len(rows)
    if not size:
        return Frames(np.zeros(0, np.uint8), rows, rows, rows)
    firsts = np.flatnonzero(np.diff(frames_of, prepend=frames_of[0] - 1))
    counts: Ints = np.diff(np.append(firsts, size))
    if counts.max() > most:
        within = np.arange(size) - np.repeat(firsts, counts)
        firsts = np.flatnonzero(within % most == 0)
        counts = np.diff(np.append(firsts, size))
    frame = np.repeat(np.arange(len(firsts)), counts)
    ends = np.cumsum(lengths + 2) + 2 * (frame + 1)
    places = ends - lengths
    frame_lengths = np.add.reduceat(lengths + 2, firsts) + 2
    heads = np.cumsum(frame_lengths) - frame_lengths
    payload = np.empty(int(ends[-1]), np.uint8)
    payload[heads], payload[heads + 1] = counts >> 8, counts & 0xFF
    payload[places - 2] = 0  # no packet is longer than a byte can say
    payload[places - 1] = lengths
    _copy(data, starts, payload, places, lengths)
    return Frames(payload, frame_lengths, counts, rows)


def _copy(data: Bytes, starts: Ints, target: Bytes, places: Ints, lengths: Ints) -> None:
    """`lengths[i]` bytes from `data[starts[i]:]` to `target[places[i]:]`."""
    for length in np.flatnonzero(np.bincount(lengths)).tolist():
        those = lengths == length
        _window(target, length)[places[those]] = _window(data, length)[starts[those]]


def _window(data: Bytes, length: int) -> NDArray[np.void]:
    """Element i is the bytes from i on: so bytes are moved a packet at a time."""
    return np.ndarray((len(data) - length + 1,), f"V{length}", data, strides=(1,))
