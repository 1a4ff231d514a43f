"""The helpers of a lake that this package gives, as methods."""

import datetime as dt
from typing import TYPE_CHECKING, Final

from queries.arguments import is_whole
from queries.errors import QueryError
from queries.history import Moment, Symbol, Symbols, day_of
from queries.lake import LakeState, Result
from queries.options import OptionMethods
from storage.clock import IST

if TYPE_CHECKING:
    from queries.quality.candles import Candles
    from queries.quality.comparison import Comparison
    from queries.quality.coverage import DayCoverage

SILENT_SECONDS: Final = 60.0
LATENCY_BUCKET_SECONDS: Final = 900


class QualityMethods(OptionMethods):
    """What was captured of a day and what was missed, and how it compares.

    In an interval an instrument is one of: not subscribed, disconnected, not yet served, cached packet only, silent (it
    was listened to, and for longer than `silent` seconds nothing came), served. Several connections count together.
    """

    def coverage(self, day: Moment, symbols: Symbols | None = None, *, silent: float = SILENT_SECONDS) -> Result:
        """A row for each instrument: symbol, instrument_token, packets, first_packet, last_packet, and the seconds in
        each state. Together they are the day from the first start of the service, or the opening of the instrument's
        exchange, to its last end or the closing; up to now. Raises MomentError, SymbolError and QueryError."""
        state = self.look()
        rows = _coverage(state, day, symbols, silent).totals()
        return state.sql(f"FROM {state.rows_view('coverage', rows).name}")

    def intervals(self, day: Moment, symbols: Symbols | None = None, *, silent: float = SILENT_SECONDS) -> Result:
        """What `coverage` adds up, one row an interval: as `gaps`, with those in which the instrument was served."""
        return self._intervals(day, symbols, silent, served=True)

    def gaps(self, day: Moment, symbols: Symbols | None = None, *, silent: float = SILENT_SECONDS) -> Result:
        """The intervals in which an instrument was not served: symbol, instrument_token, start, stop, seconds, state,
        and what was missed, as far as the next packet shows it.

        `missed`: whether that shows a change; null if it cannot say, or there is none. `volume_missed` is at least what
        traded meanwhile, `high_missed` and `low_missed` are the day's new extremes, `oi_missed` what open interest
        moved by. Of several intervals in a row in which nothing can be received, the one with most of the hours of
        trading has it all. Raises MomentError, SymbolError and QueryError.
        """
        return self._intervals(day, symbols, silent, served=False)

    def latency(self, day: Moment, *, bucket_seconds: int = LATENCY_BUCKET_SECONDS) -> Result:
        """From the exchange's time to receipt, of the day's live full packets, by connection and time of day: account,
        connection, time, packets, p50_seconds, p90_seconds, p99_seconds, max_seconds; and how many were `not_live`.

        Exchange times are whole seconds, so values are too high by up to one. Raises MomentError and QueryError.
        """
        from queries.connections import DAY_SECONDS, latencies, survey

        if not is_whole(bucket_seconds, 1, DAY_SECONDS):
            raise QueryError(f"bucket_seconds: got {bucket_seconds!r}, expected whole seconds from 1 to {DAY_SECONDS}")
        state = self.look()
        rows = latencies(state, survey(state, day_of(day, "day")), int(bucket_seconds)).table()
        return state.sql(f"FROM {state.rows_view('latency', rows).name}")

    def compare(
        self, symbol: Symbol, day: Moment, candles: "Candles", *, width: str | dt.timedelta | None = None
    ) -> "Comparison":
        """Our bars of one instrument beside the broker's historical candles of that day: what differs, and why.

        `candles` are a frame (pandas, Polars, Arrow), a list of dicts, the path of a CSV file, or the broker's JSON as
        text, dict or path; `queries.quality.candles` says which columns. Their width is the time between two, unless
        `width` says it. Raises CandlesError, too.
        """
        from queries.bars import width_of
        from queries.history import symbol_list
        from queries.quality.candles import read_candles, width_of_candles
        from queries.quality.comparison import comparison

        date = day_of(day, "day")
        theirs = read_candles(candles, date)
        long = width_of_candles(theirs) if width is None else dt.timedelta(microseconds=width_of(width).size)
        symbols = symbol_list(symbol)
        gaps = self.gaps(date, symbols).arrow()
        return comparison(self.look(), symbols, date, self.bars(symbols, long, date).arrow(), theirs, gaps, long)

    def _intervals(self, day: Moment, symbols: Symbols | None, silent: float, *, served: bool) -> Result:
        state = self.look()
        rows = _coverage(state, day, symbols, silent).intervals(served=served)
        return state.sql(f"FROM {state.rows_view('intervals', rows).name}")


def _coverage(state: LakeState, day: Moment, symbols: Symbols | None, silent: float) -> "DayCoverage":
    from queries.history import chosen
    from queries.quality.coverage import DayCoverage

    date = day_of(day, "day")
    tokens = None if symbols is None else chosen(state, symbols, [date]).tokens
    return DayCoverage(state, date, tokens, silent, dt.datetime.now(IST))
