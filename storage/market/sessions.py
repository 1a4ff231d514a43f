"""When each exchange trades, with the date from which it holds and where that is said. Pure.

Sessions differ by exchange and by kind of instrument. They are what bars and reports go by. Capture goes by the hours
around them, `capture_hours`: listening to a closed exchange costs nothing, and ticks that were not captured cannot be
had again.

A date before the first row of an exchange gets that row.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from storage.market.exchanges import COMMODITIES, CURRENCIES, EQUITIES, EQUITY_DERIVATIVES, is_scheduled
from storage.market.hours import END_OF_DAY, Hours, shifted

BEFORE_TRADING: Final = dt.timedelta(minutes=20)
"""Capture begins so long before continuous trading: the pre-open session takes the last 15 minutes of it."""
AFTER_TRADING: Final = dt.timedelta(minutes=45)
"""… and goes on so long after it: the post-close session of NSE and BSE ends half an hour after it."""

_NEW_YORK: Final = ZoneInfo("America/New_York")
_ALWAYS: Final = dt.date(1990, 1, 1)


class Phase(StrEnum):
    """What an exchange does in a session."""

    PRE_OPEN = "pre-open"
    CONTINUOUS = "continuous"
    AUCTION = "auction"
    POST_CLOSE = "post-close"


class InstrumentKind(StrEnum):
    """A kind of instrument, as far as sessions differ by it."""

    SHARE = "share"
    UNDERLYING = "share with derivatives"
    INDEX = "index"
    FUTURE = "future"
    OPTION = "option"


class TradingSession(NamedTuple):
    """A stretch of a day, in IST."""

    phase: Phase
    hours: Hours


@dataclass(frozen=True)
class _Row:
    """Sessions of these exchanges and kinds from `since` on. `summer`: while New York is on summer time.

    `doubtful_stop` is a later end of trading that other sources give; capture goes by it.
    """

    exchanges: tuple[str, ...]
    kinds: tuple[InstrumentKind, ...]
    since: dt.date
    sessions: tuple[TradingSession, ...]
    source: str
    summer: tuple[TradingSession, ...] | None = None
    doubtful_stop: dt.time | None = None


def _session(phase: Phase, start: str, stop: str) -> TradingSession:
    return TradingSession(phase, Hours(dt.time.fromisoformat(start), dt.time.fromisoformat(stop)))


_PRE_OPEN: Final = _session(Phase.PRE_OPEN, "09:00", "09:15")
_POST_CLOSE: Final = _session(Phase.POST_CLOSE, "15:40", "16:00")


def _continuous(start: str, stop: str) -> TradingSession:
    return _session(Phase.CONTINUOUS, start, stop)


_ROWS: Final = (
    _Row(
        EQUITIES,
        tuple(InstrumentKind),
        dt.date(2010, 10, 18),
        (_PRE_OPEN, _continuous("09:15", "15:30"), _POST_CLOSE),
        "NSE and BSE, market timings; the pre-open session began on this day",
    ),
    _Row(
        EQUITIES,
        (InstrumentKind.UNDERLYING,),
        dt.date(2026, 8, 3),
        (_PRE_OPEN, _continuous("09:15", "15:15"), _session(Phase.AUCTION, "15:15", "15:35"), _POST_CLOSE),
        "NSE, circulars of May 2026: closing auction session for stocks that have derivatives",
    ),
    _Row(
        EQUITY_DERIVATIVES,
        tuple(InstrumentKind),
        dt.date(2010, 10, 18),
        (_continuous("09:15", "15:30"),),
        "NSE and BSE, market timings",
    ),
    _Row(
        EQUITY_DERIVATIVES,
        (InstrumentKind.FUTURE,),
        dt.date(2025, 12, 8),
        (_PRE_OPEN, _continuous("09:15", "15:30")),
        "NSE, NSE/FAOP/71092 of 2025-11-03; BSE, notice 20251110-40: pre-open session for futures",
    ),
    _Row(
        EQUITY_DERIVATIVES,
        tuple(InstrumentKind),
        dt.date(2026, 8, 3),
        (_continuous("09:15", "15:40"),),
        "NSE, circular of 2026-05-29: equity derivatives until 15:40; BSE likewise",
    ),
    _Row(
        EQUITY_DERIVATIVES,
        (InstrumentKind.FUTURE,),
        dt.date(2026, 8, 3),
        (_PRE_OPEN, _continuous("09:15", "15:40")),
        "the same: the pre-open session of futures stays as it was",
    ),
    _Row(
        CURRENCIES,
        tuple(InstrumentKind),
        _ALWAYS,
        (_continuous("09:00", "17:00"),),
        "NSE, NSE/CD/44122 of 2020-04-14, which took cross-currency pairs from 19:30 to 17:00 for the time being; "
        "brokers' pages still say 19:30",
        doubtful_stop=dt.time(19, 30),
    ),
    _Row(
        COMMODITIES,
        tuple(InstrumentKind),
        _ALWAYS,
        (_continuous("09:00", "23:55"),),
        "MCX and NSE, market timings of commodity derivatives",
        summer=(_continuous("09:00", "23:30"),),
    ),
)

_ROUND_THE_CLOCK: Final = (TradingSession(Phase.CONTINUOUS, Hours(dt.time(), END_OF_DAY)),)


@lru_cache(maxsize=1024)
def usual_sessions(exchange: str, date: dt.date) -> Mapping[InstrumentKind, tuple[TradingSession, ...]]:
    """The usual sessions of each kind of instrument, whether or not it trades on that day; sorted, without overlaps.

    An exchange without a row trades from 00:00 to 24:00.
    """
    if not is_scheduled(exchange):
        return dict.fromkeys(InstrumentKind, _ROUND_THE_CLOCK)
    found: dict[InstrumentKind, tuple[TradingSession, ...]] = {}
    for kind in InstrumentKind:
        row = _row(exchange, kind, date)
        found[kind] = row.summer if row.summer is not None and _is_summer_in_new_york(date) else row.sessions
    return found


def trading_hours(exchange: str, date: dt.date) -> Hours:
    """From the first to the last minute of continuous trading, of whatever kind of instrument, on a usual day."""
    continuous = [
        session.hours
        for sessions in usual_sessions(exchange, date).values()
        for session in sessions
        if session.phase is Phase.CONTINUOUS
    ]
    return Hours(min(hours.start for hours in continuous), max(hours.stop for hours in continuous))


def capture_hours(exchange: str, date: dt.date) -> Hours:
    """The hours around `trading_hours` in which its stream is captured, with what other sources say of its end."""
    hours = trading_hours(exchange, date)
    stop = hours.stop
    if is_scheduled(exchange):
        stop = max(stop, _row(exchange, InstrumentKind.SHARE, date).doubtful_stop or stop)
    return around(Hours(hours.start, stop))


def around(trading: Hours) -> Hours:
    """The hours of capture that belong to hours of trading; within the day."""
    return Hours(shifted(trading.start, -BEFORE_TRADING), shifted(trading.stop, AFTER_TRADING))


def _row(exchange: str, kind: InstrumentKind, date: dt.date) -> _Row:
    rows = [row for row in _ROWS if exchange in row.exchanges and kind in row.kinds]
    return next((row for row in reversed(rows) if row.since <= date), rows[0])


def _is_summer_in_new_york(date: dt.date) -> bool:
    return bool(dt.datetime.combine(date, dt.time(12), _NEW_YORK).dst())
