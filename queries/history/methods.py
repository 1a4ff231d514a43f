"""The helpers of a lake that this package gives, as methods."""

import datetime as dt
from collections.abc import Sequence
from typing import ClassVar

from queries.history.bars import MACRO as BARS_MACRO
from queries.history.bars import Clock, Fill, Label, Sessions, bars
from queries.history.moments import Moment, time_range
from queries.history.sessions import SESSIONS
from queries.history.symbols import Symbols
from queries.history.ticks import MACRO as TICKS
from queries.history.ticks import ticks
from queries.history.trades import MACRO as TRADES_MACRO
from queries.history.trades import RELATION as TRADES
from queries.history.trades import trades
from queries.lake import RELATIONS, Macro, Relation, Result, SqlLake


class HistoryMethods(SqlLake):
    """What happened to instruments.

    `symbols` are a name (`NSE:INFY`), a token, `near(name)`, a pattern (`NFO:NIFTY26NOV*`) or a list of these, resolved
    by the instrument list of each day. A range has its `start` and not its `stop`; a bare date as the start alone is
    the whole day; times are IST unless they name a zone. Rows come by symbol, then time. Methods raise SymbolError for
    what resolves to nothing, MomentError for what is no time, and QueryError.
    """

    relations: ClassVar[Sequence[Relation]] = (*RELATIONS, SESSIONS, TRADES)
    macros: ClassVar[Sequence[Macro]] = (TICKS, BARS_MACRO, TRADES_MACRO)

    def ticks(
        self,
        symbols: Symbols,
        start: Moment | None = None,
        stop: Moment | None = None,
        columns: Sequence[str] | None = None,
    ) -> Result:
        """The ticks as they came: all columns of the view `ticks`, or these."""
        return ticks(self.look(), symbols, time_range(start, stop), columns)

    def bars(
        self,
        symbols: Symbols,
        width: str | dt.timedelta,
        start: Moment | None = None,
        stop: Moment | None = None,
        *,
        clock: Clock = "exchange",
        sessions: Sessions = "continuous",
        fill: Fill = "none",
        label: Label = "open",
    ) -> Result:
        """Bars: symbol, time, open, high, low, close, volume, volume_missed, value, vwap, oi, ticks, clock.

        `width` is a time (`30s`, `1m`, `1h`, `1d`) or a size (`100 ticks`, `50000 volume`, `1e7 value`). They are
        aligned to the session of that day, and hold what traded in it, or at any time with `sessions="all"`. Times are
        those of the exchange's last trade as packets say it, or with `clock="received"` those at which a strategy could
        have known. `volume` includes `volume_missed`, what traded while nothing was received; `value` is in rupees.
        Intervals without a trade are left out, or filled with nulls or with the price before. A bar is named by its
        beginning, or with `label="close"` by its end. docs/queries.md has every rule. Raises WidthError, too.
        """
        when = time_range(start, stop)
        return bars(self.look(), symbols, width, when, clock=clock, sessions=sessions, fill=fill, label=label)

    def trades(
        self,
        symbols: Symbols,
        start: Moment | None = None,
        stop: Moment | None = None,
        *,
        clock: Clock = "exchange",
    ) -> Result:
        """Changes of the cumulative volume: symbol, time, price, quantity, value, oi, received_at, clock, …

        An estimate from snapshots: a row is all that traded since the packet before, at the last price.
        """
        return trades(self.look(), symbols, time_range(start, stop), clock)
