"""Queries over the files of the ticks table, as an expert would write them by hand for the bare engine.

They name date and exchange, and the instrument by its token, by which the files are sorted and which is read faster
than names. Minutes are counted in integers: `time_bucket` takes half as much again. Volume and value are
differences between bars, not between ticks.
"""

from pathlib import Path
from typing import Final

from benchmarks.market_listing import LAST_DAY

DAY: Final = LAST_DAY.isoformat()
CLOCKS: Final = {"exchange": "last_trade_time", "received": "received_at"}
OF_INDICES_TOO: Final = {"exchange": "coalesce(last_trade_time, exchange_timestamp)", "received": "received_at"}
"""The same where there may be indices: another column to read."""
OHLC: Final = (
    "arg_min(last_price, seq) AS open, max(last_price) AS high, min(last_price) AS low, "
    "arg_max(last_price, seq) AS close"
)
SUMS: Final = (
    "max(volume_traded) AS total, max(volume_traded) * arg_max(average_traded_price, seq) AS turnover, "
    "arg_max(oi, seq) AS oi, count(*) AS ticks"
)
EXTREMES: Final = "max(high) AS day_high, min(low) AS day_low, max(received_at) AS heard"
"""Of the day so far: what was traded between two snapshots. And until when there were any."""
OF_THE_DAY: Final = (
    "(exchange_timestamp IS NULL OR exchange_timestamp >= TIMESTAMPTZ '{day} 00:00:00+05:30') "
    "AND (last_trade_time IS NULL OR last_trade_time >= TIMESTAMPTZ '{day} 00:00:00+05:30')"
)
"""Without packets of an earlier day, as the first after a subscription may be."""
MINUTES: Final = """
    SELECT symbol, epoch_us({clock}) // 60_000_000 AS minute, {columns} FROM {files}
    WHERE {where} AND {clock} >= TIMESTAMPTZ '{day} 09:15:00+05:30' AND {clock} < TIMESTAMPTZ '{day} 15:40:00+05:30'
    GROUP BY ALL
"""
BARS: Final = """
    SELECT symbol, make_timestamptz(minute * 60_000_000) AS time, open,
        greatest(high, CASE WHEN day_high > lag(day_high) OVER bars THEN day_high END) AS high,
        least(low, CASE WHEN day_low < lag(day_low) OVER bars THEN day_low END) AS low, close,
        total - lag(total, 1, 0) OVER bars AS volume, turnover - lag(turnover, 1, 0) OVER bars AS value,
        value / volume AS vwap, oi, ticks, heard
    FROM ({minutes}) WINDOW bars AS (PARTITION BY symbol ORDER BY minute) ORDER BY symbol, time
"""
PLAIN_BARS: Final = """
    SELECT symbol, make_timestamptz(minute * 60_000_000) AS time, open, high, low, close,
        total - lag(total, 1, 0) OVER bars AS volume, turnover - lag(turnover, 1, 0) OVER bars AS value,
        value / volume AS vwap, oi, ticks
    FROM ({minutes}) WINDOW bars AS (PARTITION BY symbol ORDER BY minute) ORDER BY symbol, time
"""
PRICES: Final = """
    SELECT symbol, make_timestamptz(minute * 60_000_000) AS time, open, high, low, close
    FROM ({minutes}) ORDER BY symbol, time
"""
DAYS: Final = """
    SELECT symbol, date, {columns} FROM {files}
    WHERE {where} AND last_trade_time >= date + TIME '09:15' AND last_trade_time < date + TIME '15:40'
    GROUP BY ALL ORDER BY symbol, date
"""
NEWEST: Final = """
    SELECT symbol, received_at, last_price, volume_traded, oi, bid_price_1, ask_price_1 FROM {files}
    WHERE {where} AND seq IN (SELECT max(seq) FROM {files} WHERE {where} GROUP BY instrument_token) ORDER BY symbol
"""
BOOKS: Final = """
    SELECT symbol, max_by(struct_pack(received_at, last_price, volume_traded, oi, bid_price_1, ask_price_1), seq)
    FROM {files} WHERE {where} GROUP BY symbol ORDER BY symbol
"""
LAST_PRICE: Final = "SELECT arg_max(last_price, seq) FROM {files} WHERE {where}"


def files_of(root: Path) -> str:
    """The ticks of a folder in which no other files lie than those of its newest version."""
    types = "hive_types = {'date': 'DATE', 'exchange': 'VARCHAR'}"
    return f"read_parquet('{root}/ticks/date=*/exchange=*/*.parquet', hive_partitioning = true, {types})"


def minute_bars(root: Path, where: str, clock: str) -> str:
    """Of the columns of which a lake makes its bars. `clock` is an expression."""
    minutes = _minutes(root, f"{where} AND {OF_THE_DAY.format(day=DAY)}", clock, f"{OHLC}, {SUMS}, {EXTREMES}")
    return BARS.format(minutes=minutes)


def plain_minute_bars(root: Path, where: str, clock: str) -> str:
    """Whatever a packet's day, of its last price alone: three or four columns less to read."""
    return PLAIN_BARS.format(minutes=_minutes(root, where, clock, f"{OHLC}, {SUMS}"))


def minute_prices(root: Path, where: str, clock: str) -> str:
    """Without what is beside open, high, low and close."""
    return PRICES.format(minutes=_minutes(root, where, clock, OHLC))


def day_bars(root: Path, where: str) -> str:
    return DAYS.format(columns=f"{OHLC}, {SUMS}", files=files_of(root), where=where)


def newest(root: Path, where: str) -> str:
    """Of all instruments, on a day of one stream, where `seq` names a row: a quarter of what `books` takes."""
    return NEWEST.format(files=files_of(root), where=where)


def books(root: Path, where: str) -> str:
    """The same where a range of tokens is asked for: it takes two thirds of what `newest` takes."""
    return BOOKS.format(files=files_of(root), where=where)


def _minutes(root: Path, where: str, clock: str, columns: str) -> str:
    return MINUTES.format(clock=clock, columns=columns, files=files_of(root), where=where, day=DAY)
