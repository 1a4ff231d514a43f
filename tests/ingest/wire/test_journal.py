"""The journal decoder: what becomes of every kind of record, in which part, with which seq."""

import json
import struct
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path
from random import Random
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ingest.wire import decode_frames
from ingest.wire import records as wire_records
from ingest.wire.journal import FoundInBlocks, JournalDecoder, TicksOfDay
from storage.commit.decoder import Decoded
from storage.journal import Block, Channel, JournalWriter, Kind, SegmentReader, payload_offset
from storage.layout import DataLayout
from storage.market.exchanges import exchange_of_token
from storage.schema import EVENTS, ORDERS, QUARANTINE, TABLES, TICKS
from storage.tables.symbols import SymbolIndex
from tests.support.packets import damaged_frames, frame_of, frames, random_frame
from tests.support.scaled import scaled

STREAM = "20261122T033000-abcdef"
NOON_NS = 1795327200 * 10**9  # 2026-11-22 06:00 UTC, 11:30 in India
MIDNIGHT_NS = 1795372200 * 10**9  # 2026-11-23 00:00 in India, 18:30 UTC the day before
CHANNELS = {0: Channel("", 0), 1: Channel("zeta", 1), 2: Channel("alpha", 3)}
PACKET_COLUMNS = TICKS.schema.names[TICKS.schema.names.index("instrument_token") :]

Record = tuple[Kind | int, int, int, bytes]


def block(records: Sequence[Record], first: int = 0) -> Block:
    """A block in memory, as the reader would return it."""
    kinds, channels, times, payloads = zip(*records, strict=True) if records else ((), (), (), ())
    return Block(
        first_record=first,
        received_at_ns=np.array(times, np.int64),
        lengths=np.array([len(payload) for payload in payloads], np.uint32),
        channels=np.array(channels, np.uint16),
        kinds=np.array(kinds, np.uint8),
        payload=np.frombuffer(b"".join(payloads), np.uint8),
        channel_table=CHANNELS,
        offset=0,
        size=0,
    )


def no_symbols(_: date) -> None:
    return None


def decode(*blocks: Block, first_seq: int = 0, one_group: bool = True) -> Decoded:
    decoded = JournalDecoder().decode(STREAM, 7, blocks, first_seq=first_seq, symbols=no_symbols)
    for name, parts in decoded.parts.items():
        assert len({tuple(part.values.items()) for part in parts}) == len(parts)
        for part in parts:
            part.rows.validate(full=True)
            assert part.rows.num_rows > 0
            plain = [f.type.value_type if pa.types.is_dictionary(f.type) else f.type for f in part.rows.schema]
            assert pa.schema(zip(part.rows.schema.names, plain, strict=True)) == TABLES[name].file_schema
            assert tuple(part.values) == TABLES[name].partition_by
            assert all(field.nullable or not part.rows[field.name].null_count for field in part.rows.schema)
            if name != TICKS.name:
                order = list(zip(part.rows["record"].to_pylist(), strict=True))
            else:
                order = list(zip(*(part.rows[key].to_pylist() for key in ("instrument_token", "seq")), strict=True))
            assert order == sorted(order) or (name == TICKS.name and not one_group)
    check_found(blocks, first_seq, decoded)
    check_pieces(blocks, first_seq, decoded)
    return decoded


def check_pieces(blocks: Sequence[Block], first_seq: int, decoded: Decoded) -> None:
    """What comes in pieces is what `decode` gives, in the same order, of each piece before the next is asked for."""
    with patch("ingest.wire.journal.PIECE_ROWS", 3):
        found = JournalDecoder().decode_in_pieces(STREAM, 7, blocks, first_seq=first_seq, symbols=no_symbols)
    assert found.packets == decoded.packets
    assert [each.values for each in found.ticks] == [part.values for part in decoded.parts[TICKS.name]]
    for pieces, part in zip(found.ticks, decoded.parts[TICKS.name], strict=True):
        rows = []
        for piece in pieces.pieces:
            piece.validate(full=True)
            assert 0 < piece.num_rows <= 3
            assert piece.schema == part.rows.schema
            rows += piece.to_pylist()
        assert rows == part.rows.to_pylist()
    assert {name: [part.rows.to_pylist() for part in parts] for name, parts in found.parts.items()} == {
        name: [part.rows.to_pylist() for part in parts] for name, parts in decoded.parts.items() if name != TICKS.name
    }


def check_found(blocks: Sequence[Block], first_seq: int, decoded: Decoded) -> None:
    """What `find` gives is what `decode` gives, whether blocks are looked at together or one by one and then joined."""
    placed, file = in_a_file(blocks)

    def find(some: Sequence[Block], first_seq: int) -> FoundInBlocks:
        fetch = lambda offsets, _sizes: (file, offsets)  # noqa: E731
        return JournalDecoder().find(STREAM, 7, some, first_seq=first_seq, fetch=fetch)

    found = find(placed, first_seq)
    assert found.packets == decoded.packets == sum(len(ticks) for ticks in found.ticks)
    for name, parts in found.others().items():
        assert [(part.values, part.rows.to_pylist()) for part in parts] == [
            (part.values, part.rows.to_pylist()) for part in decoded.parts[name]
        ]
    expected = [
        {"date": date.fromisoformat(part.values["date"]), "exchange": part.values["exchange"]} | row
        for part in decoded.parts[TICKS.name]
        for row in part.rows.to_pylist()
    ]
    expected.sort(key=lambda row: row["seq"])
    assert found_rows(found.ticks) == expected

    days: dict[date, list[TicksOfDay]] = {}
    for each in placed:
        piece = find([each], first_seq)
        first_seq += piece.packets
        for ticks in piece.ticks:
            days.setdefault(ticks.day, []).append(ticks)
    joined = [first.join(rest) for first, *rest in days.values()]
    assert found_rows(joined) == expected
    for ticks in joined:
        for column in ("seq", "last_price", "account", "bid_orders_3", "exchange_timestamp", "received_at"):
            some = ticks.rows_of(ticks.tokens == ticks.tokens[0])
            (array,) = ticks.decode([column], no_symbols, some).values()
            token = ticks.tokens[0]
            assert array.to_pylist() == [
                row[column] for row in expected if (row["date"], row["instrument_token"]) == (ticks.day, token)
            ]


def found_rows(ticks: Sequence[TicksOfDay]) -> list[dict[str, object]]:
    """All rows with all columns, by `seq`."""
    found = [row for each in ticks for row in pa.table(each.decode(TICKS.schema.names, no_symbols)).to_pylist()]
    return sorted(found, key=lambda row: row["seq"])


def in_a_file(blocks: Sequence[Block]) -> tuple[list[Block], NDArray[np.uint8]]:
    """The blocks, one behind the other, and such a file as far as it has their payloads."""
    placed, pieces = [], [np.empty(0, np.uint8)]
    for each in blocks:
        at = sum(map(len, pieces))
        placed.append(replace(each, offset=at))
        pieces += [np.full(payload_offset(len(each)), 0xFF, np.uint8), each.payload]
    return placed, np.concatenate(pieces)


def rows(decoded: Decoded, name: str, order: str) -> list[dict[str, object]]:
    """All rows of a table with their partition columns, over all parts in the order of `order`."""
    found = [dict(part.values) | row for part in decoded.parts[name] for row in part.rows.to_pylist()]
    return sorted(found, key=lambda row: row[order])


def test_ticks_lie_in_parts_by_day_and_exchange_and_know_their_wire_order() -> None:
    random = Random(1)
    batch = [random_frame(random, 6) for _ in range(60)]
    times = [MIDNIGHT_NS + (i - 30) * 1_000_000_007 for i in range(60)]
    records: list[Record] = [(Kind.BINARY, 1 + i % 2, times[i], frame) for i, frame in enumerate(batch)]
    decoded = decode(block(records[:25]), block(records[25:], 25), first_seq=1000)

    assert decoded.packets == 360
    expected = decode_frames(batch, received_at_ns=times)
    found = rows(decoded, TICKS.name, "seq")
    assert [row["seq"] for row in found] == list(range(1000, 1360))
    assert [{name: row[name] for name in PACKET_COLUMNS} for row in found] == expected.select(
        PACKET_COLUMNS
    ).to_pylist()
    assert [row["received_at"] for row in found] == expected["received_at"].to_pylist()
    assert [row["date"] for row in found] == [day.isoformat() for day in expected["date"].to_pylist()]
    assert [row["exchange"] for row in found] == expected["exchange"].to_pylist()
    frame_of_row = [i for i in range(60) for _ in range(6)]
    assert [row["account"] for row in found] == [("zeta", "alpha")[i % 2] for i in frame_of_row]
    assert [row["connection"] for row in found] == [(1, 3)[i % 2] for i in frame_of_row]
    assert {row["stream"] for row in found} == {STREAM}
    for part in decoded.parts[TICKS.name]:
        assert {exchange_of_token(token) for token in part.rows["instrument_token"].to_pylist()} == {
            part.values["exchange"]
        }
        for name in ("stream", "account", "symbol", "mode"):
            assert pa.types.is_dictionary(part.rows.schema.field(name).type)
    assert {part.values["date"] for part in decoded.parts[TICKS.name]} == {"2026-11-22", "2026-11-23"}


@pytest.mark.slow
@given(
    batch=st.lists(frames() | damaged_frames(), min_size=1, max_size=10),
    cuts=st.sets(st.integers(1, 9), max_size=4),
    group_bytes=st.sampled_from([1, 300, 2**26]),
)
def test_blocks_and_groups_make_no_difference(batch: list[bytes], cuts: set[int], group_bytes: int) -> None:
    records: list[Record] = [(Kind.BINARY, 1, NOON_NS + i, frame) for i, frame in enumerate(batch)]
    ends = [0, *sorted(cut for cut in cuts if cut < len(batch)), len(batch)]
    whole = decode(block(records))
    with patch.object(wire_records, "GROUP_BYTES", group_bytes):
        pieces = decode(*(block(records[a:b], a) for a, b in pairwise(ends)), one_group=False)
    assert pieces.packets == whole.packets == decode_frames(batch).num_rows
    for name, order in ((TICKS.name, "seq"), (QUARANTINE.name, "record")):
        assert rows(pieces, name, order) == rows(whole, name, order)


def test_clocks_that_jump_make_many_days() -> None:
    records: list[Record] = [
        (Kind.BINARY, 1, day * 86_400 * 10**9, random_frame(Random(2), 3)) for day in (0, 30_000, 5)
    ]
    decoded = decode(block(records))
    assert {part.values["date"] for part in decoded.parts[TICKS.name]} == {"1970-01-01", "2052-02-20", "1970-01-06"}
    assert [row["seq"] for row in rows(decoded, TICKS.name, "seq")] == list(range(9))


def test_symbols_are_those_of_the_day() -> None:
    packets = frame_of([struct.pack(">Ii", token, 100) for token in (0x0101, 0x0201, 0x0101, 0x0102)])
    indices = {
        date(2026, 11, 22): SymbolIndex(np.array([0x0101, 0x0102]), pa.array(["NSE:A", "NFO:B"])),
        date(2026, 11, 23): SymbolIndex(np.array([0x0101]), pa.array(["NSE:C"])),
        date(2026, 11, 24): SymbolIndex(np.array([], np.int64), pa.array([], pa.string())),
    }
    days = [NOON_NS + day * 86_400 * 10**9 for day in range(4)]
    records: list[Record] = [(Kind.BINARY, 1, at, packets) for at in days]
    for group_bytes in (1, 2**26):
        with patch.object(wire_records, "GROUP_BYTES", group_bytes):
            decoded = JournalDecoder().decode(
                STREAM, 0, [block([one], i) for i, one in enumerate(records * 2)], first_seq=0, symbols=indices.get
            )
        found = [(row["date"], row["symbol"]) for row in rows(decoded, TICKS.name, "seq")]
        once = [("2026-11-22", s) for s in ("NSE:A", None, "NSE:A", "NFO:B")]
        once += [("2026-11-23", s) for s in ("NSE:C", None, "NSE:C", None)]
        once += [(day, None) for day in ("2026-11-24", "2026-11-25") for _ in range(4)]
        assert found == once * 2


def test_a_piece_has_the_names_that_it_needs_and_no_others() -> None:
    tokens = [0x0101 + 0x100 * number for number in (4, 0, 2, 4, 1, 3, 0, 4, 4, 2)]
    index = SymbolIndex(np.array([0x0101, 0x0301, 0x0501]), pa.array(["NSE:A", "NSE:C", "NSE:E"]))
    blocks = [block([(Kind.BINARY, 1, NOON_NS, frame_of([struct.pack(">Ii", token, 100) for token in tokens]))])]
    with patch("ingest.wire.journal.PIECE_ROWS", 3):
        found = JournalDecoder().decode_in_pieces(STREAM, 0, blocks, first_seq=0, symbols=lambda _: index)
    (pieces,) = found.ticks
    names = []
    for piece in pieces.pieces:
        (symbols,) = piece["symbol"].chunks
        assert set(symbols.dictionary.to_pylist()) == set(symbols.to_pylist()) - {None}
        names.append(symbols.to_pylist())
    a, c, e = "NSE:A", "NSE:C", "NSE:E"
    assert names == [[a, a, None], [c, c, None], [e, e, e], [e]]


UPDATE = {"order_id": "1", "quantity": 5, "order_timestamp": "2026-11-22 11:30:00", "status": "OPEN", "odd": [None]}


def test_every_kind_of_record_ends_up_somewhere() -> None:
    bad_frame = frame_of([struct.pack(">Ii", 0x0101, 5), b"unknown"]) + b"xy"
    at = NOON_NS + 1999
    records: list[Record] = [
        (Kind.CHANNELS, 0, at, b"[]"),
        (Kind.EVENT, 0, at, b'{"event":"started","message":"","data":{"version":1}}'),
        (Kind.EVENT, 1, at, b'{"event":"connected","message":"open"}'),
        (Kind.TEXT, 1, at, json.dumps({"type": "order", "data": UPDATE}).encode()),
        (Kind.TEXT, 2, at, json.dumps({"type": "order", "data": UPDATE}).encode()),
        (Kind.TEXT, 2, at, b'{"type":"error","data":"no"}'),
        (Kind.TEXT, 2, at, b"\xffno"),
        (Kind.BINARY, 2, at, b"\0"),
        (Kind.BINARY, 2, at, bad_frame),
        (Kind.EVENT, 1, at, b"[]"),
        (9, 1, at, b"later"),
        (Kind.BINARY, 40, at, b""),
    ]
    decoded = decode(block(records[:6], 50), block(records[6:], 56))
    received = datetime(2026, 11, 22, 6, 0, 0, 1, tzinfo=UTC)
    common = {"date": "2026-11-22", "received_at": received, "stream": STREAM}
    service = common | {"account": None, "connection": None}
    zeta = common | {"account": "zeta", "connection": 1}
    alpha = common | {"account": "alpha", "connection": 3}

    assert decoded.packets == 1
    assert rows(decoded, EVENTS.name, "record") == [
        service | {"record": 51, "event": "started", "message": None, "data": '{"version":1}'},
        zeta | {"record": 52, "event": "connected", "message": "open", "data": None},
        alpha | {"record": 55, "event": "error", "message": "no", "data": None},
    ]
    orders = rows(decoded, ORDERS.name, "record")
    assert [row["record"] for row in orders] == [53, 54]
    assert orders[0]["update_id"] != orders[1]["update_id"], "two accounts"
    known = {name: value for name, value in orders[0].items() if value is not None and name != "update_id"}
    assert known == zeta | {
        "record": 53,
        "order_id": "1",
        "quantity": 5,
        "status": "OPEN",
        "order_timestamp": datetime(2026, 11, 22, 6, tzinfo=UTC),
        "data": json.dumps(UPDATE, separators=(",", ":")),
    }
    segment = {"segment": 7}
    assert rows(decoded, QUARANTINE.name, "record") == [
        alpha | segment | {"record": 56, "offset": 0, "length": 3, "reason": "not UTF-8", "data": b"\xffno"},
        alpha | segment | {"record": 58, "offset": 14, "length": 7, "reason": "unknown length", "data": b"unknown"},
        alpha | segment | {"record": 58, "offset": 21, "length": 2, "reason": "trailing bytes", "data": b"xy"},
        zeta | segment | {"record": 59, "offset": 0, "length": 2, "reason": "not a JSON object", "data": b"[]"},
        zeta
        | segment
        | {"record": 60, "offset": 0, "length": 5, "reason": "record of unknown kind 9", "data": b"later"},
        service | segment | {"record": 61, "offset": 0, "length": 0, "reason": "empty frame", "data": b""},
    ]


def test_orders_events_and_quarantine_are_split_by_day() -> None:
    records: list[Record] = []
    for at in (MIDNIGHT_NS, MIDNIGHT_NS - 1, MIDNIGHT_NS):
        records += [
            (Kind.EVENT, 1, at, b'{"event":"tick"}'),
            (Kind.TEXT, 1, at, b'{"type":"order","data":{}}'),
            (Kind.TEXT, 1, at, b"?"),
        ]
    decoded = decode(block(records))
    for name, first in ((EVENTS.name, 0), (ORDERS.name, 1), (QUARANTINE.name, 2)):
        by_day = {part.values["date"]: part.rows["record"].to_pylist() for part in decoded.parts[name]}
        assert by_day == {"2026-11-22": [first + 3], "2026-11-23": [first, first + 6]}


@pytest.mark.parametrize("blocks", [[], [block([])], [block([(Kind.BINARY, 1, NOON_NS, b"\0")])]])
def test_nothing_to_decode(blocks: list[Block]) -> None:
    decoded = decode(*blocks)
    assert decoded.packets == 0
    assert decoded.parts == {"ticks": [], "orders": [], "events": [], "quarantine": []}


@pytest.mark.parametrize("zone", ["America/New_York", "Pacific/Kiritimati"])
def test_the_host_zone_changes_nothing(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    records: list[Record] = [
        (Kind.BINARY, 1, MIDNIGHT_NS - 1, random_frame(Random(3), 20)),
        (Kind.TEXT, 1, MIDNIGHT_NS, json.dumps({"type": "order", "data": UPDATE}).encode()),
    ]
    here = decode(block(records))
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        there = decode(block(records))
    finally:
        monkeypatch.undo()
        time.tzset()
    for name, order in ((TICKS.name, "seq"), (ORDERS.name, "record")):
        assert rows(there, name, order) == rows(here, name, order)


@pytest.mark.slow
def test_a_journal_on_disk(tmp_path: Path) -> None:
    """Blocks that are slices of one file are decoded in place; written, sealed and read by the real journal."""
    random = Random(4)
    layout = DataLayout(tmp_path)
    writer = JournalWriter(layout, STREAM)
    channels = [writer.channel("zeta", 1), writer.channel("alpha", 2)]
    batch = [random_frame(random, random.randrange(1, 20)) for _ in range(scaled(60, 200))]
    for i, frame in enumerate(batch):
        writer.append(Kind.BINARY, channels[i % 2], NOON_NS + i, frame)
        if i % 5 == 0:
            writer.append(Kind.EVENT, 0, NOON_NS + i, b'{"event":"e","data":[%d]}' % i)
        if i % 7 == 0:
            writer.flush()
    writer.close()

    with SegmentReader(layout.segment(STREAM, 0)) as reader:
        blocks = reader.read()
    assert len({id(one.payload.base) for one in blocks}) == 1, "the reader's blocks share memory: else test with others"
    decoded = decode(*blocks)
    found = rows(decoded, TICKS.name, "seq")
    expected = decode_frames(batch, received_at_ns=[NOON_NS + i for i in range(len(batch))])
    assert [{name: row[name] for name in PACKET_COLUMNS} for row in found] == expected.select(
        PACKET_COLUMNS
    ).to_pylist()
    assert [row["data"] for row in rows(decoded, EVENTS.name, "record")] == [f"[{i}]" for i in range(0, len(batch), 5)]
    assert decoded.packets == writer.packets
    assert decode(*(blocks[i] for i in range(len(blocks)))).packets == decoded.packets
    copies = [Block(**{**vars(one), "payload": one.payload.copy()}) for one in blocks]
    assert rows(decode(*copies), TICKS.name, "seq") == found
