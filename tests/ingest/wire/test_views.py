"""Zero-copy views: the same bytes, under the official names."""

import copy
import pickle
import struct
from dataclasses import FrozenInstanceError, asdict, fields, replace
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import WireError
from ingest.wire import (
    PacketCounter,
    decode_frames,
    decode_packet,
    frame_views,
    packet_view,
    packets_in,
    run_view,
    split_frame,
    ticks_in,
)
from ingest.wire.layouts import LAYOUTS, divisor_of
from storage.clock import IST, ist_time
from storage.memory import Mode, Tick, levels_of
from tests.support.consumers import NINE_NS
from tests.support.packets import LENGTHS, damaged_frames, frame_of, frames, packets, random_packet

TIMES = {"last_trade_time", "exchange_timestamp"}


@pytest.mark.parametrize("length", LENGTHS)
def test_a_packet_seen_through_its_dtype_is_the_packet_decoded(length: int) -> None:
    random = Random(length)
    for _ in range(20):
        packet = random_packet(random, (length,))
        view = packet_view(packet)
        row = decode_frames([frame_of([packet])]).to_pylist()[0]
        prices = divisor_of(row["instrument_token"])
        assert view.shape == ()
        for name in LAYOUTS[length].dtype.names or ():
            if name == "depth":
                for side, prefix in enumerate(("bid", "ask")):
                    for level in range(5):
                        entry = view["depth"][side, level]
                        assert int(entry["quantity"]) == row[f"{prefix}_quantity_{level + 1}"]
                        assert int(entry["price"]) / prices == row[f"{prefix}_price_{level + 1}"]
                        assert int(entry["orders"]) == row[f"{prefix}_orders_{level + 1}"]
            elif name in TIMES:
                assert int(view[name]) == (row[name].timestamp() if row[name] else 0)
            elif view[name].dtype.kind == "i":
                assert int(view[name]) / prices == row[name]
            else:
                assert int(view[name]) == row[name]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("prefixed", [False, True])
def test_a_run_is_seen_without_copying(length: int, prefixed: bool) -> None:
    random = Random(length)
    packets = [random_packet(random, (length,)) for _ in range(7)]
    prefix = struct.pack(">H", length) if prefixed else b""
    data = np.frombuffer(bytearray(b"".join(prefix + packet for packet in packets)), np.uint8)
    view = run_view(data, length, prefixed=prefixed)
    assert np.shares_memory(view, data)
    assert [packet.tobytes() for packet in view] == packets
    data[3 + 2 * prefixed] = 9  # the view is of these very bytes
    assert int(view["instrument_token"][0]) & 0xFF == 9
    assert run_view(b"", length, prefixed=prefixed).shape == (0,)


def test_a_frame_is_seen_run_by_run_without_copying() -> None:
    random = Random(5)
    lengths = [184, 184, 32, 184, 8, 8, 8, 28, 44]
    packets = [random_packet(random, (length,)) for length in lengths]
    frame = np.frombuffer(frame_of(packets), np.uint8)
    views = frame_views(frame)
    assert [(len(view), view.dtype.itemsize) for view in views] == [
        (2, 184),
        (1, 32),
        (1, 184),
        (3, 8),
        (1, 28),
        (1, 44),
    ]
    assert all(np.shares_memory(view, frame) for view in views)
    assert not any(view.flags.writeable for view in views)
    assert [packet.tobytes() for view in views for packet in view] == packets


def test_what_is_no_good_packet_ends_a_run() -> None:
    ltp = struct.pack(">Ii", 1, 2)
    frame = frame_of([ltp, bytes(9), ltp, ltp], 9) + b"x"
    assert [len(view) for view in frame_views(frame)] == [1, 2]
    assert [view["last_price"].tolist() for view in frame_views(frame)] == [[2], [2, 2]]
    for nothing in (b"", b"\0", b"\0\0", b"\0\1", b"\0\1\0\1x"):
        assert frame_views(nothing) == []


def test_lengths_that_are_none() -> None:
    with pytest.raises(WireError, match=r"^packet of 9 bytes: expected one of 8, 28, 32, 44, 184$"):
        packet_view(bytes(9))
    with pytest.raises(WireError, match=r"^packet of 10 bytes"):
        run_view(bytes(20), 10)
    with pytest.raises(WireError, match=r"^run of packets: got 45 bytes, expected a multiple of 44$"):
        run_view(bytes(45), 44)


# ── ticks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def plain_tick(packet: bytes) -> Tick:
    """Field by field, from the plain decoder."""
    row = decode_packet(packet)
    for name in {"last_trade_time", "exchange_timestamp"} & row.keys():
        row[name] = row[name] and row[name].astimezone(IST)
    values = {field.name: row[field.name] for field in fields(Tick) if field.name in row}
    values |= {"mode": Mode(row["mode"]), "bids": levels_of(row, "bid"), "asks": levels_of(row, "ask")}
    return Tick(account="one", connection=2, received_at=ist_time(NINE_NS), **values)


@given(packets())
def test_a_tick_that_reads_its_packet_is_the_tick_of_all_its_values(packet: bytes) -> None:
    (tick,) = ticks_in([frame_of([packet])], ("one", 2, NINE_NS))
    plain = plain_tick(packet)
    assert tick == plain
    assert plain == tick
    assert tick != replace(plain, last_price=plain.last_price + 1)
    assert tick != object()
    assert (hash(tick), repr(tick), asdict(tick)) == (hash(plain), repr(plain), asdict(plain))
    assert all(type(getattr(tick, name)) is type(getattr(plain, name)) for name in asdict(plain))
    for copied in (pickle.loads(pickle.dumps(tick)), copy.deepcopy(tick), replace(tick)):
        assert (copied, type(copied)) == (plain, Tick)
    assert isinstance(tick, Tick)
    with pytest.raises(FrozenInstanceError):
        tick.last_price = 1.0  # type: ignore[misc]


@given(frames() | damaged_frames())
def test_the_packets_of_a_frame_are_those_of_the_plain_walk(frame: bytes) -> None:
    assert packets_in(frame) == split_frame(frame)[0]
    assert [tick.instrument_token for tick in ticks_in([frame], ("one", 1, NINE_NS))] == [
        int.from_bytes(packet[:4], "big") for packet in split_frame(frame)[0]
    ]


@given(
    st.lists(st.lists(frames() | damaged_frames() | st.binary(max_size=8), max_size=4), max_size=3), st.integers(1, 4)
)
def test_frames_are_counted_as_by_the_walk_or_given_back(reads: list[list[bytes]], times: int) -> None:
    counter = PacketCounter()
    for some in reads:
        packets, others = counter.count(some * times)
        kept = some * times
        for frame in others:
            kept.remove(frame)
        walked = [split_frame(frame) for frame in kept]
        assert packets == sum(len(found) for found, _ in walked)
        assert not any(wrong for _, wrong in walked)
        assert all(len(set(map(len, found))) == 1 for found, _ in walked)
        assert not any(is_even(frame) for frame in others)


def is_even(frame: bytes) -> bool:
    packets, wrong = split_frame(frame)
    return not wrong and len(set(map(len, packets))) == 1


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("count", [1, 2, 6, 7, 300])
@pytest.mark.parametrize("is_known", [False, True])
def test_even_frames_are_counted_and_any_other_byte_in_a_header_is_seen(
    length: int, count: int, is_known: bool
) -> None:
    frame = frame_of(count * [random_packet(Random(1), (length,))])
    known = PacketCounter()
    assert known.count(3 * [frame]) == (3 * count, [])
    for at in (0, 1, *(2 + k * (2 + length) + low for k in range(count) for low in (0, 1))):
        other = bytearray(frame)
        other[at] ^= 1
        for odd in (bytes(other), frame + b"\0", frame[:-1]):
            counter = known if is_known else PacketCounter()
            assert counter.count([odd, frame, odd, frame]) == (2 * count, [odd, odd])
            assert counter.count([frame, odd]) == (count, [odd])


def test_frames_of_other_forms_between_are_counted_each_for_itself() -> None:
    counter = PacketCounter()
    some = [frame_of(count * [bytes(length)]) for count in (1, 20) for length in LENGTHS]
    for _ in range(2):
        assert counter.count([b"\0", *some, b"", *some]) == (2 * 21 * len(LENGTHS), [b"\0", b""])
