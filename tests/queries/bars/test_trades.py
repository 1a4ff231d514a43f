"""Trades: changes of the cumulative volume that were seen."""

from collections.abc import Callable
from typing import Any

import pytest

import kitelake
from kitelake.lake import Lake
from queries.bars.trades import ALL
from queries.lake import words
from tests.support.captured import INFY, NIFTY_50, NIFTY_FUT, Captured, Line

Ask = Callable[..., list[dict[str, Any]]]


def shown(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(f"{row['time']:%H:%M:%S}", row["price"], row["quantity"], row["value"]) for row in rows]


def test_are_what_the_volume_grew_by(line: Line, ask: Ask) -> None:
    line.full("09:15:01.2", INFY, 100, volume=10, traded="09:15:00")
    line.full("09:15:02.2", INFY, 101, volume=10, traded="09:15:00")
    line.full("09:15:03.2", INFY, 102, volume=15, traded="09:15:02", oi=5)
    line.full("09:15:03.2", NIFTY_50, 24000)  # an index does not trade
    rows = ask("trades", ["NSE:INFY", "NSE:NIFTY 50"])
    assert shown(rows) == [("09:15:00", 100, 10, 1000), ("09:15:02", 102, 5, 510)]
    assert rows[1]["oi"] == 5
    assert f"{rows[1]['received_at']:%H:%M:%S.%f}" == "09:15:03.200000"
    assert [row["clock"] for row in rows] == ["last_trade_time"] * 2
    received = ask("trades", "NSE:INFY", clock="received")
    assert [f"{row['time']:%S.%f}" for row in received] == ["03.200000"]


def test_are_none_where_nothing_was_received(line: Line, ask: Ask) -> None:
    line.full("09:15:01", INFY, 100, volume=10)
    line.closed("09:15:02")
    line.begin("09:20:00", INFY)
    line.full("09:20:01.5", INFY, 105, volume=500)
    line.full("09:20:03", INFY, 106, volume=501)
    assert shown(ask("trades", "NSE:INFY")) == [("09:15:01", 100, 10, 1000), ("09:20:03", 106, 1, 106)]


def test_begin_in_the_range(line: Line, ask: Ask) -> None:
    for second in range(5):
        line.full(f"09:15:0{second}", INFY, 100, volume=10 * (second + 1))
    rows = ask("trades", "NSE:INFY", "2026-11-24 09:15:01", "2026-11-24 09:15:03")
    assert [(row["time"].second, row["quantity"]) for row in rows] == [(1, 10), (2, 10)]


@pytest.mark.slow
def test_are_a_view_and_a_macro_too(line: Line, captured: Captured, ask: Ask) -> None:
    for second in range(5):
        line.full(f"09:15:0{second}", INFY, 100, volume=10 * (second + 1))
        line.full(f"09:15:0{second}", NIFTY_FUT, 24000, volume=75 * (second + 1))
    names = ["NSE:INFY", "NFO:NIFTY26NOVFUT"]
    rows = ask("trades", names)
    assert len(rows) == 10
    with kitelake.open(captured.root) as lake:
        assert lake.sql("FROM trades ORDER BY symbol, time").arrow().to_pylist() == rows
        assert lake.sql("FROM trades($names)", {"names": names}).arrow().to_pylist() == rows
        assert lake.sql("FROM trades('NSE:INFY', start := '2026-11-24')").arrow().to_pylist() == rows[5:]


@pytest.mark.slow
def test_sum_to_the_volume_of_bars_without_what_was_missed(line: Line, ask: Ask) -> None:
    for second in range(40):
        if second % 12 == 7:
            line.closed(f"09:14:{second + 10}.1")
            line.begin(f"09:14:{second + 10}.5", INFY)
        line.full(f"09:14:{second + 10}.9", INFY, 100, volume=10 + second * second)
    for width in ("1s", "1m", "1d"):
        bars = ask("bars", "NSE:INFY", width, sessions="all")
        assert sum(row["volume"] for row in bars) == 10 + 39 * 39
        missed = sum(row["volume_missed"] for row in bars)
        assert 0 < missed == 10 + 39 * 39 - sum(row["quantity"] for row in ask("trades", "NSE:INFY"))


def test_the_relation_says_what_it_reads() -> None:
    names = {relation.name for relation in Lake.relations} | {"ticks_all", "instruments", "events", "orders"}
    (trades,) = (relation for relation in Lake.relations if relation.name == "trades")
    assert words(ALL) & names == trades.uses
