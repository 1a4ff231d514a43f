"""What was missed: never more than what a record of everything says, and nothing that no packet shows."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kitelake
from tests.support.quotes import QuoteStream
from tests.support.reports import DAY, INFY, at, finish
from tests.support.scaled import scaled

pytestmark = pytest.mark.slow

NIFTY = 256265
FRIDAY = DAY - dt.timedelta(days=3)


def started(data: Path, clock: str = "09:00:00", *tokens: int) -> QuoteStream:
    stream = QuoteStream(data, at(clock))
    stream.event(at(clock), "connected", opening=1)
    stream.event(at(clock), "subscribed", tokens=list(tokens or (INFY,)))
    return stream


def lost(stream: QuoteStream, begin: str, end: str, *tokens: int) -> None:
    stream.event(at(begin), "closed", by="peer", reason="network")
    stream.event(at(end), "connected", opening=2)
    stream.event(at(end), "subscribed", tokens=list(tokens or (INFY,)))


def gaps(data: Path, token: int = INFY) -> list[dict[str, Any]]:
    with kitelake.open(data) as lake:
        return list(lake.gaps(DAY, token).arrow().to_pylist())


def said(row: dict[str, Any]) -> tuple[object, ...]:
    return tuple(row[name] for name in ("missed", "volume_missed", "high_missed", "low_missed", "oi_missed"))


def by_state(data: Path, state: str, token: int = INFY) -> list[tuple[object, ...]]:
    return [said(row) for row in gaps(data, token) if row["state"] == state]


class TestAway:
    def test_what_the_next_packet_shows_beyond_the_one_before(self, tmp_path: Path) -> None:
        with started(tmp_path) as stream:
            stream.full(at("10:00:00"), INFY, at("10:00:00"), volume_traded=1000, high=1510.0, low=1490.0, oi=500)
            lost(stream, "10:00:10", "10:05:00")
            stream.full(at("10:05:01"), INFY, at("10:04:00"), volume_traded=1700, high=1515.0, low=1490.0, oi=450)
            stream.full(at("10:05:05"), INFY, at("10:05:05"), volume_traded=1800, high=1516.0, low=1480.0, oi=440)
            finish(stream, at("10:06:00"))
        assert by_state(tmp_path, "disconnected") == [(True, 700, 1515.0, None, -50)]
        assert by_state(tmp_path, "cached packet only") == [(False, 0, None, None, None)]  # the live packet is no miss

    def test_nothing_where_it_shows_no_change(self, tmp_path: Path) -> None:
        with started(tmp_path) as stream:
            stream.full(at("10:00:00"), INFY, at("10:00:00"), volume_traded=1000)
            lost(stream, "10:00:10", "10:05:00")
            stream.full(at("10:05:01"), INFY, at("10:00:00"), volume_traded=1000)
            finish(stream, at("10:06:00"))
        assert by_state(tmp_path, "disconnected") == [(False, 0, None, None, None)]

    def test_nothing_is_said_where_no_packet_follows(self, tmp_path: Path) -> None:
        with started(tmp_path) as stream:
            stream.full(at("10:00:00"), INFY, at("10:00:00"), volume_traded=1000)
            stream.event(at("10:00:10"), "closed", by="peer", reason="network")
            stream.service(at("10:06:00"), "stopped")
        assert by_state(tmp_path, "disconnected") == [(None, None, None, None, None)]

    def test_a_late_start_misses_what_the_day_had_brought(self, tmp_path: Path) -> None:
        with started(tmp_path, "11:00:00") as stream:
            stream.full(at("11:00:02"), INFY, at("10:59:59"), volume_traded=5000, high=1520.0, low=1480.0, oi=70)
            finish(stream, at("11:01:00"))
        assert by_state(tmp_path, "not yet served") == [(True, 5000, 1520.0, 1480.0, None)]

    def test_a_packet_of_another_day_says_that_this_one_has_brought_nothing(self, tmp_path: Path) -> None:
        with started(tmp_path) as stream:
            stream.full(at("09:00:01"), INFY, at("15:29:59", FRIDAY), volume_traded=90_000, high=1600.0, low=1400.0)
            lost(stream, "09:10:00", "10:00:00")
            stream.full(at("10:00:01"), INFY, at("09:59:00"), volume_traded=300, high=1510.0, low=1500.0)
            finish(stream, at("10:01:00"))
        assert by_state(tmp_path, "not yet served")[0] == (False, 0, None, None, None)
        assert by_state(tmp_path, "disconnected") == [(True, 300, 1510.0, 1500.0, None)]

    def test_quote_mode_does_not_say_of_which_day_it_is(self, tmp_path: Path) -> None:
        with started(tmp_path, "11:00:00") as stream:
            stream.packet(at("11:00:02"), INFY, "quote", volume_traded=5000)
            lost(stream, "11:00:10", "11:01:00")
            stream.packet(at("11:01:01"), INFY, "quote", volume_traded=5400, high=1501.0)
            finish(stream, at("11:02:00"))
        assert by_state(tmp_path, "not yet served")[0] == (None, None, None, None, None)
        assert by_state(tmp_path, "disconnected") == [(True, 400, 1501.0, None, None)]

    def test_volume_that_falls_was_corrected_and_not_missed(self, tmp_path: Path) -> None:
        with started(tmp_path) as stream:
            stream.full(at("10:00:00"), INFY, at("10:00:00"), volume_traded=1000)
            lost(stream, "10:00:10", "10:05:00")
            stream.full(at("10:05:01"), INFY, at("10:04:00"), volume_traded=990)
            finish(stream, at("10:06:00"))
        assert by_state(tmp_path, "disconnected") == [(False, 0, None, None, None)]

    def test_an_index_and_ltp_mode_have_prices_alone(self, tmp_path: Path) -> None:
        with started(tmp_path, "09:00:00", INFY, NIFTY) as stream:
            for clock, price, high in (("10:00:00", 100.0, 110.0), ("10:05:01", 101.0, 120.0)):
                stream.packet(at(clock), INFY, "ltp", last_price=price)
                time: dict[str, Any] = {"exchange_timestamp": at(clock)}
                stream.packet(at(clock), NIFTY, "full", price_change=1.0, last_price=100.0, high=high, low=90.0, **time)
                if clock == "10:00:00":
                    lost(stream, "10:00:10", "10:05:00", INFY, NIFTY)
            finish(stream, at("10:06:00"))
        assert by_state(tmp_path, "disconnected") == [(True, None, None, None, None)]
        assert by_state(tmp_path, "disconnected", NIFTY) == [(True, None, 120.0, None, None)]


class TestListening:
    def test_what_comes_at_the_end_of_a_silence_was_not_missed(self, tmp_path: Path) -> None:
        with started(tmp_path) as stream:
            stream.full(at("10:00:00"), INFY, at("10:00:00"), volume_traded=1000)
            stream.full(at("10:30:00"), INFY, at("10:29:59"), volume_traded=1010, high=1510.0)
            finish(stream, at("10:30:30"))
        assert by_state(tmp_path, "silent") == [(False, 0, None, None, None)]

    def test_a_trade_that_comes_too_late_was(self, tmp_path: Path) -> None:
        with started(tmp_path) as stream:
            stream.full(at("10:00:00"), INFY, at("10:00:00"), volume_traded=1000)
            stream.full(at("10:30:00"), INFY, at("10:20:00"), volume_traded=1010, high=1510.0)
            finish(stream, at("10:30:30"))
        assert by_state(tmp_path, "silent") == [(True, 10, 1510.0, None, None)]

    def test_quote_mode_does_not_say_when_it_traded(self, tmp_path: Path) -> None:
        with started(tmp_path) as stream:
            stream.packet(at("10:00:00"), INFY, "quote", volume_traded=1000)
            stream.packet(at("10:00:01"), INFY, "quote", volume_traded=1000)
            stream.packet(at("10:30:00"), INFY, "quote", volume_traded=1010)
            finish(stream, at("10:30:30"))
        assert by_state(tmp_path, "silent") == [(None, None, None, None, None)]


SECONDS = 240


@settings(max_examples=scaled(5, 100))
@given(
    st.lists(st.integers(0, 3), min_size=SECONDS, max_size=SECONDS),
    st.lists(st.integers(-2, 2), min_size=SECONDS, max_size=SECONDS),
    st.lists(st.integers(20, SECONDS - 20), min_size=2, max_size=6, unique=True).map(sorted),
    st.booleans(),
)
def test_bounds_are_never_more_than_what_was_missed(
    tmp_path_factory: pytest.TempPathFactory, volumes: list[int], steps: list[int], marks: list[int], cached: bool
) -> None:
    """A record of every second; the connection is lost and found at the marks, and a packet comes in every second in
    which something traded. After each opening the cached packet comes first, or nothing until something trades."""
    data = tmp_path_factory.mktemp("bounds")
    begin = at("10:00:00")
    now = {"volume_traded": 0, "high": 1500.0, "low": 1500.0, "last_price": 1500.0}
    shown, last_trade, away = now, begin, False
    cuts = dict(zip(marks, [True, False] * 3, strict=False))
    truth: list[tuple[dt.datetime, int, float | None, float | None]] = []
    stream = started(data, "09:59:00")
    stream.full(begin, INFY, begin, **now)
    missing = False
    for second, (volume, step) in enumerate(zip(volumes, steps, strict=True), 1):
        time = begin + dt.timedelta(seconds=second)
        if volume:
            price = now["last_price"] + step
            now = {
                "volume_traded": now["volume_traded"] + volume,
                "high": max(now["high"], price),
                "low": min(now["low"], price),
                "last_price": price,
            }
            last_trade = time
        was_away, away = away, cuts.get(second, away)
        received = None
        if away and not was_away:
            stream.event(time - dt.timedelta(milliseconds=500), "closed", by="peer", reason="network")
            missing = True
        elif was_away and not away:
            stream.event(time + dt.timedelta(milliseconds=100), "connected", opening=2)
            stream.event(time + dt.timedelta(milliseconds=100), "subscribed", tokens=[INFY])
            received = time + dt.timedelta(milliseconds=200) if cached else None
        elif not away and volume:
            received = time
        if received is not None:
            stream.full(received, INFY, last_trade, **now)
            if missing:
                high = now["high"] if now["high"] > shown["high"] else None
                low = now["low"] if now["low"] < shown["low"] else None
                truth.append((received, int(now["volume_traded"] - shown["volume_traded"]), high, low))
            shown, missing = now, False
    finish(stream, begin + dt.timedelta(seconds=SECONDS + 1))

    rows = [row for row in gaps(data) if row["state"] in ("disconnected", "not yet served") and row["stop"] > begin]
    since = begin
    for received, *expected in truth:
        own = [row for row in rows if since < row["stop"] <= received and row["missed"] is not None]
        assert [list(said(row)[1:4]) for row in own] == [expected]
        since = received
    later = [row for row in rows if row["stop"] > since]
    assert {said(row) for row in later} <= {(None, None, None, None, None)}
