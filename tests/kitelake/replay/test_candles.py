"""Historical candles of a replayed day: equal to the lake's bars, and never of what comes later."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import kitelake
from kitelake.lake import Lake
from kitelake.paper import CandleCall
from kitelake.replay.candles import LakeCandles
from queries.errors import CandlesError
from storage.clock import EPOCH, IST
from tests.support.paper import listed
from tests.support.two_days import DAYS, two_days  # noqa: F401 (a fixture)

pytestmark = pytest.mark.slow  # days are captured for them

INFY = listed(408065, "NSE", "INFY")
INDEX = listed(256265, "NSE", "NIFTY 50", "INDICES")
OTHER = listed(1_234_561, "NSE", "OTHER")
INSTRUMENTS = {one.token: one for one in (INFY, INDEX, OTHER)}
TODAY = DAYS[1]
INTERVALS = {"minute": "1m", "3minute": "3m", "5minute": "5m", "10minute": "10m", "15minute": "15m", "30minute": "30m",
             "60minute": "1h", "day": "1d"}  # fmt: skip


@pytest.fixture(scope="module")
def lake(two_days: Path) -> Iterator[Lake]:  # noqa: F811
    with kitelake.open(two_days) as opened:
        yield opened


def at(time: str, day: dt.date = TODAY) -> dt.datetime:
    return dt.datetime.combine(day, dt.time.fromisoformat(time), IST)


class Answers:
    """Candles at a moment of the replayed day."""

    def __init__(self, lake: Lake, now: str, day: dt.date = TODAY, files: Any = None) -> None:
        now_us = (at(now, day) - EPOCH) // dt.timedelta(microseconds=1)
        self._candles = LakeCandles(lake, INSTRUMENTS, lambda: now_us, files)

    def ask(self, interval: str, start: dt.datetime, stop: dt.datetime, of: Any = INFY) -> list[list[Any]]:
        return self._candles(CandleCall(of.token, interval, start, stop))


def bars(lake: Lake, width: str, start: Any, stop: Any, symbol: str = "NSE:INFY") -> list[list[Any]]:
    names = ["time", "open", "high", "low", "close", "volume", "oi"]
    return [
        list(row.values())
        for row in lake.bars(symbol, width, start, stop, clock="received").arrow().select(names).to_pylist()
    ]


@pytest.mark.parametrize("interval", [one for one in INTERVALS if one != "day"])
def test_after_the_day_they_are_the_lakes_bars(lake: Lake, interval: str) -> None:
    found = Answers(lake, "15:45").ask(interval, at("00:00", DAYS[0]), at("23:59"))
    assert found == bars(lake, INTERVALS[interval], DAYS[0], TODAY + dt.timedelta(days=1))
    assert {row[0].date() for row in found} == set(DAYS)


@pytest.mark.parametrize("interval", INTERVALS)
@pytest.mark.parametrize("now", ["09:14:59", "09:15:30", "10:00", "12:34:56.789"])
def test_nothing_of_what_comes_later(lake: Lake, interval: str, now: str) -> None:
    """Asked for all, they are what a lake would answer in which nothing had been received from now on."""
    found = Answers(lake, now).ask(interval, at("00:00", DAYS[0]), at("00:00") + dt.timedelta(days=30))
    assert [row[1:] for row in found] == [row[1:] for row in bars(lake, INTERVALS[interval], DAYS[0], at(now))]
    seen = lake.sql(
        "select max(last_price) as high, min(last_price) as low from ticks "
        "where symbol = 'NSE:INFY' and received_at >= ? and received_at < ?",
        [at("09:15"), at(now)],
    ).arrow()
    for row in found:
        if row[0].date() == TODAY:
            assert row[0] < at(now)
            assert seen["low"][0].as_py() <= row[4] <= seen["high"][0].as_py()


def test_the_last_candle_is_in_progress_and_tomorrows_is_none(lake: Lake) -> None:
    answers = Answers(lake, "10:01:30")
    found = answers.ask("5minute", at("09:50"), at("23:59"))
    assert [f"{row[0]:%H:%M}" for row in found] == ["09:50", "09:55", "10:00"]
    whole = Answers(lake, "15:45").ask("5minute", at("10:00"), at("10:00"))
    assert whole[0][:2] == found[-1][:2]
    assert whole[0][5] > found[-1][5]
    tomorrow = TODAY + dt.timedelta(days=1)
    assert answers.ask("day", at("00:00", tomorrow), at("23:59", tomorrow)) == []
    assert answers.ask("minute", at("10:02"), at("15:30")) == []
    assert (
        Answers(lake, "15:45", DAYS[0]).ask("day", at("00:00"), at("23:59")) == []
    )  # the lake has it, but it is later


def test_candles_begin_within_what_was_asked_for_and_are_whole(lake: Lake) -> None:
    found = Answers(lake, "15:45").ask("15minute", at("10:00"), at("10:30"))
    assert [f"{row[0]:%H:%M}" for row in found] == ["10:00", "10:15", "10:30"]
    assert found == bars(lake, "15m", at("10:00"), at("10:45"))


def test_a_days_candle_is_named_by_its_midnight(lake: Lake) -> None:
    found = Answers(lake, "12:00").ask("day", at("09:15", DAYS[0]), at("23:59"))
    assert [row[0] for row in found] == [at("00:00", day) for day in DAYS]


def test_what_an_index_does_not_carry_is_null(lake: Lake) -> None:
    [row] = Answers(lake, "12:00").ask("day", at("00:00"), at("23:59"), INDEX)
    assert row[5:] == [None, None]


def test_what_was_not_listed_has_none(lake: Lake) -> None:
    assert Answers(lake, "12:00").ask("day", at("00:00"), at("23:59"), OTHER) == []


def test_files_have_the_days_before(lake: Lake, tmp_path: Path) -> None:
    path = tmp_path / "infy.csv"
    path.write_text(
        "date,open,high,low,close,volume\n2026-11-11,1,2,0.5,1.5,10\n2026-11-12,2,3,2,2.5,20\n2026-11-13,9,9,9,9,9\n"
    )
    minutes = [
        {"time": f"2026-11-10 09:{minute}", "open": 1, "high": 1, "low": 1, "close": 1, "volume": 1, "oi": 5}
        for minute in (15, 16)
    ]
    answers = Answers(lake, "12:00", files={"NSE:INFY": [path, minutes]})
    found = answers.ask("day", at("00:00", DAYS[0] - dt.timedelta(days=5)), at("23:59"))
    assert found[:2] == [
        [at("00:00", DAYS[0] - dt.timedelta(days=1)), 1.0, 2.0, 0.5, 1.5, 10, None],
        [at("00:00", DAYS[0]), 2.0, 3.0, 2.0, 2.5, 20, None],
    ]
    assert found[2:] == Answers(lake, "12:00").ask("day", at("00:00"), at("23:59"))
    before = at("00:00", dt.date(2026, 11, 10))
    assert [row[0] for row in answers.ask("minute", before, at("09:15", dt.date(2026, 11, 10)))] == [
        at("09:15", dt.date(2026, 11, 10))
    ]
    assert answers.ask("3minute", before, at("23:59", dt.date(2026, 11, 10))) == []


def test_files_that_are_none(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(CandlesError):
        Answers(lake, "12:00", files={"NSE:INFY": [tmp_path / "none.csv"]})
    with pytest.raises(CandlesError, match="candles of NSE:INFI: got no instrument that is replayed, expected one"):
        Answers(lake, "12:00", files={"NSE:INFI": []})
