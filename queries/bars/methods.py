"""The helpers of a lake that this package gives, as methods."""

import datetime as dt
from collections.abc import Sequence
from typing import ClassVar, Final

import pyarrow as pa

from queries.bars.choices import Clock, Fill, Label, Sessions
from queries.history import DATED_TICKS, HistoryMethods, Moment, Symbols, time_range
from queries.lake import LakeState, Macro, Overloads, Relation, Result


def _bars() -> Overloads:
    from queries.bars.bars import OVERLOADS

    return OVERLOADS


def _trades() -> Overloads:
    from queries.bars.trades import OVERLOADS

    return OVERLOADS


def _sessions(state: LakeState, days: Sequence[dt.date]) -> pa.Table:
    from queries.bars.sessions import sessions_of

    return sessions_of(state, days)


def _all_trades(_: LakeState, __: Sequence[dt.date]) -> str:
    from queries.bars.trades import ALL

    return ALL


_TRADES_KEEP: Final = frozenset({DATED_TICKS.name, "ticks", "sessions"})
RELATIONS: Final = (
    Relation("sessions", _sessions),  # those of all days with ticks
    Relation("trades", _all_trades, _TRADES_KEEP | {"instruments", "events"}, keeps=_TRADES_KEEP),
)


class BarMethods(HistoryMethods):
    """What was traded, as bars and as trades."""

    relations: ClassVar[Sequence[Relation]] = (*HistoryMethods.relations, *RELATIONS)
    macros: ClassVar[Sequence[Macro]] = (*HistoryMethods.macros, Macro("bars", _bars), Macro("trades", _trades))

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
        from queries.bars.bars import bars

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
        from queries.bars.trades import trades

        return trades(self.look(), symbols, time_range(start, stop), clock)
