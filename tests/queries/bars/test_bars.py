"""Bars: each rule of docs/queries.md by a day made for it, but for times at which nobody listened."""

import datetime as dt

import pytest

from queries.errors import MomentError, QueryError, SymbolError, WidthError
from queries.history import Near
from tests.support.asked_bars import PRICES, Ask, shown
from tests.support.captured import CALL, INFY, NIFTY_50, NIFTY_FUT, Captured, Line, us_of

pytestmark = pytest.mark.slow  # tables are made for each test


def test_hold_what_traded_in_an_interval(line: Line, ask: Ask) -> None:
    line.full("09:15:02", INFY, 100, volume=10, traded="09:15:01", high=100, low=100, oi=7)
    line.full("09:15:40", INFY, 102, volume=30, average=101.5, traded="09:15:39", high=103, low=99, oi=8)
    line.full("09:16:01", INFY, 101, volume=60, average=101.2, traded="09:15:59", high=103, low=99, oi=9)
    line.full("09:16:30", INFY, 104, volume=70, average=101.6, traded="09:16:29", high=104, low=99, oi=6)
    first, second = ask("bars", "NSE:INFY", "1m")
    value = 101.2 * 60
    assert first == {
        "symbol": "NSE:INFY", "time": first["time"], "open": 100.0, "high": 103.0, "low": 99.0, "close": 101.0,
        "volume": 60, "volume_missed": 0, "value": pytest.approx(value), "vwap": pytest.approx(value / 60), "oi": 9,
        "ticks": 3, "clock": "last_trade_time",
    }  # fmt: skip
    assert f"{first['time']:%Y-%m-%d %H:%M:%S %z}" == "2026-11-24 09:15:00 +0530"
    assert (second["open"], second["volume"], second["value"]) == (104, 10, pytest.approx(101.6 * 70 - value))


def test_need_a_trade(line: Line, ask: Ask) -> None:
    line.full("09:15:02", INFY, 100, volume=10)
    line.full("09:16:02", INFY, 100, volume=10, traded="09:15:02")  # the book changed, nothing traded
    line.full("09:18:02", INFY, 101, volume=11)
    assert shown(ask("bars", "NSE:INFY", "1m"), "volume") == [("09:15:00", 10), ("09:18:00", 1)]
    received = ask("bars", "NSE:INFY", "1m", clock="received")
    assert shown(received, "ticks", "volume", "volume_missed") == [("09:18:00", 1, 11, 10)]


def test_of_an_index_and_of_ltp_packets_need_none(line: Line, ask: Ask) -> None:
    line.full("09:15:02", NIFTY_50, 24000, stamped="09:15:01")
    line.full("09:16:00.5", NIFTY_50, 24010, stamped="09:15:59", high=24020, low=24000)
    line.ltp("09:15:03", CALL, 50)  # the first packet is the cached one
    line.ltp("09:15:04", CALL, 50)
    index, call = ask("bars", ["NSE:NIFTY 50", "NFO:NIFTY26NOV24000CE"], "1m")[::-1]
    carried = ("volume", "volume_missed", "value", "vwap", "oi")
    assert [index[name] for name in carried] == [None] * 5 == [call[name] for name in carried]
    assert [index[name] for name in PRICES] == [24000, 24020, 24000, 24010]
    assert (index["clock"], index["ticks"], call["clock"], call["ticks"]) == ("exchange_timestamp", 2, "received_at", 1)


def test_are_dated_by_the_trade_or_by_receipt(line: Line, ask: Ask) -> None:
    line.full("09:14:00", INFY, 99, volume=5)
    line.full("09:16:00.2", INFY, 100, volume=15, traded="09:15:59", stamped="09:16:00")
    assert shown(ask("bars", "NSE:INFY", "1m"), "volume", "clock") == [("09:15:00", 10, "last_trade_time")]
    received = ask("bars", "NSE:INFY", "1m", clock="received")
    assert shown(received, "volume", "clock") == [("09:16:00", 10, "received_at")]


def test_of_quotes_are_dated_by_receipt(line: Line, ask: Ask) -> None:
    for second, volume in enumerate((5, 15, 15, 20)):
        line.quote(f"09:15:0{second}", INFY, 100 + second, volume=volume)
    assert shown(ask("bars", "NSE:INFY", "1s"), "volume", "volume_missed", "close", "oi", "clock") == [
        ("09:15:01", 15, 5, 101, None, "received_at"),
        ("09:15:03", 5, 0, 103, None, "received_at"),
    ]


def test_begin_each_day_at_nothing(line: Line, captured: Captured, ask: Ask) -> None:
    line.full("15:14:59", INFY, 100, volume=1000)
    captured.on("2026-11-25").instruments()
    day = dt.date(2026, 11, 24)
    yesterday = {"traded": us_of(day, "15:14:59"), "stamped": us_of(day, "15:30")}
    line.begin("08:50", INFY, NIFTY_FUT)
    line.full("08:50:01", INFY, 100, volume=1000, average=100, high=200, low=50, **yesterday)
    line.quote("08:50:01", NIFTY_FUT, 24000, volume=1000)  # cached, and does not say of which day
    line.full("09:15:01", INFY, 110, volume=10)
    line.quote("09:15:01", NIFTY_FUT, 24100, volume=75)
    got = ask("bars", ["NSE:INFY", "NFO:NIFTY26NOVFUT"], "1d", "2026-11-25", sessions="all")
    assert shown(got, "volume", "volume_missed", *PRICES) == [
        ("09:15:00", 75, 0, 24100, 24100, 24100, 24100),
        ("09:15:00", 10, 0, 110, 110, 110, 110),
    ]


def test_make_nothing_of_what_is_cached_and_does_not_say_its_day(line: Line, ask: Ask) -> None:
    line.quote("08:50:01", INFY, 100, volume=1000)
    line.ltp("08:50:01", CALL, 5)
    assert ask("bars", ["NSE:INFY", "NFO:NIFTY26NOV24000CE"], "1d", sessions="all") == []


def test_take_nothing_back_for_a_correction(line: Line, ask: Ask) -> None:
    line.full("09:15:02", INFY, 100, volume=1000)
    line.full("09:16:02", INFY, 101, volume=990)
    line.full("09:17:02", INFY, 102, volume=995)
    line.full("09:18:02", INFY, 103, volume=1010)
    assert shown(ask("bars", "NSE:INFY", "1m"), "volume") == [("09:15:00", 1000), ("09:18:00", 10)]
    assert shown(ask("trades", "NSE:INFY"), "quantity") == [("09:15:02", 1000), ("09:18:02", 10)]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["full", "quote"])
def test_count_on_where_the_volume_begins_anew(line: Line, ask: Ask, mode: str) -> None:
    put = getattr(line, mode)
    put("09:14:02", INFY, 100)
    for second, volume in enumerate((900, 1000, 5, 9)):
        put(f"09:15:0{second}", INFY, 100, volume=volume)
    for width in ("1m", "1d"):
        assert shown(ask("bars", "NSE:INFY", width), "volume", "volume_missed") == [("09:15:00", 1009, 0)]
    assert [row["quantity"] for row in ask("trades", "NSE:INFY")] == [900, 100, 5, 4]


def test_have_no_price_of_0(line: Line, ask: Ask) -> None:
    line.full("09:15:01", INFY, 0, high=0, low=0, traded=None)
    line.full("09:15:02", INFY, 100, volume=10, high=101, low=99)
    line.full("09:15:03", INFY, 0, volume=10, high=101, low=0)
    assert shown(ask("bars", "NSE:INFY", "1m"), "ticks", *PRICES) == [("09:15:00", 1, 100, 100, 100, 100)]


@pytest.mark.slow
def test_hold_the_continuous_session_or_all(line: Line, captured: Captured, ask: Ask) -> None:
    line.full("09:08:01", INFY, 100, volume=100, traded="09:08:00")
    line.full("09:15:01", INFY, 100, volume=130, traded="09:15:00")
    captured.commit()
    line.full("15:14:59.9", INFY, 100, volume=150, traded="15:14:59")
    line.full("15:15:00.9", INFY, 100, volume=157, traded="15:15:00")
    for sessions, volumes in (("continuous", [30, 20]), ("all", [100, 30, 20, 7])):
        assert [row["volume"] for row in ask("bars", "NSE:INFY", "1m", sessions=sessions)] == volumes
        assert [row["volume"] for row in ask("bars", "NSE:INFY", "1d", sessions=sessions)] == [sum(volumes)]


def test_keep_parts_of_the_day_apart(captured: Captured, ask: Ask) -> None:
    """What was missed before the session is not the session's."""
    captured.instruments()
    line = captured.run("09:09").line()
    line.begin("09:09:01", INFY)
    line.full("09:09:02", INFY, 100, volume=100, traded="09:08:00")
    line.full("09:15:01", INFY, 100, volume=130, traded="09:15:00")
    assert shown(ask("bars", "NSE:INFY", "1m"), "volume", "volume_missed") == [("09:15:00", 30, 0)]
    assert shown(ask("bars", "NSE:INFY", "1m", sessions="all"), "volume", "volume_missed") == [("09:15:00", 130, 100)]


def test_keep_the_average_price_within_low_and_high(line: Line, ask: Ask) -> None:
    """An average is rounded to 0.005 on the whole volume, which is much for a small trade."""
    line.full("09:15:01", INFY, 100, volume=1_000_000, average=100)
    line.full("09:16:01", INFY, 100, volume=1_000_010, average=100.01)
    row = ask("bars", "NSE:INFY", "1m")[1]
    assert (row["vwap"], row["value"]) == (100, pytest.approx(100.01 * 1_000_010 - 100_000_000))


def test_are_named_by_their_beginning_or_end(line: Line, ask: Ask) -> None:
    for time in ("09:15:00", "10:14:59", "10:15:00", "15:14:59"):
        line.full(time, INFY, 100, volume=100 + int(time.replace(":", "")))
    assert [f"{row['time']:%H:%M}" for row in ask("bars", "NSE:INFY", "1h")] == ["09:15", "10:15", "14:15"]
    ends = ask("bars", "NSE:INFY", "7m", label="close")
    assert [f"{row['time']:%H:%M}" for row in ends] == ["09:22", "10:18", "15:15"]
    assert [f"{row['time']:%H:%M}" for row in ask("bars", "NSE:INFY", "1d")] == ["09:15"]
    assert [f"{row['time']:%H:%M}" for row in ask("bars", "NSE:INFY", "1d", label="close")] == ["15:15"]


def test_begin_in_the_range_and_hold_what_was_before_its_stop(line: Line, ask: Ask) -> None:
    for second in range(0, 60, 10):
        line.full(f"09:15:{second:02}.5", INFY, 100 + second, volume=10 + second)
    line.full("09:16:00.5", INFY, 200, volume=100)
    day = "2026-11-24 "
    asked = ("bars", "NSE:INFY", "1m")
    assert shown(ask(*asked, day + "09:15", day + "09:16"), "close") == [("09:15:00", 150)]
    assert shown(ask(*asked, day + "09:15:01", day + "09:16"), "close") == []
    assert shown(ask(*asked, day + "09:15", day + "09:15:30"), "close", "volume") == [("09:15:00", 120, 30)]
    assert shown(ask(*asked, day + "09:15:01", day + "09:16:01"), "volume") == [("09:16:00", 40)]
    assert shown(ask(*asked, "2026-11-24"), "close") == [("09:15:00", 150), ("09:16:00", 200)]
    assert ask(*asked, "2026-11-25") == []


@pytest.mark.slow
def test_fill_intervals_without_a_trade(line: Line, ask: Ask) -> None:
    line.full("09:15:02", INFY, 100, volume=10)
    line.full("09:18:02", INFY, 101, volume=15)
    line.full("09:15:02", NIFTY_50, 24000)
    line.full("09:15:03", NIFTY_50, 24000)
    for fill, volumes, closes in (
        ("null", [10, None, None, 5], [100, None, None, 101]),
        ("previous", [10, 0, 0, 5], [100, 100, 100, 101]),
    ):
        rows = ask("bars", "NSE:INFY", "1m", "2026-11-24 09:15", "2026-11-24 09:19", fill=fill)
        assert [row["volume"] for row in rows] == volumes
        assert [row["close"] for row in rows] == closes
        assert [f"{row['time']:%H:%M}" for row in rows] == ["09:15", "09:16", "09:17", "09:18"]
        index = ask("bars", "NSE:NIFTY 50", "1m", "2026-11-24 09:15", "2026-11-24 09:17", fill=fill)
        assert [row["volume"] for row in index] == [None, None]
        assert len(ask("bars", "NSE:INFY", "1m", fill=fill)) == 360


@pytest.mark.slow
def test_are_full_by_trades_volume_or_value(line: Line, ask: Ask) -> None:
    for second, volume in enumerate((10, 20, 50, 60, 100)):
        line.full(f"09:15:0{second}", INFY, 100 + second, volume=volume)
    assert shown(ask("bars", "NSE:INFY", "2 ticks"), "volume", *PRICES) == [
        ("09:15:00", 20, 100, 101, 100, 101),
        ("09:15:02", 40, 102, 103, 102, 103),
        ("09:15:04", 40, 104, 104, 104, 104),
    ]
    assert [row["volume"] for row in ask("bars", "NSE:INFY", "50 volume")] == [50, 50]
    assert [row["volume"] for row in ask("bars", "NSE:INFY", "2000 value")] == [20, 30, 10, 40]
    with pytest.raises(QueryError, match="no fixed times"):
        ask("bars", "NSE:INFY", "2 ticks", fill="null")


@pytest.mark.slow
def test_those_that_begin_together_come_as_they_were_traded(line: Line, ask: Ask) -> None:
    """By the exchange's clock, which has whole seconds."""
    closes = [100 + number % 7 for number in range(3000)]
    for number, price in enumerate(closes):
        for token in (INFY, NIFTY_FUT):
            line.full(
                f"09:{15 + number // 1200}:{number // 20 % 60:02}.{number % 20 * 5:02}",
                token,
                price,
                volume=60 * number,
            )
    for width in ("50 volume", "1 ticks", "1 value"):
        found = ask("bars", ["NSE:INFY", "NFO:NIFTY26NOVFUT"], width)
        assert [row["close"] for row in found] == 2 * closes[len(closes) - len(found) // 2 :]


def test_come_by_symbol_and_time(line: Line, ask: Ask) -> None:
    for minute in (15, 16):
        line.full(f"09:{minute}:02", NIFTY_FUT, 24000, volume=minute)
        line.full(f"09:{minute}:03", INFY, 100, volume=minute)
    for symbols in (["NSE:INFY", "NFO:NIFTY26NOVFUT"], ["NSE:INF*", Near("NIFTY")], [INFY, NIFTY_FUT]):
        rows = ask("bars", symbols, "1m")
        assert [(row["symbol"][:3], f"{row['time']:%M}") for row in rows] == [
            ("NFO", "15"), ("NFO", "16"), ("NSE", "15"), ("NSE", "16"),
        ]  # fmt: skip


@pytest.mark.slow
def test_go_by_the_name_that_a_token_had_on_the_day(line: Line, captured: Captured, ask: Ask) -> None:
    line.full("09:15:02", CALL, 50, volume=75)
    captured.on("2026-11-25").instruments(
        f"{CALL},48226,INFY26DECFUT,INFY,0,2026-12-29,0,0.05,400,FUT,NFO-FUT,NFO\n"
        f"{NIFTY_FUT},48225,NIFTY26DECFUT,NIFTY,0,2026-12-29,0,0.05,75,FUT,NFO-FUT,NFO\n"
    )
    line.begin("08:50", CALL, NIFTY_FUT)
    line.full("09:15:02", CALL, 1500, volume=400)
    for name, volume in (("NFO:NIFTY26NOV24000CE", 75), ("NFO:INFY26DECFUT", 400)):
        assert [row["volume"] for row in ask("bars", name, "1d")] == [volume]
        filled = ask("bars", name, "1d", "2026-11-24", "2026-11-26", fill="null")
        assert {row["symbol"] for row in filled} == {name}
    assert [row["volume"] for row in ask("bars", CALL, "1d")] == [400, 75]  # by symbol, then time


def test_of_what_is_not_there(line: Line, captured: Captured, ask: Ask) -> None:
    assert ask("bars", "NSE:INFY", "1m") == []
    line.full("09:15:02", INFY, 100, volume=10)
    assert ask("bars", "NSE:TINY", "1m") == []
    assert ask("bars", "NSE:INFY", "1m", "2026-11-24 12:00", "2026-11-24 12:00") == []
    with pytest.raises(SymbolError, match=r"NSE:INFI: .*near it: NSE:INFY"):
        ask("bars", "NSE:INFI", "1m")
    with pytest.raises(MomentError, match="not before the start"):
        ask("bars", "NSE:INFY", "1m", "2026-11-24 12:00", "2026-11-24 11:00")
    with pytest.raises(WidthError, match="got 'soon'"):
        ask("bars", "NSE:INFY", "soon")
    for option in ("clock", "sessions", "fill", "label"):
        with pytest.raises(QueryError, match=f"{option}: got 'odd', expected one of "):
            ask("bars", "NSE:INFY", "1m", **{option: "odd"})


@pytest.mark.slow
def test_see_what_is_written_meanwhile(line: Line, captured: Captured, ask: Ask) -> None:
    line.full("09:15:02", INFY, 100, volume=10)
    assert [row["volume"] for row in ask("bars", "NSE:INFY", "1m")] == [10]
    line.full("09:15:03", INFY, 100, volume=12)
    assert [row["volume"] for row in ask("bars", "NSE:INFY", "1m")] == [12]
    captured.commit()
    assert [row["volume"] for row in ask("bars", "NSE:INFY", "1m")] == [12]
    line.closed("09:15:04")
    line.begin("09:15:05", INFY)
    line.full("09:15:07", INFY, 100, volume=30)
    assert [row["volume_missed"] for row in ask("bars", "NSE:INFY", "1m")] == [18]


@pytest.mark.slow
def test_end_and_begin_at_midnight(captured: Captured, line: Line, ask: Ask) -> None:
    """However wide they are: each is of one day, on which its interval is asked for."""
    line.full("23:30:01", INFY, 100, volume=10)
    captured.on("2026-11-25")
    line.full("00:05:01", INFY, 101, volume=4)
    line.full("10:05:01", INFY, 102, volume=6)
    for width, expected in (
        ("1 hour", [("24 23:15", "25 00:00", 10), ("25 00:00", "25 00:15", 4), ("25 09:15", "25 10:15", 2)]),
        ("10 hours", [("24 19:15", "25 00:00", 10), ("25 00:00", "25 09:15", 4), ("25 09:15", "25 19:15", 2)]),
        ("86399 seconds", [("24 09:15", "25 00:00", 10), ("25 00:00", "25 09:15", 4), ("25 09:15", "26 00:00", 2)]),
    ):
        # The macro has both times too, and its last step chooses of them.
        for start, of_macro, bars in (("2026-11-24", "close", expected), ("2026-11-25", "open", expected[1:])):
            found = {}
            for label in ("open", "close"):
                found[label] = ask("bars", "NSE:INFY", width, start, "2026-11-26", sessions="all", label=label)
            asked = f"width := '{width}', start := '{start}', stop := '2026-11-26', sessions := 'all'"
            assert ask("sql", f"from bars('NSE:INFY', {asked}, label := '{of_macro}')") == found[of_macro]
            both = zip(found["open"], found["close"], strict=True)
            assert [(f"{a['time']:%d %H:%M}", f"{b['time']:%d %H:%M}", a["volume"]) for a, b in both] == bars
