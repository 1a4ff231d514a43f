"""Bars as pandas frames: for backtesting.py, vectorbt and bt.

Bars are named by their end, so none is seen before it was over. They are those of `Lake.bars`, which has the rules.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final

from queries.adapters.extras import needed
from queries.errors import AdapterError

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]

    from queries.bars import Clock
    from queries.feed import FeedMethods
    from queries.history import Moment, Symbols

_VALUES: Final = ("open", "high", "low", "close", "volume")


def backtesting_frame(
    lake: FeedMethods,
    symbol: Symbols,
    width: str | dt.timedelta,
    start: Moment | None = None,
    stop: Moment | None = None,
    *,
    clock: Clock = "received",
) -> pd.DataFrame:
    """The bars of one instrument for backtesting.py: Open, High, Low, Close, Volume, by their ends in IST.

    backtesting.py refuses missing values, and takes times that are double or out of order without a word: there are
    none here. What carries no volume, as an index, has no column of it. `near` is one instrument: what it is each day.

    Raises AdapterError for several instruments, no bar, or a bar without a price; and what `Lake.bars` does.
    """
    frame = _bars(lake, symbol, width, start, stop, clock, "backtesting")
    double = frame["time"][frame["time"].duplicated()]
    if len(double):
        names = ", ".join(sorted(frame["symbol"].unique())[:5])
        raise AdapterError(
            f"backtesting_frame: got several bars that close at {double.iloc[0]} (of {names}), expected one instrument "
            "and a width of time, such as 1m"
        )
    frame = frame.sort_values("time").set_index("time")[list(_VALUES)]
    if frame["volume"].isna().all():
        frame = frame.drop(columns="volume")
    empty = frame.index[frame.isna().any(axis="columns")]
    if len(empty):
        raise AdapterError(
            f"backtesting_frame: got {len(empty)} bars without a value, the first at {empty[0]}, expected none; "
            "leave that time out of the range"
        )
    return frame.astype(float).rename(columns=str.capitalize)


def wide_frames(
    lake: FeedMethods,
    symbols: Symbols,
    width: str | dt.timedelta,
    start: Moment | None = None,
    stop: Moment | None = None,
    *,
    clock: Clock = "received",
) -> dict[str, pd.DataFrame]:
    """open, high, low, close and volume, each a frame with a row a time and a column a symbol, for vectorbt.

    NaN where an instrument has no bar, or carries no such value. Raises AdapterError if there is no bar, or several of
    an instrument end at one time; and what `Lake.bars` does.
    """
    frame = _bars(lake, symbols, width, start, stop, clock, "vectorbt")
    double = frame[frame.duplicated(["symbol", "time"])]
    if len(double):
        raise AdapterError(
            f"wide_frames: got several bars of {double['symbol'].iloc[0]} that end at {double['time'].iloc[0]}, "
            "expected a width of time, such as 1m"
        )
    return {
        name: frame.pivot(index="time", columns="symbol", values=name).astype(float).sort_index() for name in _VALUES
    }


def price_frame(
    lake: FeedMethods,
    symbols: Symbols,
    width: str | dt.timedelta,
    start: Moment | None = None,
    stop: Moment | None = None,
    *,
    clock: Clock = "received",
) -> pd.DataFrame:
    """The close of each instrument, with the one before where it has no bar, for bt, which fails at a NaN while it
    holds. Before its first bar an instrument has NaN. Raises as `wide_frames` does."""
    return wide_frames(lake, symbols, width, start, stop, clock=clock)["close"].ffill()


def _bars(
    lake: FeedMethods,
    symbols: Symbols,
    width: str | dt.timedelta,
    start: Moment | None,
    stop: Moment | None,
    clock: Clock,
    extra: str,
) -> pd.DataFrame:
    needed("pandas", extra)
    frame = lake.bars(symbols, width, start, stop, clock=clock, label="close").df()
    if frame.empty:
        raise AdapterError(f"got no bar of {symbols!r} from {start} to {stop}, expected some: nothing traded then")
    return frame
