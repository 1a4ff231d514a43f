"""One frame has one time and one day, whoever converts it: consumers, tables and the live tail."""

import ast
import datetime
import random
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingest.connection.consumers import read_batch, read_ticks
from ingest.connection.hub import Record
from ingest.wire.journal import JournalDecoder
from queries.lake.lake import SqlLake
from storage.clock import (
    IST,
    IST_OFFSET_NS,
    NS_PER_DAY,
    day_bounds_ns,
    ist_date,
    ist_days,
    ist_time,
    microseconds,
    nanoseconds,
)
from storage.commit.quarantine import damage_parts
from storage.commit.writer import SegmentWriter
from storage.journal import Damage, JournalWriter, Kind
from storage.layout import DataLayout
from tests.support.scaled import scaled

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
MICROSECOND = datetime.timedelta(microseconds=1)
LTP = bytes.fromhex("0001000800063b01000186a0")  # token 408321, 1000.00 rupees
COMMITTED, LIVE = "20261123T034500-aaaaaa", "20261123T060000-bbbbbb"
MIDNIGHT_NS = day_bounds_ns(datetime.date(2026, 11, 24))[0]
ANY_NS = st.integers(-(2**62), 2**62)
NEAR_A_DAYS_END = st.builds(
    lambda day, ns: day * NS_PER_DAY - IST_OFFSET_NS + ns, st.integers(0, 50_000), st.integers(-2_000, 2_000)
)


def expected(received_at_ns: int) -> tuple[int, datetime.date]:
    """The microsecond and the day in India, by nothing but Python's own whole numbers and calendar."""
    us = (received_at_ns - received_at_ns % 1000) // 1000
    return us, (EPOCH + datetime.timedelta(microseconds=us)).astimezone(IST).date()


def record(received_at_ns: int) -> Record:
    return Record(Kind.BINARY, "one", 1, received_at_ns, 0.0, [LTP])


def us_of(moment: datetime.datetime) -> int:
    return (moment - EPOCH) // MICROSECOND


@given(st.one_of(ANY_NS, NEAR_A_DAYS_END))
@example(MIDNIGHT_NS - 1)
@example(MIDNIGHT_NS - 500)
@example(1_764_000_000_123_456_999)
def test_consumers_get_the_microsecond_that_has_begun(received_at_ns: int) -> None:
    us, day = expected(received_at_ns)
    (batch,) = read_batch([record(received_at_ns)])
    (row,) = batch.select(["received_at", "date"]).to_pylist()
    (tick,) = read_ticks([record(received_at_ns)])
    (part,) = damage_parts("s", [(0, Damage(0, 1, "junk"))], [], fallback_ns=received_at_ns)
    (damaged,) = part.rows.select(["received_at"]).to_pylist()
    for got in (row["received_at"], tick.received_at, damaged["received_at"], ist_time(received_at_ns)):
        assert us_of(got) == us
    for date in (row["date"], tick.received_at.date(), datetime.date.fromisoformat(part.values["date"])):
        assert date == day
    assert ist_date(received_at_ns) == day


def times() -> list[int]:
    """Of two days, in order, many of them around the midnight between."""
    rng = random.Random(3)
    near = [MIDNIGHT_NS + ns for ns in (-1_001, -1_000, -999, -501, -500, -499, -1, 0, 1, 499, 500, 999, 1_000)]
    return sorted([*near, *(MIDNIGHT_NS + rng.randrange(-(10**13), 10**13) for _ in range(scaled(500, 2_000)))])


def write(layout: DataLayout, stream: str, received: list[int]) -> None:
    writer = JournalWriter(layout, stream, segment_bytes=1 << 20, segment_seconds=1e9)
    channel = writer.channel("one", 1)
    for received_at_ns in received:
        writer.append(Kind.BINARY, channel, received_at_ns, LTP)
        writer.append(Kind.EVENT, channel, received_at_ns, b'{"event": "connected"}')
        writer.append(Kind.BINARY, channel, received_at_ns, b"\x00\x01\x00\x07junk")
    writer.close()


def test_tables_and_the_live_tail_have_what_consumers_got(tmp_path: Path) -> None:
    layout, received = DataLayout(tmp_path), times()
    write(layout, COMMITTED, received)
    SegmentWriter(layout, JournalDecoder()).run(poll_seconds=0.01, stop=threading.Event())
    write(layout, LIVE, received)
    ticks = [tick.received_at for tick in read_ticks([record(each) for each in received])]
    told = [(us_of(at), at.date()) for at in ticks]
    assert told == [expected(each) for each in received]
    with SqlLake(tmp_path, JournalDecoder()) as lake:
        for stream in (COMMITTED, LIVE):
            for table, order in (("ticks", "seq"), ("events", "record"), ("quarantine", "record")):
                found = rows(lake, f"SELECT received_at, date FROM {table} WHERE stream = '{stream}' ORDER BY {order}")
                assert [(us_of(row["received_at"]), row["date"]) for row in found] == told, (stream, table)
    for name in ("ticks", "events", "quarantine"):
        folders = {path.name for path in layout.table(name).glob("date=*")}
        assert folders == {"date=2026-11-23", "date=2026-11-24"}


def rows(lake: SqlLake, query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = lake.sql(query).arrow().to_pylist()
    return found


@given(ANY_NS)
def test_there_and_back(ns: int) -> None:
    assert nanoseconds(ist_time(ns)) == microseconds(ns) * 1000 <= ns
    begin, end = day_bounds_ns(ist_date(ns))
    assert begin <= ns < end
    assert ist_days(begin) == ist_days(ns) == ist_days(end) - 1


@pytest.mark.parametrize("zone", [datetime.UTC, IST, datetime.timezone(datetime.timedelta(hours=-5))])
def test_a_moment_is_the_same_in_every_zone(zone: datetime.tzinfo) -> None:
    assert nanoseconds(ist_time(MIDNIGHT_NS).astimezone(zone)) == MIDNIGHT_NS


def test_nothing_makes_a_time_of_a_float() -> None:
    """What rounds: `fromtimestamp` of seconds, a modification time in seconds."""
    root = Path(__file__).parents[2]
    names = {"fromtimestamp", "utcfromtimestamp", "st_mtime"}
    for package in ("storage", "ingest", "queries", "kitelake"):
        for path in (root / package).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            if any(name in text for name in names):  # in a comment it may be
                used = {node.attr for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Attribute)}
                assert not used & names, path
