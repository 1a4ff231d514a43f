"""Packets in the bytes they came in: as numpy structured arrays, or as ticks that read a field when it is asked for.

Arrays are for looking at a few packets, or for code that wants one field of a run: nothing is copied or converted.
Prices are the wire's integers, to be divided by `layouts.divisor_of(token)`. A view is read-only if its bytes are, and
keeps them alive.

A `PacketTick` keeps its packet (not the frame), and says what `storage.memory.Tick` says of it.
"""

import struct
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from functools import lru_cache, partial
from itertools import chain, repeat
from operator import itemgetter
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ingest.errors import WireError
from ingest.wire.layouts import EXCHANGE_CODE, EXCHANGES, LAYOUTS, PREFIX_BYTES, Layout, divisor_of
from ingest.wire.plain import split_frame
from ingest.wire.walk import walk_frames
from storage.clock import NS_PER_SECOND, ist_time
from storage.memory import Level, Mode, Tick
from storage.schema import DEPTH_LEVELS

Bytes = bytes | bytearray | memoryview | NDArray[np.uint8]
Origin = tuple[str, int, int]
"""What a frame's ticks have in common: account, connection, and nanoseconds since the epoch of its receipt."""

DIVISORS: Final = tuple(float(divisor_of(byte)) for byte in range(256))
"""By segment byte, the last of a token: what prices are divided by."""
EXCHANGE_NAMES: Final = tuple(EXCHANGES[code] for code in EXCHANGE_CODE.tolist())
"""By segment byte."""
_REMEMBERED: Final = 4096
_FEW: Final = 6
"""So many lengths are quicker read as numbers, and more of them as two stretches of bytes."""
_Form = tuple[int, Callable[[bytes], tuple[object, ...]], tuple[object, ...], int, int]
"""Of an even frame: its size; what reads the bytes beside its packets, and as what; how many packets, and how long."""
_ALONE: Final = {2 * PREFIX_BYTES + length: b"\x00\x01" + length.to_bytes(PREFIX_BYTES, "big") for length in LAYOUTS}
"""By length of a frame that holds one packet: how it begins."""
_TIMES: Final = ("last_trade_time", "exchange_timestamp")
_price: Final = struct.Struct(">i").unpack_from
_count: Final = struct.Struct(">I").unpack_from
_side: Final = struct.Struct(">" + DEPTH_LEVELS * "IiHxx")


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


@lru_cache(maxsize=512)
def _even_form(head: bytes) -> _Form:
    """That of an even frame that begins so: one with packets of one known length, and nothing else.

    Where there is none, it has a size that no frame has.
    """
    count, length = int.from_bytes(head[:PREFIX_BYTES], "big"), int.from_bytes(head[PREFIX_BYTES:], "big")
    if not count or length not in LAYOUTS:
        return -1, tuple, (), 0, 0
    stride = PREFIX_BYTES + length
    size = PREFIX_BYTES + count * stride
    if count <= _FEW:
        return size, struct.Struct(">H" + count * f"H{length}x").unpack, (count, *count * (length,)), count, length
    parts = slice(PREFIX_BYTES), slice(2, None, stride), slice(3, None, stride)
    return size, itemgetter(*parts), (head[:2], count * head[2:3], count * head[3:]), count, length


class PacketCounter:
    """Counts the packets of even frames: see `_even_form`. Most have the form of the last one, which is tried first."""

    def __init__(self) -> None:
        self._form = _even_form(b"")

    def count(self, frames: Sequence[bytes]) -> tuple[int, list[bytes]]:
        """How many packets the even ones of these frames hold; and the other frames."""
        size, prefixes, expected, count, _ = self._form
        left = iter(frames)
        for frame in left:
            if len(frame) != size or prefixes(frame) != expected:
                break
        else:
            return count * len(frames), []
        rest, others = [frame, *left], []
        packets = count * (len(frames) - len(rest))
        for frame in rest:
            size, prefixes, expected, count, _ = self._form = _even_form(frame[: 2 * PREFIX_BYTES])
            if len(frame) == size and prefixes(frame) == expected:
                packets += count
            else:
                others.append(frame)
        return packets, others


def packets_in(frame: bytes) -> list[bytes]:
    """A frame's good packets, as `split_frame` finds them; quick where all are of one length, as in most frames."""
    if frame[: 2 * PREFIX_BYTES] == _ALONE.get(len(frame)):
        return [frame[2 * PREFIX_BYTES :]]
    size, prefixes, expected, _, length = _even_form(frame[: 2 * PREFIX_BYTES])
    if len(frame) != size or prefixes(frame) != expected:
        return split_frame(frame)[0]
    return [frame[at : at + length] for at in range(2 * PREFIX_BYTES, len(frame), length + PREFIX_BYTES)]


def ticks_in(frames: Iterable[bytes], origin: Origin) -> list[Tick]:
    """One tick for each good packet of frames that came together."""
    packets = list(chain.from_iterable(map(packets_in, frames)))
    classes, new = _CLASSES, object.__new__
    ticks: list[Tick] = [new(classes[len(packet)]) for packet in packets]
    # A `deque` of no room calls for each: in half of the time of a loop.
    deque(map(_set_packet, ticks, packets), 0)
    deque(map(_set_origin, ticks, repeat(origin)), 0)
    return ticks


class PacketTick(Tick):
    """A tick that reads what it is asked for from its packet. Equal to the `Tick` of the same values, which it also is
    when it is pickled, copied, or made anew with other values (`dataclasses.replace`).

    There is a class of it for each layout, see `_class_of`.
    """

    __slots__ = ("_origin", "_packet")
    _origin: Origin
    _packet: bytes

    def __new__(cls, **values: Any) -> Tick:  # type: ignore[misc]
        return Tick(**values)

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not Tick and not isinstance(other, PacketTick):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in _NAMES)

    __hash__ = Tick.__hash__

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(Tick, **{name: getattr(self, name) for name in _NAMES}), ()


_NAMES: Final = tuple(field.name for field in fields(Tick))
# `Tick` is frozen: only its slots know how they are filled.
_set_packet, _set_origin = (vars(PacketTick)[slot].__set__ for slot in ("_packet", "_origin"))


def _class_of(layout: Layout) -> type[PacketTick]:
    """The ticks of one layout: a property for each field that its packets carry, and the default for any other."""
    members: dict[str, Any] = {field.name: field.default for field in fields(Tick)}
    carried = layout.dtype.fields
    assert carried is not None
    for name, (dtype, offset, *_) in carried.items():
        if name == "depth":
            members["bids"] = property(partial(_levels, offset))
            members["asks"] = property(partial(_levels, offset + _side.size))
        elif dtype == np.dtype(">i4"):
            members[name] = property(_price_at(offset))
        else:
            members[name] = property(_time_at(offset) if name in _TIMES else _count_at(offset))
    members |= {
        "__slots__": (),
        "__doc__": PacketTick.__doc__,
        "mode": Mode(layout.mode),
        "account": property(lambda tick: tick._origin[0]),
        "connection": property(lambda tick: tick._origin[1]),
        "received_at": property(lambda tick: _received_at(tick._origin[2])),
        "exchange": property(lambda tick: EXCHANGE_NAMES[tick._packet[3]]),
    }
    return type("Tick", (PacketTick,), members)


def _price_at(offset: int) -> Callable[[PacketTick], float]:
    def price(tick: PacketTick) -> float:
        packet = tick._packet
        wire: int = _price(packet, offset)[0]
        return wire / DIVISORS[packet[3]]

    return price


def _count_at(offset: int) -> Callable[[PacketTick], int]:
    def count(tick: PacketTick) -> int:
        found: int = _count(tick._packet, offset)[0]
        return found

    return count


def _time_at(offset: int) -> Callable[[PacketTick], Any]:
    return lambda tick: _time_of(_count(tick._packet, offset)[0])


def _levels(offset: int, tick: PacketTick) -> tuple[Level, ...]:
    packet = tick._packet
    divisor = DIVISORS[packet[3]]
    words = _side.unpack_from(packet, offset)
    entries = zip(words[::3], words[1::3], words[2::3], strict=True)
    return tuple(Level(price / divisor, quantity, orders) for quantity, price, orders in entries)


_received_at: Final = lru_cache(_REMEMBERED)(ist_time)
_CLASSES: Final = {length: _class_of(layout) for length, layout in LAYOUTS.items()}


@lru_cache(_REMEMBERED)
def _time_of(seconds: int) -> Any:
    return ist_time(seconds * NS_PER_SECOND) if seconds else None
