"""Data feeds for backtrader: bars of an instrument, and its ticks with bid and ask.

backtrader keeps times as days since the year 1 in UTC, as floats: steps of some 10 µs, so of two ticks nearer to each
other the times may be equal; their order stays. `data.datetime.datetime(0)` shows them in IST, without a zone.
"""

import datetime as dt
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Final

from queries.adapters.extras import needed
from queries.bars import Clock, Measure, width_of
from queries.errors import AdapterError
from queries.feed import FeedMethods, FeedTick
from queries.history import Moment, Symbols

Row = tuple[dt.datetime, dict[str, float | None]]
_NAN: Final = float("nan")
_SECOND_US: Final = 1_000_000
_MINUTE_US: Final = 60 * _SECOND_US
_UNITS: Final = {"Days": 24 * 60 * _MINUTE_US, "Minutes": _MINUTE_US, "Seconds": _SECOND_US}


def backtrader_bars(
    lake: FeedMethods,
    symbol: Symbols,
    width: str | dt.timedelta,
    start: Moment | None = None,
    stop: Moment | None = None,
    *,
    clock: Clock = "received",
    **params: Any,
) -> Any:
    """A data feed of bars for `cerebro.adddata`, each given at its end: open, high, low, close, volume, openinterest.

    They are those of `Lake.bars`; NaN is what an instrument does not carry. `params` are backtrader's own. Raises
    MissingLibraryError, AdapterError for several instruments or a width that is no time, and what `Lake.bars` does.
    """
    bt = needed("backtrader", "backtrader")
    measured = width_of(width)
    if measured.measure is not Measure.TIME:
        raise AdapterError(f"width: got {width!r}, expected a time, such as 1m")
    unit = next(unit for unit, size in _UNITS.items() if not measured.size % size)
    table = lake.bars(symbol, width, start, stop, clock=clock, label="close").arrow().sort_by("time")
    times = table["time"].to_pylist()
    if len(set(times)) < len(times):
        raise AdapterError(f"symbol: got {symbol!r}, several instruments, expected one: a feed each")
    names = {"open": "open", "high": "high", "low": "low", "close": "close", "volume": "volume", "openinterest": "oi"}
    rows = table.select(list(names.values())).rename_columns(list(names)).to_pylist()
    chosen = {"timeframe": getattr(bt.TimeFrame, unit), "compression": measured.size // _UNITS[unit], **params}
    return _classes()[0](rows=lambda: iter(zip(times, rows, strict=True)), **chosen)


def backtrader_ticks(
    lake: FeedMethods, symbol: Symbols, start: Moment | None = None, stop: Moment | None = None, **params: Any
) -> Any:
    """A data feed of ticks for `cerebro.adddata`, each given when it was received, with the lines bid, ask and
    volume_traded beside the usual ones.

    Open, high, low and close are the last price. A packet tells the volume of the day so far, in volume_traded; volume
    is 0, which bars that backtrader makes of ticks then have. What the broker had cached is left out. NaN is what the
    packet does not carry. Raises MissingLibraryError, and what `Lake.feed` does.
    """
    bt = needed("backtrader", "backtrader")

    def rows() -> Iterator[Row]:
        for tick in lake.feed(symbol, start, stop):
            if isinstance(tick, FeedTick) and not tick.cached:
                price = tick.last_price
                yield (
                    tick.received_at,
                    {
                        **dict.fromkeys(("open", "high", "low", "close"), price),
                        "volume": 0.0,
                        "openinterest": tick.oi,
                        "bid": tick.bid_price_1 or None,  # 0: that side is empty
                        "ask": tick.ask_price_1 or None,
                        "volume_traded": tick.volume_traded,
                    },
                )

    return _classes()[1](rows=rows, **{"timeframe": bt.TimeFrame.Ticks, **params})


@cache
def _classes() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Of bars and of ticks: made when backtrader is there."""
    bt = needed("backtrader", "backtrader")

    class LakeBars(bt.feed.DataBase):  # type: ignore[misc, name-defined]
        params = (("rows", None), ("tz", "Asia/Kolkata"))

        def start(self) -> None:
            super().start()
            self._rows = self.p.rows()

        def _load(self) -> bool:
            found = next(self._rows, None)
            if found is None:
                return False
            time, values = found
            self.lines.datetime[0] = bt.date2num(time)
            for name, value in values.items():
                getattr(self.lines, name)[0] = _NAN if value is None else value
            return True

    class LakeTicks(LakeBars):
        lines = ("bid", "ask", "volume_traded")

    return LakeBars, LakeTicks
