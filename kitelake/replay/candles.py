"""The broker's historical candles of a replayed day: bars of the lake up to the market's clock, and files before it.

Nothing that is received from the market's now on is in an answer: bars go by the time of receipt, and are asked for up
to that moment, so that the last one may be in progress, as with the broker. A file of candles, such as the broker's own
of the weeks before, takes the place of the lake's bars on its days; of the replayed day itself none is taken.
"""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from kitelake.lake import Lake
from kitelake.paper import CandleCall, Instrument
from queries.errors import CandlesError, SymbolError
from queries.quality import Candles, all_candles, width_of_candles
from storage.clock import EPOCH, IST

_WIDTHS: Final = {
    **{f"{n}minute": dt.timedelta(minutes=n) for n in (3, 5, 10, 15, 30, 60)},
    "minute": dt.timedelta(minutes=1),
    "day": dt.timedelta(days=1),
}
_COLUMNS: Final = ("time", "open", "high", "low", "close", "volume", "oi")
_MIDNIGHT: Final = dt.time(0, 0, tzinfo=IST)


class LakeCandles:
    """Answers calls for candles: `PaperBroker(…, candles=LakeCandles(…))`. A call is a query, of some tens of
    milliseconds."""

    def __init__(
        self,
        lake: Lake,
        instruments: Mapping[int, Instrument],
        clock: Callable[[], int],
        files: Mapping[str, Sequence[Candles]] | None = None,
    ) -> None:
        """`clock` is the market's, in microseconds. `files` are candles by symbol (NSE:INFY), each in a form that
        `Lake.compare` takes and of one width. Raises `CandlesError` for those that are none, or of another symbol."""
        self._lake = lake
        self._instruments = instruments
        self._clock = clock
        self._files: dict[tuple[str, dt.timedelta], list[list[Any]]] = {}
        listed = {one.symbol for one in instruments.values()}
        for symbol, several in (files or {}).items():
            if symbol not in listed:
                raise CandlesError(f"candles of {symbol}: got no instrument that is replayed, expected one")
            for candles in several:
                table = all_candles(candles)
                key = (symbol, width_of_candles(table))
                self._files.setdefault(key, []).extend(_rows(table.to_pylist()))

    def __call__(self, call: CandleCall) -> list[list[Any]]:
        """Rows of time, open, high, low, close, volume and oi, by time; a day's time is its midnight."""
        now = EPOCH + dt.timedelta(microseconds=self._clock())
        today = now.astimezone(IST).date()
        symbol, width = self._instruments[call.token].symbol, _WIDTHS[call.interval]
        whole_days = call.interval == "day"
        rows = [row for row in self._files.get((symbol, width), []) if row[0].date() < today]
        filed = {row[0].date() for row in rows}
        rows += [row for row in self._bars(symbol, width, call, now) if row[0].date() not in filed]
        if whole_days:
            rows = [[dt.datetime.combine(row[0].date(), _MIDNIGHT), *row[1:]] for row in rows]
        start = dt.datetime.combine(call.start.astimezone(IST).date(), _MIDNIGHT) if whole_days else call.start
        return sorted((row for row in rows if start <= row[0] <= call.stop), key=lambda row: row[0])

    def _bars(self, symbol: str, width: dt.timedelta, call: CandleCall, now: dt.datetime) -> list[list[Any]]:
        first = dt.datetime.combine(call.start.astimezone(IST).date(), _MIDNIGHT)
        stop = min(now, call.stop + dt.timedelta(days=1))  # the last bar is whole, unless it is in progress
        if stop <= first:
            return []
        try:
            found = self._lake.bars(symbol, width, first, stop, clock="received")
            return _rows(found.arrow().select(_COLUMNS).to_pylist())
        except SymbolError:  # it was not listed then
            return []


def _rows(found: list[dict[str, Any]]) -> list[list[Any]]:
    return [[row["time"].astimezone(IST), *(row[name] for name in _COLUMNS[1:])] for row in found]
