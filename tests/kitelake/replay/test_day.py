"""A captured day as packets, beside what `ticks` shows of it."""

import dataclasses
import datetime as dt
import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import kitelake
from ingest.instruments.listing import parse_instruments
from ingest.server import Frames
from ingest.wire import decode_frames, encode_packets
from ingest.wire.layouts import divisor_of
from kitelake.errors import ReplayError
from kitelake.paper import PriceLevel
from kitelake.replay.day import ReplayDay
from kitelake.replay.packets import Latest, Slice
from storage.clock import IST
from storage.schema import DEPTH_LEVELS, TICKS
from tests.support.captured import INFY, LISTED, NIFTY_50, NIFTY_FUT, TINY
from tests.support.feeding import DAYS, random_days, seal, three_days
from tests.support.hand_made import HandMade
from tests.support.scaled import scaled

pytestmark = pytest.mark.slow  # days are captured for them

NAMES = ("", "ltp", "quote", "full")
COLUMNS = [name for name in TICKS.schema.names if name != "symbol"]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[kitelake.Lake]:
    captured = three_days(tmp_path_factory.mktemp("days"))
    with kitelake.open(captured.root) as lake:
        yield lake


def rows_of(lake: kitelake.Lake, day: dt.date) -> pa.Table:
    query = f"SELECT {', '.join(COLUMNS)} FROM ticks WHERE date = $day ORDER BY received_at, stream, seq"
    return lake.sql(query, {"day": day}).arrow()


def packets_in(frames: Frames) -> list[list[bytes]]:
    """The packets of each frame."""
    data = io.BytesIO(frames.payload.tobytes())
    found = []
    for length, count in zip(frames.lengths.tolist(), frames.counts.tolist(), strict=True):
        frame = io.BytesIO(data.read(length))
        assert int.from_bytes(frame.read(2), "big") == count
        found.append([frame.read(int.from_bytes(frame.read(2), "big")) for _ in range(count)])
        assert frame.read() == b""
    assert data.read() == b""
    return found


def lesser(packet: bytes, mode: str) -> bytes:
    """What is sent of a packet to who wants it in a mode."""
    lengths = {"ltp": 8, "quote": 28, "full": 32} if len(packet) in (28, 32) else {"ltp": 8, "quote": 44, "full": 184}
    return packet[: lengths[mode]]


@pytest.mark.parametrize("day", DAYS)
def test_every_packet_goes_in_the_frame_in_which_it_came(lake: kitelake.Lake, day: dt.date) -> None:
    rows = rows_of(lake, day)
    keys = zip(*(rows[name].to_pylist() for name in ("received_at", "stream", "account", "connection")), strict=True)
    whole = list(zip(keys, encode_packets(rows), strict=True))
    expected = [[packet for _, packet in frame] for _, frame in itertools.groupby(whole, lambda each: each[0])]
    replayed = ReplayDay(lake, day)
    everything = np.full(len(replayed), 3, np.uint8)
    found: list[list[bytes]] = []
    for part in replayed.slices(replayed.first_us):
        found += packets_in(part.frames(0, len(part), everything, 65_535))
    assert found == expected
    assert replayed.first_us == rows["received_at"].cast(pa.int64())[0].as_py()
    assert replayed.last_us == rows["received_at"].cast(pa.int64())[-1].as_py()


@pytest.mark.parametrize("seed", range(scaled(2, 30)))
def test_who_wants_what_gets_it(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any modes, cut anywhere, in small frames and read in small pieces; and what is known at any moment."""
    captured = random_days(tmp_path, seed, 2)
    if seed % 2:
        seal(captured)
    draw = np.random.default_rng(seed)
    monkeypatch.setattr("kitelake.replay.day.SLICE_ROWS", int(draw.integers(1, 40)))
    with kitelake.open(tmp_path) as lake:
        for day in lake.look().dates("ticks"):
            rows = rows_of(lake, day)
            whole = list(zip(rows["received_at"].cast(pa.int64()).to_pylist(), encode_packets(rows), strict=True))
            replayed = ReplayDay(lake, day)
            modes = draw.integers(0, 4, len(replayed)).astype(np.uint8)
            wanted = dict(zip(replayed.tokens.tolist(), (NAMES[mode] for mode in modes.tolist()), strict=True))
            begin = int(draw.integers(replayed.first_us, replayed.last_us + 1))
            most = int(draw.integers(1, 5))
            expected = [
                lesser(packet, wanted[token])
                for us, packet in whole
                if us >= begin and wanted[token := int.from_bytes(packet[:4], "big")]
            ]
            found = []
            latest = replayed.latest(begin)
            check_latest(latest, replayed, {packet[:4]: packet for us, packet in whole if us < begin})
            for part in replayed.slices(begin):
                cut = int(draw.integers(0, len(part) + 1))
                for start, stop in ((0, cut), (cut, len(part))):
                    frames = packets_in(part.frames(start, stop, modes, most))
                    assert max(map(len, frames), default=1) <= most
                    found += list(itertools.chain.from_iterable(frames))
                    latest.update(part, start, stop)
            assert found == expected
            check_latest(latest, replayed, {packet[:4]: packet for _, packet in whole})


def check_latest(latest: Latest, day: ReplayDay, last: dict[bytes, bytes]) -> None:
    everything = np.arange(len(day))
    frames = packets_in(latest.frames(everything, np.full(len(day), 3, np.uint8), 65_535))
    assert {packet[:4]: packet for frame in frames for packet in frame} == last
    known = {token.to_bytes(4, "big"): latest.snapshot(row) for row, token in enumerate(day.tokens.tolist())}
    assert {token for token, snapshot in known.items() if snapshot is not None} == set(last)


def test_a_snapshot_has_the_values_of_its_row(lake: kitelake.Lake) -> None:
    for day in DAYS:
        replayed = ReplayDay(lake, day)
        rows = rows_of(lake, day).to_pylist()
        snapshots = [
            each
            for part in replayed.slices(replayed.first_us)
            for each in part.snapshots(0, len(part), range(len(replayed)))
        ]
        for snapshot, row in zip(snapshots, rows, strict=True):
            assert _values(dataclasses.asdict(snapshot)) == _row(row)
            assert (snapshot.bids, snapshot.asks) == (_side(row, "bid"), _side(row, "ask"))


def _values(snapshot: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in snapshot.items() if name not in ("bids", "asks", "live", "after_gap")}


def _row(row: dict[str, Any]) -> dict[str, Any]:
    prices = ("last_price", "average_traded_price", "open", "high", "low", "close", "price_change")
    counts = (
        "last_traded_quantity", "volume_traded", "total_buy_quantity", "total_sell_quantity", "oi", "oi_day_high",
        "oi_day_low",
    )  # fmt: skip
    times = {"received_us": "received_at", "last_trade_us": "last_trade_time", "exchange_us": "exchange_timestamp"}
    divisor = divisor_of(row["instrument_token"])
    return {
        "token": row["instrument_token"],
        "mode": row["mode"],
        **{name: None if row[name] is None else round(row[name] * divisor) for name in prices},
        **{name: row[name] for name in counts},
        **{name: None if row[of] is None else round(row[of].timestamp() * 1_000_000) for name, of in times.items()},
    }


def _side(row: dict[str, Any], side: str) -> tuple[PriceLevel, ...]:
    found = []
    for level in range(1, DEPTH_LEVELS + 1):
        price, quantity, orders = (row[f"{side}_{what}_{level}"] for what in ("price", "quantity", "orders"))
        if price and quantity:
            found.append(PriceLevel(round(price * divisor_of(row["instrument_token"])), quantity, orders))
    return tuple(found)


def flagged(day: ReplayDay, begin: int) -> list[tuple[int, int]]:
    """Token and time of those that are said to be the first after an outage."""
    return [
        (int(day.tokens[part.rows[place]]), int(part.times[place]))
        for part in day.slices(begin)
        for place in np.flatnonzero(part.after_gap)
    ]


def test_the_first_packets_after_an_outage_are_marked(lake: kitelake.Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the instruments that it concerned, wherever one begins to look."""
    day = ReplayDay(lake, DAYS[0])
    (back,) = {us for us in _times(day, INFY) if _clock(us) == "09:27:00.200000"}
    expected = [(INFY, back), (NIFTY_FUT, min(us for us in _times(day, NIFTY_FUT) if us > back))]
    for rows in (65_536, 7, 1)[: scaled(2, 3)]:
        monkeypatch.setattr("kitelake.replay.day.SLICE_ROWS", rows)
        assert sorted(flagged(day, day.first_us)) == sorted(expected)
        assert sorted(flagged(day, back)) == sorted(expected)
        assert sorted(flagged(day, back + 1)) == sorted(expected[1:])
        assert flagged(day, max(us for _, us in expected) + 1) == []


def _times(day: ReplayDay, token: int) -> list[int]:
    return [us for part in day.slices(day.first_us) for us in part.times[part.rows == day.row(token)].tolist()]


def _clock(us: int) -> str:
    return str((dt.datetime.fromtimestamp(0, dt.UTC) + dt.timedelta(microseconds=us, hours=5.5)).time())


def test_cached_packets_are_not_live(lake: kitelake.Lake) -> None:
    """The first one of INFY on the first day is of the evening before, and so it is said of what is known later."""
    day = ReplayDay(lake, DAYS[0])
    part = next(day.slices(day.first_us))
    assert np.flatnonzero(~part.live)[0] == 0
    snapshot = day.latest(day.first_us + 1).snapshot(day.row(INFY) or 0)
    assert snapshot is not None
    assert not snapshot.live


def test_some_instruments_and_some_hours(lake: kitelake.Lake) -> None:
    day = ReplayDay(lake, DAYS[1], ["NSE:INFY", "NSE:NIFTY 50"], dt.time(9, 15, 30), dt.time(9, 16))
    assert day.tokens.tolist() == [NIFTY_50, INFY] == sorted(day.listed)
    parts = list(day.slices(day.first_us))
    assert {_clock(us)[:5] for part in parts for us in part.times.tolist()} == {"09:15"}
    assert {int(day.tokens[row]) for part in parts for row in part.rows} == {NIFTY_50, INFY}
    assert _clock(day.first_us) == "09:15:30"
    assert day.row(TINY) is None


def test_times_in_packets_can_be_later(lake: kitelake.Lake) -> None:
    """As a strategy that looks at its clock wants them. Nothing else changes, nor does a time that there is not."""
    shift_us = 86_400_000_000
    plain, shifted = ReplayDay(lake, DAYS[1]), ReplayDay(lake, DAYS[1], shift_us=shift_us)
    for one, other in zip(plain.slices(plain.first_us), shifted.slices(plain.first_us), strict=True):
        ours, theirs = (decode_frames(_frames(each)).to_pylist() for each in (one, other))
        for row in ours:
            for name in ("last_trade_time", "exchange_timestamp"):
                if row[name] is not None:
                    row[name] += dt.timedelta(days=1)
        assert ours == theirs


def _frames(part: Slice) -> list[bytes]:
    """Each packet in a frame of its own."""
    whole = zip(part.starts.tolist(), part.lengths.tolist(), strict=True)
    return [b"\0\1\0" + bytes([length]) + part.data[start : start + length].tobytes() for start, length in whole]


def test_the_list_is_the_brokers_of_that_day(lake: kitelake.Lake) -> None:
    for day, lot in ((DAYS[0], 75), (DAYS[1], 65)):
        replayed = ReplayDay(lake, day)
        assert replayed.listed[NIFTY_FUT].lot_size == lot
        assert replayed.listed[NIFTY_FUT].expiry == dt.date(2026, 11, 24)
        assert (replayed.listed[INFY].tick, replayed.listed[INFY].symbol) == (5, "NSE:INFY")
        listed = parse_instruments(replayed.csv("").encode(), date=day)
        header = replayed.csv("").partition("\n")[0]
        stored = parse_instruments(f"{header}\n{LISTED.replace(',75,', f',{lot},')}".encode(), date=day)
        assert listed.sort_by("instrument_token") == stored.sort_by("instrument_token")
        assert replayed.csv("MCX").count("\n") == 2


def test_a_day_without_a_list_is_known_by_its_tokens(tmp_path: Path) -> None:
    captured = three_days(tmp_path)
    for folder in (captured.layout.table("instruments"),):
        folder.rename(tmp_path / "elsewhere")
    with kitelake.open(tmp_path) as lake:
        day = ReplayDay(lake, DAYS[2])
        assert day.listed == {}
        assert day.tokens.tolist() == sorted([INFY, NIFTY_FUT])
        assert sum(map(len, day.slices(day.first_us))) == len(rows_of(lake, DAYS[2]))
        assert day.csv("").count("\n") == 1


def test_what_comes_while_it_is_replayed_of_an_instrument_unknown_until_then_is_left_out(tmp_path: Path) -> None:
    made = HandMade(tmp_path)
    infy, unlisted = made.add("NSE:INFY"), 99_999 << 8 | 1
    made.listed(DAYS[0])
    first = dt.datetime.combine(DAYS[0], dt.time(9, 15), IST)
    made.tick(first, infy, 100.0)
    with made.lake() as lake:
        day = ReplayDay(lake, DAYS[0])
        for second in range(1, 4):
            made.tick(first + dt.timedelta(seconds=second), unlisted, 5.0)
            made.tick(first + dt.timedelta(seconds=second), infy, 100.0 + second)
        made.lake().close()
        parts = list(day.slices(day.first_us))
        assert sum(map(len, parts)) > 1
        assert {row for part in parts for row in part.rows.tolist()} == {0}
        assert day.latest(day.last_us + 60_000_000).times.tolist() == [day.last_us + 3_000_000]
    made.close()


def test_what_cannot_be_replayed_is_said(lake: kitelake.Lake) -> None:
    with pytest.raises(ReplayError, match="2026-11-20: got a day without ticks, expected one with some"):
        ReplayDay(lake, dt.date(2026, 11, 20))
    with pytest.raises(ReplayError, match="without ticks from 12:00 to 13:00 IST"):
        ReplayDay(lake, DAYS[0], None, dt.time(12), dt.time(13))
    with pytest.raises(kitelake.SymbolError, match="INFI"):
        ReplayDay(lake, DAYS[0], "NSE:INFI")
