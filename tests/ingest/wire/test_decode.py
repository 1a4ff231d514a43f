"""Decoding: every field of every layout, by both decoders, against values written out by hand."""

import struct
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import WireError
from ingest.wire import decode_frames, decode_frames_with_report, plain, walk_frames
from ingest.wire.decode import BLOCK_PACKETS, columns_without_null, decode_packets
from ingest.wire.layouts import EXCHANGES, PACKET_COLUMNS
from ingest.wire.walk import packets_of
from storage.schema import TICKS
from tests.support.packets import damaged_frames, frame_of, frames, packets, random_frame

Decode = Callable[..., pa.Table]


def vectorised(some: Sequence[bytes], received_at_ns: Sequence[int] | None = None) -> pa.Table:
    return decode_frames(some, received_at_ns=received_at_ns)


def plainly(some: Sequence[bytes], received_at_ns: Sequence[int] | None = None) -> pa.Table:
    rows, _ = plain.decode_frames(some, received_at_ns=received_at_ns)
    return pa.Table.from_pylist(rows, schema=TICKS.schema)


both = pytest.mark.parametrize("decode", [vectorised, plainly])

INFY = 408065  # 0x063A01: NSE
NIFTY = 256265  # 0x03E909: INDICES
TIME = 1795327200  # 2026-11-22 06:00:00 UTC
LTP = struct.pack(">Ii", INFY, 150005)
INDEX_QUOTE = struct.pack(">Iiiiiii", NIFTY, 2600010, 2610000, 2590000, 2595000, 2605055, -5045)
INDEX_FULL = INDEX_QUOTE + struct.pack(">I", TIME)
QUOTE = struct.pack(">IiIiIIIiiii", INFY, 150005, 7, 149950, 3_000_000_000, 11, 12, 149000, 151000, 148000, 149500)
FULL = (
    QUOTE
    + struct.pack(">IIIII", TIME - 1, 2_500_000_000, 4_000_000_000, 13, TIME)
    + b"".join(struct.pack(">IiHH", 100 + i, 150000 + i, 65535 - i, 0xABCD) for i in range(10))
)


def only_row(decode: Decode, packet: bytes) -> dict[str, Any]:
    table = decode([frame_of([packet])])
    assert table.schema == TICKS.schema
    rows: list[dict[str, Any]] = table.to_pylist()
    assert len(rows) == 1
    return {name: value for name, value in rows[0].items() if value is not None}


@both
def test_ltp(decode: Decode) -> None:
    expected = {"exchange": "NSE", "instrument_token": INFY, "mode": "ltp", "last_price": 1500.05}
    assert only_row(decode, LTP) == expected


INDEX_ROW = {
    "exchange": "INDICES",
    "instrument_token": NIFTY,
    "last_price": 26000.10,
    "high": 26100.0,
    "low": 25900.0,
    "open": 25950.0,
    "close": 26050.55,
    "price_change": -50.45,
}


@both
def test_index_packets_order_their_prices_high_low_open_close(decode: Decode) -> None:
    assert only_row(decode, INDEX_QUOTE) == INDEX_ROW | {"mode": "quote"}
    at = {"mode": "full", "exchange_timestamp": datetime(2026, 11, 22, 6, tzinfo=UTC)}
    assert only_row(decode, INDEX_FULL) == INDEX_ROW | at


QUOTE_ROW = {
    "exchange": "NSE",
    "instrument_token": INFY,
    "last_price": 1500.05,
    "last_traded_quantity": 7,
    "average_traded_price": 1499.50,
    "volume_traded": 3_000_000_000,
    "total_buy_quantity": 11,
    "total_sell_quantity": 12,
    "open": 1490.0,
    "high": 1510.0,
    "low": 1480.0,
    "close": 1495.0,
}


@both
def test_quote(decode: Decode) -> None:
    assert only_row(decode, QUOTE) == QUOTE_ROW | {"mode": "quote"}


@both
def test_full(decode: Decode) -> None:
    expected = QUOTE_ROW | {
        "mode": "full",
        "last_trade_time": datetime(2026, 11, 22, 5, 59, 59, tzinfo=UTC),
        "oi": 2_500_000_000,
        "oi_day_high": 4_000_000_000,
        "oi_day_low": 13,
        "exchange_timestamp": datetime(2026, 11, 22, 6, tzinfo=UTC),
    }
    for side, first in (("bid", 0), ("ask", 5)):
        for level in range(1, 6):
            entry = first + level - 1
            expected[f"{side}_quantity_{level}"] = 100 + entry
            expected[f"{side}_price_{level}"] = (150000 + entry) / 100
            expected[f"{side}_orders_{level}"] = 65535 - entry
    assert only_row(decode, FULL) == expected


@both
@pytest.mark.parametrize(
    ("segment", "exchange", "divisor"),
    [
        (0, "UNKNOWN", 100),
        (1, "NSE", 100),
        (2, "NFO", 100),
        (3, "CDS", 10_000_000),
        (4, "BSE", 100),
        (5, "BFO", 100),
        (6, "BCD", 10_000),
        (7, "MCX", 100),
        (8, "MCXSX", 100),
        (9, "INDICES", 100),
        (10, "UNKNOWN", 100),
        (11, "UNKNOWN", 100),
        (12, "NCO", 10_000),
        (13, "UNKNOWN", 100),
        (255, "UNKNOWN", 100),
    ],
)
def test_every_segment(decode: Decode, segment: int, exchange: str, divisor: int) -> None:
    # A full packet has a price of each kind; a second packet of another segment makes the divisors of a block differ.
    packet = struct.pack(">I", 0x00ABCD00 | segment) + FULL[4:]
    row = decode([frame_of([packet, LTP])]).to_pylist()[0]
    assert (row["exchange"], row["last_price"]) == (exchange, 150005 / divisor)
    assert (row["average_traded_price"], row["open"]) == (149950 / divisor, 149000 / divisor)
    assert (row["bid_price_1"], row["ask_price_5"]) == (150000 / divisor, 150009 / divisor)
    assert only_row(decode, packet)["last_price"] == 150005 / divisor
    assert exchange in EXCHANGES


@both
def test_prices_are_signed_and_quantities_are_not(decode: Decode) -> None:
    most = 2**32 - 1
    row = only_row(decode, struct.pack(">IiIiIIIiiii", 0xFFFFFF01, -(2**31), most, -1, most, 0, most, 0, -2, -3, -4))
    assert (row["instrument_token"], row["last_price"]) == (0xFFFFFF01, -21474836.48)
    assert (row["last_traded_quantity"], row["average_traded_price"]) == (most, -0.01)
    assert (row["volume_traded"], row["total_buy_quantity"], row["total_sell_quantity"]) == (most, 0, most)
    assert (row["open"], row["high"], row["low"], row["close"]) == (0.0, -0.02, -0.03, -0.04)


@both
def test_no_time_is_null_and_the_last_time_is_not(decode: Decode) -> None:
    full = bytearray(FULL)
    struct.pack_into(">I", full, 44, 0)
    struct.pack_into(">I", full, 60, 2**32 - 1)
    row = decode([frame_of([bytes(full), INDEX_QUOTE + bytes(4)])]).to_pylist()
    assert [r["last_trade_time"] for r in row] == [None, None]
    assert [r["exchange_timestamp"] for r in row] == [datetime(2106, 2, 7, 6, 28, 15, tzinfo=UTC), None]


@both
def test_receive_times_give_indian_days_and_truncated_microseconds(decode: Decode) -> None:
    midnight_ns = 1795372200 * 10**9  # 2026-11-22 18:30:00 UTC, 2026-11-23 00:00 in India
    frames_ = [frame_of([LTP, LTP]), b"\0", frame_of([LTP])]
    table = decode(frames_, [midnight_ns - 1, midnight_ns, midnight_ns + 1999])
    assert table["date"].to_pylist() == [date(2026, 11, 22), date(2026, 11, 22), date(2026, 11, 23)]
    assert table["received_at"].to_pylist() == [
        datetime(2026, 11, 22, 18, 29, 59, 999999, tzinfo=UTC),
        datetime(2026, 11, 22, 18, 29, 59, 999999, tzinfo=UTC),
        datetime(2026, 11, 22, 18, 30, 0, 1, tzinfo=UTC),
    ]


@pytest.mark.parametrize("decode", [decode_frames, decode_frames_with_report, plain.decode_frames])
def test_as_many_receive_times_as_frames(decode: Callable[..., object]) -> None:
    with pytest.raises(WireError, match=r"^received_at_ns: got 1 times, expected 2, one a frame$"):
        decode([b"\0", b"\0"], received_at_ns=[1])


@both
@pytest.mark.parametrize("nothing", [[], [b""], [b"\0"], [b"\0\0"], [b"\0\1\0\3abc"]])
def test_nothing_to_decode_is_an_empty_table(decode: Decode, nothing: list[bytes]) -> None:
    for times in (None, [1] * len(nothing)):
        table = decode(nothing, times)
        assert (table.num_rows, table.schema) == (0, TICKS.schema)


@given(batch=st.lists(frames() | damaged_frames(), max_size=10), timed=st.booleans())
def test_rows_are_as_in_plain_python(batch: list[bytes], timed: bool) -> None:
    times = [10**18 + 3 * 10**13 * i for i in range(len(batch))] if timed else None
    table = vectorised(batch, times)
    table.validate(full=True)
    assert table.equals(plainly(batch, times))


@pytest.mark.parametrize("lengths", [(8, 28, 32, 44, 184), (44, 184), (8, 32), (184,), (28,)], ids=str)
def test_many_blocks_of_packets(lengths: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.wire.decode.BLOCK_PACKETS", 150)
    random = Random(1)
    batch = [random_frame(random, 20, lengths) for _ in range(40)]
    table = vectorised(batch)
    table.validate(full=True)
    assert table.equals(plainly(batch))


def test_a_block_of_full_size_is_followed_by_another() -> None:
    batch = [random_frame(Random(1), 20, (8, 44))] * (BLOCK_PACKETS // 20 + 1)
    table = vectorised(batch)
    assert table.num_rows > BLOCK_PACKETS
    first = vectorised(batch[:1])
    assert table.equals(pa.concat_tables([first] * len(batch)))


def test_packets_in_any_order() -> None:
    # What the journal decoder relies on: sorted by exchange, so blocks are now of one layout, now mixed.
    random = Random(2)
    batch = [random_frame(random, 10) for _ in range(600)] + [random_frame(random, 10, (184,)) for _ in range(300)]
    in_wire_order = packets_of(walk_frames(np.frombuffer(b"".join(batch), np.uint8), np.array(list(map(len, batch)))))
    whole = pa.table(decode_packets(in_wire_order)).select(PACKET_COLUMNS)
    for order in (np.argsort(in_wire_order.exchanges, kind="stable"), np.array(random.sample(range(9000), 5000))):
        some = pa.table(decode_packets(in_wire_order.take(order))).select(PACKET_COLUMNS)
        assert some.equals(whole.take(pa.array(order)))


@given(price=st.integers(-(2**31), 2**31 - 1), divisor=st.sampled_from([100, 10_000, 10_000_000]))
def test_prices_are_the_nearest_doubles(price: int, divisor: int) -> None:
    segment = {100: 1, 10_000: 6, 10_000_000: 3}[divisor]
    decoded = vectorised([frame_of([struct.pack(">Ii", 0xAA00 | segment, price)])])["last_price"][0].as_py()
    assert decoded == price / divisor
    assert round(decoded * divisor) == price


@given(packet=packets())
def test_what_is_null_follows_from_the_layout(packet: bytes) -> None:
    row = only_row(vectorised, packet)
    index, ltp = len(packet) in (28, 32), len(packet) == 8
    assert ("price_change" in row) == index
    assert ("volume_traded" in row) == (not index and not ltp)
    assert ("open" in row) == (not ltp)
    assert ("oi" in row) == ("ask_orders_5" in row) == (len(packet) == 184)
    assert {"date", "received_at", "stream", "seq", "account", "connection", "symbol"}.isdisjoint(row)


@given(batch=st.lists(packets(), min_size=1, max_size=10))
def test_columns_without_null_are_those_that_have_none_but_for_times(batch: list[bytes]) -> None:
    frame = np.frombuffer(frame_of(batch), np.uint8)
    found = packets_of(walk_frames(frame, np.array([len(frame)])))
    times = {"last_trade_time", "exchange_timestamp"}
    without = {name for name, column in decode_packets(found).items() if not column.null_count}
    assert columns_without_null(found) == without - times
