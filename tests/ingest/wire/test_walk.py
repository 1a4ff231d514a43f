"""The walk: where packets are found, and where every other byte goes."""

import importlib
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.wire import decode_frames_with_report, plain, walk_frames
from ingest.wire.layouts import KEPT_PACKETS, Quarantined, QuarantineReason, WireReport
from ingest.wire.walk import packets_of
from tests.support.packets import LENGTHS, damaged_frames, frame_of, frames, random_frame

walk_module = importlib.import_module("ingest.wire.walk")

LTP = struct.pack(">Ii", 408065, 150000)
QUOTE = struct.pack(">Ii", 408065, 150000) + bytes(36)

Account = Callable[[Sequence[bytes]], WireReport]


def vectorised(some: Sequence[bytes]) -> WireReport:
    return decode_frames_with_report(some)[1]


def plainly(some: Sequence[bytes]) -> WireReport:
    return plain.decode_frames(some)[1]


both = pytest.mark.parametrize("account", [vectorised, plainly])


@contextmanager
def loops_below(few: int) -> Iterator[None]:
    """All odd frames in lock step (1), or all in plain loops (a great number)."""
    with patch.object(walk_module, "FEW_FRAMES", few):
        yield


@given(st.integers(1, 5), st.integers(1, 5), st.sampled_from(LENGTHS), st.data())
def test_frames_that_are_all_alike_but_for_a_byte(frames: int, packets: int, length: int, data: st.DataObject) -> None:
    """Told where they begin, the walk looks at each of them."""
    alike = bytearray(frames * frame_of([bytes(length)] * packets))
    place = data.draw(st.integers(0, len(alike) - 1))
    alike[place] = data.draw(st.sampled_from([alike[place], 0, 1, 2, 8, 255]))
    sizes = np.full(frames, len(alike) // frames)
    payload = np.frombuffer(bytes(alike), np.uint8)
    found, each = walk_frames(payload, sizes), walk_frames(payload, sizes, np.cumsum(sizes) - sizes)
    assert found.report() == each.report()
    for name in ("offsets", "lengths", "packet_frames"):
        ours, theirs = getattr(found, name), getattr(each, name)
        assert ours.tolist() == theirs.tolist()
        assert ours.dtype == theirs.dtype == np.int64


@given(st.lists(frames(), max_size=8), st.integers(0, 3))
def test_tokens_that_the_walk_comes_by_are_those_of_the_packets(some: list[bytes], apart: int) -> None:
    payload = np.frombuffer(b"".join(frame + bytes(apart) for frame in some), np.uint8)
    sizes = np.array([len(frame) for frame in some], np.int64)
    found = walk_frames(payload, sizes, np.cumsum(sizes + apart) - sizes - apart)
    tokens = [int.from_bytes(payload[at : at + 4].tobytes(), "big") for at in found.offsets.tolist()]
    assert packets_of(found).tokens.tolist() == tokens
    assert packets_of(found).tokens.dtype == np.uint32


@pytest.mark.parametrize("packets", [1, 3, 50])
def test_many_frames_that_are_all_alike(packets: int) -> None:
    """About as many as there are kept arrays for, and more, asked for in either order."""
    kept = KEPT_PACKETS // packets
    for count in (1, kept + 1, kept, kept - 1, kept + 2):
        payload = np.frombuffer(count * frame_of([LTP] * packets), np.uint8)
        sizes = np.full(count, len(payload) // count)
        found, each = walk_frames(payload, sizes), walk_frames(payload, sizes, np.cumsum(sizes) - sizes)
        assert found.report() == each.report()
        assert found.offsets.tolist() == each.offsets.tolist()
        assert found.lengths.tolist() == each.lengths.tolist() == count * packets * [len(LTP)]
        assert found.packet_frames.tolist() == each.packet_frames.tolist()


@both
@pytest.mark.parametrize(
    ("frame", "packets", "quarantined"),
    [
        pytest.param(b"", 0, [(0, 0, QuarantineReason.EMPTY_FRAME)], id="no bytes"),
        pytest.param(b"\0\0", 0, [], id="no packets"),
        pytest.param(b"\0\1", 0, [(2, 0, QuarantineReason.MISSING_PACKETS)], id="a header alone"),
        pytest.param(b"\0\1\0", 0, [(2, 1, QuarantineReason.TRUNCATED_PACKET)], id="half a length"),
        pytest.param(b"\0\0\0", 0, [(2, 1, QuarantineReason.TRAILING_BYTES)], id="one byte behind no packets"),
        pytest.param(
            frame_of([LTP, LTP])[:-3], 1, [(12, 7, QuarantineReason.TRUNCATED_PACKET)], id="truncated in a packet"
        ),
        pytest.param(
            frame_of([LTP, LTP])[:12], 1, [(12, 0, QuarantineReason.MISSING_PACKETS)], id="truncated between packets"
        ),
        pytest.param(frame_of([LTP, LTP], 3), 2, [(22, 0, QuarantineReason.MISSING_PACKETS)], id="claims too many"),
        pytest.param(frame_of([LTP, LTP], 1), 1, [(12, 10, QuarantineReason.TRAILING_BYTES)], id="claims too few"),
        pytest.param(
            frame_of([LTP, QUOTE]) + b"xy", 2, [(58, 2, QuarantineReason.TRAILING_BYTES)], id="trailing bytes"
        ),
        pytest.param(
            frame_of([LTP, bytes(9), QUOTE]),
            2,
            [(14, 9, QuarantineReason.UNKNOWN_LENGTH)],
            id="unknown length, the rest decoded",
        ),
        pytest.param(frame_of([b"", LTP]), 1, [(4, 0, QuarantineReason.UNKNOWN_LENGTH)], id="packet of no bytes"),
        pytest.param(
            frame_of([LTP, b""], 3),
            1,
            [(14, 0, QuarantineReason.UNKNOWN_LENGTH), (14, 0, QuarantineReason.MISSING_PACKETS)],
            id="two ranges at one place",
        ),
        pytest.param(
            b"\xff\xff\xff\xff", 0, [(2, 2, QuarantineReason.TRUNCATED_PACKET)], id="a length beyond the frame"
        ),
    ],
)
def test_bad_frames(
    account: Account, frame: bytes, packets: int, quarantined: list[tuple[int, int, QuarantineReason]]
) -> None:
    # Alone, and between good frames, where it must not disturb its neighbours.
    good = frame_of([LTP, LTP])
    for few in (1, 10**6):
        with loops_below(few):
            for batch, number, others in (([frame], 0, 0), ([good, b"\0", frame, good], 2, 4)):
                report = account(batch)
                assert report.packets == packets + others
                assert list(report.quarantined) == [Quarantined(number, *where) for where in quarantined]
                assert report.accounted_bytes == report.total_bytes == sum(map(len, batch))


@both
def test_heartbeats_are_counted_and_are_nothing_else(account: Account) -> None:
    report = account([b"\0", b"\xff", b"\0"])
    assert (report.heartbeats, report.packets, report.quarantined) == (3, 0, ())
    assert report.accounted_bytes == 3


@both
def test_no_frames(account: Account) -> None:
    assert account([]) == WireReport(0, 0, 0, 0, 0, 0, 0, (), 0)


@both
def test_unknown_segments_are_packets_and_are_flagged(account: Account) -> None:
    tokens = [0x0100 | segment for segment in (0, 1, 10, 11, 12, 13, 255)]
    report = account([frame_of([struct.pack(">Ii", token, 1) for token in tokens])])
    assert (report.packets, report.unknown_segments, report.quarantined) == (7, 5, ())


@given(few=st.sampled_from([1, 3, 10**6]), batch=st.lists(frames() | damaged_frames(), max_size=12))
def test_every_byte_is_accounted_for_as_in_plain_python(few: int, batch: list[bytes]) -> None:
    with loops_below(few):
        report = vectorised(batch)
    assert report == plainly(batch)
    assert report.accounted_bytes == report.total_bytes == sum(map(len, batch))


@pytest.mark.parametrize("lengths", [LENGTHS, *((length,) for length in LENGTHS)], ids=str)
@pytest.mark.parametrize("per_frame", [1, 2, 50])
def test_packets_are_found_in_wire_order(lengths: tuple[int, ...], per_frame: int) -> None:
    # More frames than are looped over plainly, so that frames leave the lock step at different steps.
    random = Random(per_frame)
    counts = [random.randint(1, per_frame) for _ in range(walk_module.FEW_FRAMES + 50)]
    batch = [random_frame(random, count, lengths) for count in counts]
    payload = np.frombuffer(b"".join(batch), np.uint8)
    found = walk_frames(payload, np.array(list(map(len, batch))))
    packets = [payload[at : at + n].tobytes() for at, n in zip(found.offsets, found.lengths, strict=True)]
    expected = [(number, packet) for number, frame in enumerate(batch) for packet in plain.split_frame(frame)[0]]
    assert list(zip(found.packet_frames.tolist(), packets, strict=True)) == expected


def test_frames_may_lie_anywhere_in_the_payload() -> None:
    batch = [frame_of([LTP, LTP]), b"\0", frame_of([QUOTE, LTP], 3)]
    payload, starts = b"##", []
    for frame in batch:
        starts.append(len(payload))
        payload += frame + b"#####"
    found = walk_frames(np.frombuffer(payload, np.uint8), np.array(list(map(len, batch))), np.array(starts))
    assert found.report() == plainly(batch)
    assert found.offsets.tolist() == [starts[0] + 4, starts[0] + 14, starts[2] + 4, starts[2] + 50]


@pytest.mark.parametrize(
    "later",
    [
        pytest.param(struct.pack(">H", 4), id="shorter"),
        pytest.param(struct.pack(">H", 300), id="longer"),
        pytest.param(struct.pack(">H", 0x0108), id="the same low byte"),
    ],
)
def test_a_later_packet_of_another_length_is_not_taken_on_trust(later: bytes) -> None:
    # By its size the frame could hold two packets of 8 bytes.
    liar = frame_of([LTP, LTP])[:12] + later + LTP
    good = frame_of([LTP, LTP])
    # Read on, the bytes behind an empty frame look like a length here: it must not count as a frame of packets.
    empty = [b"\0\0", b"\0", b"\x08"]
    for batch in ([liar], [good, liar, good], [*empty, liar]):
        report = vectorised(batch)
        assert report == plainly(batch)
        assert report.quarantined
