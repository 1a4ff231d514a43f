"""Candles in characters."""

import datetime as dt

import pyarrow as pa

from kitelake.drawing.candles import candle_lines
from queries.pictures import subject_of
from tests.support.pictured import bars, intervals

ROWS = bars(
    ("09:15", 100, 106, 94, 102, 80),
    ("09:20", 102, 102, 96, 98, None),
    ("09:25", None, None, None, None, None),
    ("09:45", 98, 98, 98, 98, 40),
)


def drawn(rows: pa.Table, width: int, height: int, gaps: pa.Table | None = None) -> list[str]:
    return [line.plain for line in candle_lines(subject_of(rows, gaps=gaps), width, height)]


def test_candles_stand_at_their_time_and_price() -> None:
    assert drawn(ROWS, 15, 11, intervals(("NSE:INFY", "09:30", "09:40", "disconnected"))) == [
        "106.00 │  ░░",
        "104.00 │  ░░",
        "102.00 █▒ ░░",
        "100.00 █▒ ░░",
        " 98.00 │▒ ░░ █",
        " 96.00 ││ ░░",
        " 94.00 │  ░░",
        "    80 █  ░░",
        "       █  ░░ ▄",
        "       █  ░░ █",
        "       09:15",
    ]


def test_bars_of_one_column_are_one_candle() -> None:
    rows = bars(*((f"09:{minute}", minute, minute + 1, minute - 1, minute + 1, 1) for minute in range(10, 60)))
    lines = drawn(rows, 20, 14)
    assert all(len(line) <= 20 for line in lines)
    assert "▒" not in "".join(lines)
    assert lines[0].startswith("60.00")


def test_each_instrument_and_day_is_told() -> None:
    days = [dt.date(2026, 11, 12), dt.date(2026, 11, 13)]
    rows = pa.concat_tables(
        [
            bars(("09:15", 1, 2, 1, 2, 1), ("12:00", 1, 2, 1, 2, 1), symbol=symbol, day=day)
            for symbol in ("NSE:A", "NSE:B")
            for day in days
        ]
    )
    lines = drawn(rows, 60, 30)
    assert [line for line in lines if line.startswith("NSE:")] == ["NSE:A", "NSE:B"]
    assert sum("12 Nov" in line and "13 Nov" in line for line in lines) == 2


def test_nothing_is_nothing() -> None:
    assert drawn(bars(), 60, 20) == drawn(bars(("09:15", None, None, None, None, None)), 60, 20) == []
