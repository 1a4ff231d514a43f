"""Where the packets are: a vectorised walk over any number of frames laid end to end.

A frame is one byte (a heartbeat), or a uint16 number of packets followed by as many packets, each behind its uint16
length (Kite Connect v3 streaming docs). The walk never fails. What is not so becomes a quarantined range:

    empty frame        a frame of no bytes
    missing packets    the frame ends, cleanly, before its number of packets
    truncated packet   the frame ends inside a packet or its length; the range begins at the length's bytes
    unknown length     a packet of a length that no layout has; the range is the packet, the walk goes on behind it
    trailing bytes     bytes behind the last packet that the frame claims; they are not guessed at

So every byte has one place, and `WireReport` holds: headers + prefixes + good packets + quarantined + heartbeats = all.

Frames that are all alike are taken at once. Else there are three ways through a frame, the cheapest that fits: most
frames hold packets of one length, which the first packet's length foretells and one comparison of all prefixes
confirms. The others go in lock step, step k taking packet k of every frame that has one. When only a few frames are
left, plain loops take them, so that one giant frame is not slow.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ingest.wire.layouts import (
    EXCHANGE_CODE,
    KNOWN_LENGTH,
    PREFIX_BYTES,
    Quarantined,
    QuarantineReason,
    WireReport,
    places_alike,
)
from storage.memory import are_alike, are_all

Ints = NDArray[np.int64]

FEW_FRAMES: Final = 48
"""At fewer frames than this a plain loop over their packets is quicker than numpy steps over the frames."""


@dataclass(frozen=True, eq=False)
class Walk:
    """What a walk found. Arrays are int64; packets are in wire order, ranges in the order of their bytes."""

    payload: NDArray[np.uint8]
    frames: int
    total_bytes: int
    heartbeats: int
    headers: int
    offsets: Ints
    """Of each good packet's first byte, in `payload`."""
    lengths: Ints
    packet_frames: Ints
    """Which frame each good packet came in."""
    range_frames: Ints
    range_offsets: Ints
    """In the frame."""
    range_lengths: Ints
    range_reasons: Ints
    tokens: NDArray[np.uint32] | None = None
    """Of each good packet, where the walk has come by it."""

    def report(self) -> WireReport:
        """The accounts, as plain values. It counts each range in Python: meant for callers, not for every block."""
        unknown_packets = int(np.count_nonzero(self.range_reasons == QuarantineReason.UNKNOWN_LENGTH))
        segments = self.payload.take(self.offsets + 3)
        columns = (self.range_frames, self.range_offsets, self.range_lengths, self.range_reasons)
        return WireReport(
            frames=self.frames,
            total_bytes=self.total_bytes,
            heartbeats=self.heartbeats,
            header_bytes=PREFIX_BYTES * self.headers,
            prefix_bytes=PREFIX_BYTES * (len(self.offsets) + unknown_packets),
            packets=len(self.offsets),
            packet_bytes=int(self.lengths.sum()),
            quarantined=tuple(
                Quarantined(frame, offset, length, QuarantineReason(reason))
                for frame, offset, length, reason in zip(*(c.tolist() for c in columns), strict=True)
            ),
            unknown_segments=int(np.count_nonzero(EXCHANGE_CODE.take(segments) == 0)),
        )


@dataclass(frozen=True, eq=False)
class Packets:
    """Good packets in `payload`, in any order: offsets of their first bytes and their lengths, int64."""

    payload: NDArray[np.uint8]
    offsets: Ints
    lengths: Ints

    def __len__(self) -> int:
        return len(self.offsets)

    @cached_property
    def tokens(self) -> NDArray[np.uint32]:
        """The instrument token of each."""
        everywhere = np.ndarray((max(0, len(self.payload) - 3),), ">u4", self.payload, strides=(1,))
        return everywhere[self.offsets].astype(np.uint32)  # `take` would copy all of it before

    @cached_property
    def segments(self) -> NDArray[np.uint8]:
        """The segment byte of each: the last of its token."""
        if "tokens" in self.__dict__:
            return self.tokens.astype(np.uint8)
        return self.payload.take(self.offsets + 3)

    @cached_property
    def exchanges(self) -> NDArray[np.int8]:
        """Places in `layouts.EXCHANGES`."""
        codes: NDArray[np.int8] = EXCHANGE_CODE.take(self.segments)
        return codes

    def take(self, order: Ints) -> "Packets":
        """These of them, in this order."""
        return self.with_tokens(self.offsets.take(order), self.lengths.take(order), self.tokens.take(order))

    def cut(self, rows: slice) -> "Packets":
        """A stretch of them."""
        return self.with_tokens(self.offsets[rows], self.lengths[rows], self.tokens[rows])

    def with_tokens(self, offsets: Ints, lengths: Ints, tokens: NDArray[np.uint32]) -> "Packets":
        """Those at these places, whose tokens are known."""
        packets = Packets(self.payload, offsets, lengths)
        packets.__dict__["tokens"] = tokens  # which the bytes have, but all over the memory
        return packets


def packets_of(found: Walk) -> Packets:
    """The good packets of a walk, in wire order."""
    packets = Packets(found.payload, found.offsets, found.lengths)
    return packets if found.tokens is None else packets.with_tokens(found.offsets, found.lengths, found.tokens)


def walk_frames(payload: NDArray[np.uint8], lengths: NDArray[np.integer], starts: Ints | None = None) -> Walk:
    """Find the packets of frames in `payload`, frame i being `lengths[i]` bytes.

    The frames lie end to end from 0, or else begin at `starts`, ascending. Frames must lie inside of `payload`.
    """
    sizes = lengths.astype(np.int64)
    if starts is None and len(sizes) and are_alike(sizes):
        alike = _find_alike(payload, len(sizes), int(sizes[0]))
        if alike is not None:
            return alike
    if starts is None:
        starts = np.cumsum(sizes) - sizes
    ranges = _Ranges()
    headed = np.flatnonzero(sizes >= PREFIX_BYTES)
    if len(headed) < len(sizes):
        empty = np.flatnonzero(sizes == 0)
        ranges.add(empty, starts[empty], sizes[empty], QuarantineReason.EMPTY_FRAME)
        begin, size = starts[headed], sizes[headed]
    else:
        begin, size = starts, sizes

    claimed = _uint16(payload, begin)
    members, even = _find_uniform(payload, begin, size, claimed)
    if len(members) == len(headed):
        records = even
    else:
        odd = np.ones(len(headed), np.bool_)
        odd[members] = False
        members = np.flatnonzero(odd)
        rest, ordinals = _step(payload, members, begin[members], size[members], claimed[members], headed, ranges)
        records = _merge(even, rest, ordinals, len(headed))

    if records is not even and not are_all(good := KNOWN_LENGTH.take(records.lengths)):
        bad = ~good
        ranges.add(
            headed[records.members[bad]], records.offsets[bad], records.lengths[bad], QuarantineReason.UNKNOWN_LENGTH
        )
        records = records.where(good)
    range_frames, range_offsets, range_lengths, range_reasons = ranges.sorted()
    return Walk(
        payload=payload,
        frames=len(sizes),
        total_bytes=int(sizes.sum()),
        heartbeats=int(np.count_nonzero(sizes == 1)),
        headers=len(headed),
        offsets=records.offsets,
        lengths=records.lengths,
        packet_frames=records.members if len(headed) == len(sizes) else headed.take(records.members),
        range_frames=range_frames,
        range_offsets=range_offsets - starts.take(range_frames),
        range_lengths=range_lengths,
        range_reasons=range_reasons,
        tokens=records.tokens,
    )


def _find_alike(payload: NDArray[np.uint8], frames: int, size: int) -> Walk | None:
    """The walk over frames of one size, end to end, if all hold as many packets of one known length and nothing else:
    the usual thing where frames are small, and many times cheaper than to find out of each what it holds."""
    if size < 2 * PREFIX_BYTES:
        return None
    head = payload[: 2 * PREFIX_BYTES]
    count, length = (int(number) for number in head.view(">u2"))
    stride = length + PREFIX_BYTES
    if not count or PREFIX_BYTES + count * stride != size or not KNOWN_LENGTH[length]:
        return None
    counts = np.ndarray((frames, PREFIX_BYTES), np.uint8, payload, 0, (size, 1))
    prefixes = np.ndarray((frames, count, PREFIX_BYTES), np.uint8, payload, PREFIX_BYTES, (size, stride, 1))
    if not are_all(counts == head[:PREFIX_BYTES]) or not are_all(prefixes == head[PREFIX_BYTES:]):
        return None
    offsets, lengths, members = places_alike(frames, count, length)
    none = np.empty(0, np.int64)
    return Walk(
        payload=payload,
        frames=frames,
        total_bytes=frames * size,
        heartbeats=0,
        headers=frames,
        offsets=offsets,
        lengths=lengths,
        packet_frames=members,
        range_frames=none,
        range_offsets=none,
        range_lengths=none,
        range_reasons=none,
    )


@dataclass(frozen=True, eq=False)
class _Records:
    """Packets whose bytes are all there, of known length or not. `members` are places among the headed frames."""

    members: Ints
    offsets: Ints
    lengths: Ints
    tokens: NDArray[np.uint32] | None = None

    def where(self, mask: NDArray[np.bool_]) -> "_Records":
        """Those that the mask picks."""
        return _Records(self.members[mask], self.offsets[mask], self.lengths[mask])


class _Ranges:
    """Collects quarantined ranges; `offsets` are places in the payload until the walk is over."""

    def __init__(self) -> None:
        self.parts: list[tuple[Ints, Ints, Ints, Ints]] = []

    def add(self, frames: Ints, offsets: Ints, lengths: Ints, reason: QuarantineReason | Ints) -> None:
        """Some ranges, for one reason, or each for its own."""
        if len(frames):
            reasons = np.full(len(frames), reason, np.int64) if isinstance(reason, QuarantineReason) else reason
            self.parts.append((frames, offsets, lengths, reasons))

    def sorted(self) -> tuple[Ints, Ints, Ints, Ints]:
        """Frames, offsets, lengths and reasons of all ranges, in the order of their bytes."""
        if not self.parts:
            none = np.empty(0, np.int64)
            return none, none, none, none
        frames, offsets, lengths, reasons = (np.concatenate(column) for column in zip(*self.parts, strict=True))
        # A packet of length 0 and the frame's end may share an offset: what is wrong with the end comes last.
        order = np.lexsort((reasons != QuarantineReason.UNKNOWN_LENGTH, offsets, frames))
        return frames[order], offsets[order], lengths[order], reasons[order]


def _uint16(payload: NDArray[np.uint8], at: Ints) -> Ints:
    # Two takes of bytes: numpy would copy a strided or unaligned array whole before it takes from it.
    value = payload.take(at).astype(np.int64)
    value <<= 8
    value |= payload.take(at + 1)
    return value


def _find_uniform(payload: NDArray[np.uint8], begin: Ints, size: Ints, claimed: Ints) -> tuple[Ints, _Records]:
    """The frames that hold `claimed` packets of one known length and nothing else, and those packets."""
    first = begin + PREFIX_BYTES
    # Reading past a short frame does no harm: its size then contradicts what was read.
    length = _uint16(payload, np.minimum(first, max(0, len(payload) - PREFIX_BYTES)))
    stride = length + PREFIX_BYTES
    fits = KNOWN_LENGTH.take(length)
    fits &= claimed > 0
    fits &= claimed * stride + PREFIX_BYTES == size
    members = np.flatnonzero(fits)
    if len(members) < len(fits):
        first, length, stride, claimed = first[members], length[members], stride[members], claimed[members]
    records = _spread(members, first, length, stride, claimed)
    if len(records.offsets) == len(members):
        return members, records
    # Eight bytes at once: a packet's length, its token, and two more.
    heads = np.ndarray((len(payload) - 7,), ">u8", payload, strides=(1,))[records.offsets - PREFIX_BYTES]
    heads = heads.astype(np.uint64)
    heads >>= 16
    tokens = heads.astype(np.uint32)
    heads >>= 32
    same = heads.view(np.int64) == records.lengths
    if are_all(same):
        records = replace(records, tokens=tokens)
    else:
        # Only now, as it hardly ever happens, throw out the frames whose later packets have another length.
        liars = np.zeros(len(begin), np.bool_)
        liars[records.members[~same]] = True
        honest = ~liars[members]
        members = members[honest]
        records = _spread(members, first[honest], length[honest], stride[honest], claimed[honest])
    return members, records


def _spread(members: Ints, first: Ints, length: Ints, stride: Ints, claimed: Ints) -> _Records:
    """The records of frames of `claimed` packets each (1 or more), every `stride` bytes from `first`."""
    if are_all(claimed == 1):
        return _Records(members, first + PREFIX_BYTES, length)
    before = np.cumsum(claimed) - claimed
    offsets = np.arange(int(claimed.sum()))
    if are_alike(stride):
        offsets *= stride[0]
        lengths = np.full(len(offsets), length[0])
    else:
        offsets *= stride.repeat(claimed)
        lengths = length.repeat(claimed)
    offsets += (first + PREFIX_BYTES - before * stride).repeat(claimed)
    return _Records(members.repeat(claimed), offsets, lengths)


def _step(
    payload: NDArray[np.uint8], members: Ints, begin: Ints, size: Ints, claimed: Ints, frames: Ints, ranges: _Ranges
) -> tuple[_Records, Ints]:
    """Walk frames in lock step: step k takes packet k of each that has one. Also returns each record's k."""
    found: list[tuple[Ints, Ints, Ints]] = []
    at, end = begin + PREFIX_BYTES, begin + size
    step = 0
    while len(members) >= FEW_FRAMES:
        left = end - at
        goes_on = claimed > step
        goes_on &= left >= PREFIX_BYTES
        if not are_all(goes_on):
            wrong = ~goes_on
            wrong &= (claimed > step) | (left > 0)
            why = np.where(left > 0, QuarantineReason.TRUNCATED_PACKET, QuarantineReason.MISSING_PACKETS)
            why[claimed <= step] = QuarantineReason.TRAILING_BYTES
            ranges.add(frames[members[wrong]], at[wrong], left[wrong], why[wrong])
            members, at, end, claimed = members[goes_on], at[goes_on], end[goes_on], claimed[goes_on]
        length = _uint16(payload, at)
        behind = at + length
        behind += PREFIX_BYTES
        over = behind > end
        if over.any():
            ranges.add(frames[members[over]], at[over], (end - at)[over], QuarantineReason.TRUNCATED_PACKET)
            whole = ~over
            members, at, end, claimed = members[whole], at[whole], end[whole], claimed[whole]
            length, behind = length[whole], behind[whole]
        at += PREFIX_BYTES
        found.append((members, at, length))
        at = behind
        step += 1
    steps = [np.full(len(part[0]), k, np.int64) for k, part in enumerate(found)]
    for member, here, stop, wanted in zip(members.tolist(), at.tolist(), end.tolist(), claimed.tolist(), strict=True):
        offsets, lengths, ended, why_ended = _step_alone(payload[here:stop].tobytes(), wanted - step)
        found.append((np.full(len(offsets), member), np.array(offsets, np.int64) + here, np.array(lengths, np.int64)))
        steps.append(np.arange(step, step + len(offsets)))
        if why_ended is not None:
            one = np.array([[frames[member]], [here + ended], [stop - here - ended]])
            ranges.add(one[0], one[1], one[2], why_ended)
    if not found:
        none = np.empty(0, np.int64)
        return _Records(none, none, none), none
    all_members, all_offsets, all_lengths = (np.concatenate(column) for column in zip(*found, strict=True))
    return _Records(all_members, all_offsets, all_lengths), np.concatenate(steps)


def _step_alone(rest: bytes, wanted: int) -> tuple[list[int], list[int], int, QuarantineReason | None]:
    """One frame's remaining packets: offsets and lengths, then where the walk ended, and why if that is wrong."""
    offsets: list[int] = []
    lengths: list[int] = []
    at, size = 0, len(rest)
    while len(offsets) < wanted:
        if size - at < PREFIX_BYTES:
            why = QuarantineReason.TRUNCATED_PACKET if at < size else QuarantineReason.MISSING_PACKETS
            return offsets, lengths, at, why
        length = rest[at] << 8 | rest[at + 1]
        behind = at + PREFIX_BYTES + length
        if behind > size:
            return offsets, lengths, at, QuarantineReason.TRUNCATED_PACKET
        offsets.append(at + PREFIX_BYTES)
        lengths.append(length)
        at = behind
    return offsets, lengths, at, QuarantineReason.TRAILING_BYTES if at < size else None


def _merge(even: _Records, odd: _Records, odd_ordinals: Ints, members: int) -> _Records:
    """Both kinds of records in wire order: frame by frame, packet by packet."""
    even_counts = np.bincount(even.members, minlength=members)
    even_before = np.cumsum(even_counts) - even_counts
    counts = even_counts + np.bincount(odd.members, minlength=members)
    before = np.cumsum(counts) - counts
    even_places = np.arange(len(even.members)) + (before - even_before).take(even.members)
    odd_places = before.take(odd.members) + odd_ordinals
    merged = [np.empty(len(even.members) + len(odd.members), np.int64) for _ in range(3)]
    for part, places in ((even, even_places), (odd, odd_places)):
        for target, source in zip(merged, (part.members, part.offsets, part.lengths), strict=True):
            target[places] = source
    return _Records(merged[0], merged[1], merged[2])
