"""Encoding: the inverse of decoding, and what does not fit into a packet."""

import struct
from datetime import UTC, datetime
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import WireError, WireValueError
from ingest.wire import decode_frames, encode_frames, encode_packets, encode_payload
from storage.schema import TICKS
from tests.support.packets import LENGTHS, frame_of, packets, random_frame

FULL = struct.pack(">Ii", 408065, 150000) + bytes(176)
INDEX = struct.pack(">Ii", 256265, 150000) + bytes(24)


def with_value(packet: bytes, column: str, value: object) -> pa.Table:
    """Three rows of one packet, the second with another value."""
    table = decode_frames([frame_of([packet] * 3)])
    values = table[column].to_pylist()
    values[1] = value
    return table.set_column(
        table.schema.get_field_index(column), column, pa.array(values, TICKS.schema.field(column).type)
    )


@given(split=st.lists(st.lists(packets(), max_size=6), max_size=6))
def test_decode_then_encode_gives_the_bytes_again(split: list[list[bytes]]) -> None:
    frames = [frame_of(some) for some in split]
    table = decode_frames(frames)
    assert encode_frames(table, [len(some) for some in split]) == frames
    assert encode_packets(table) == [packet for some in split for packet in some]


@given(some=st.lists(packets(), max_size=12), per_frame=st.integers(1, 5))
def test_encode_then_decode_gives_the_rows_again(some: list[bytes], per_frame: int) -> None:
    table = decode_frames([frame_of(some)])
    frames = encode_frames(table, per_frame)
    assert decode_frames(frames).equals(table)
    counts = [struct.unpack_from(">H", frame)[0] for frame in frames]
    assert counts[:-1] == [per_frame] * (len(counts) - 1)
    assert sum(counts) == len(some)


def test_large_batches_round_trip() -> None:
    random = Random(3)
    for lengths in (LENGTHS, (184,)):
        frames = [random_frame(random, 300, lengths) for _ in range(20)]
        assert encode_frames(decode_frames(frames), 300) == frames


def test_payload_is_the_frames_end_to_end() -> None:
    table = decode_frames([frame_of([FULL, INDEX, FULL])])
    payload, lengths = encode_payload(table, [2, 0, 1])
    assert payload.tobytes() == frame_of([FULL, INDEX]) + frame_of([]) + frame_of([FULL])
    assert lengths.tolist() == [2 + 186 + 34, 2, 2 + 186]


def test_other_columns_are_not_needed_and_strings_may_be_dictionaries() -> None:
    table = pa.table(
        {
            "instrument_token": pa.chunked_array([[408065], [256265]], pa.int64()),
            "mode": pa.array(["ltp", "ltp"]).dictionary_encode(),
            "last_price": [1500.0, 26000.05],
        }
    )
    assert encode_packets(table) == [struct.pack(">Ii", 408065, 150000), struct.pack(">Ii", 256265, 2600005)]


def test_prices_become_the_nearest_wire_integer() -> None:
    table = pa.table({"instrument_token": [408065] * 3, "mode": ["ltp"] * 3, "last_price": [0.1 + 0.2, 1.006, -1.004]})
    assert [struct.unpack_from(">i", packet, 4)[0] for packet in encode_packets(table)] == [30, 101, -100]


RUPEES = "expected -21474836.48 to 21474836.47"


@pytest.mark.parametrize(
    ("packet", "column", "value", "text"),
    [
        (FULL, "last_price", None, f"got None, {RUPEES}"),
        (FULL, "last_price", float("nan"), f"got nan, {RUPEES}"),
        (FULL, "last_price", float("inf"), f"got inf, {RUPEES}"),
        (FULL, "bid_price_3", 21474836.48, f"got 21474836.48, {RUPEES}"),
        (FULL, "open", -21474836.49, f"got -21474836.49, {RUPEES}"),
        (FULL, "volume_traded", 2**32, "got 4294967296, expected 0 to 4294967295"),
        (FULL, "volume_traded", -1, "got -1, expected 0 to 4294967295"),
        (FULL, "oi", None, "got None, expected 0 to 4294967295"),
        (FULL, "ask_orders_5", 65536, "got 65536, expected 0 to 65535"),
        (FULL, "instrument_token", 2**32, "got 4294967296, expected 0 to 4294967295"),
        (FULL, "instrument_token", None, "got None, expected 0 to 4294967295"),
        (FULL, "mode", "depth", "got 'depth', expected ltp, quote, full"),
        (FULL, "mode", None, "got None, expected ltp, quote, full"),
        (INDEX, "high", None, f"got None, {RUPEES}"),
        (INDEX, "price_change", 3e9, f"got 3000000000.0, {RUPEES}"),
    ],
)
def test_values_that_do_not_fit(packet: bytes, column: str, value: object, text: str) -> None:
    with pytest.raises(WireValueError) as caught:
        encode_packets(with_value(packet, column, value))
    assert str(caught.value) == f"{column}, row 1: {text}"
    assert (caught.value.column, caught.value.row) == (column, 1)


def test_the_range_of_prices_is_that_of_the_exchange() -> None:
    cds = struct.pack(">Ii", 0x0103, 1)
    with pytest.raises(WireValueError, match=r"^last_price, row 1: got 300.0, expected -214.7483648 to 214.7483647$"):
        encode_packets(with_value(cds, "last_price", 300.0))


@pytest.mark.parametrize(
    "time",
    [
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(1969, 12, 31, tzinfo=UTC),
        datetime(2106, 2, 7, 6, 28, 16, tzinfo=UTC),
        datetime(2026, 11, 22, 9, 15, 0, 1, tzinfo=UTC),
    ],
    ids=str,
)
def test_times_that_do_not_fit(time: datetime) -> None:
    for packet in (FULL, INDEX):
        with pytest.raises(WireValueError, match="expected null or whole seconds from 1970-01-01 00:00:01 to 2106"):
            encode_packets(with_value(packet, "exchange_timestamp", time))


@pytest.mark.parametrize(
    ("sizes", "text"),
    [
        (0, "got 0, expected 1 to 65535"),
        (65536, "got 65536, expected 1 to 65535"),
        ([1, 1], "got 2 in all, expected 3, one a row"),
        ([4], "got 4 in all, expected 3, one a row"),
        ([-1, 4], "got -1 to 4, expected 0 to 65535"),
    ],
)
def test_packets_per_frame_that_do_not_fit(sizes: Any, text: str) -> None:
    with pytest.raises(WireError, match=f"^packets per frame: {text}$"):
        encode_frames(decode_frames([frame_of([FULL] * 3)]), sizes)


def test_columns_of_a_wrong_type() -> None:
    table = pa.table({"instrument_token": [1], "mode": ["ltp"], "last_price": ["dear"]})
    with pytest.raises(WireError, match=r"^last_price: got string, expected double: "):
        encode_packets(table)


def test_nothing() -> None:
    empty = TICKS.schema.empty_table()
    assert (encode_packets(empty), encode_frames(empty, 5), encode_frames(empty, [])) == ([], [], [])
    assert encode_frames(empty, [0, 0]) == [b"\0\0", b"\0\0"]
    assert np.array_equal(encode_payload(empty, 5)[0], [])
