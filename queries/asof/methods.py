"""The helpers of a lake that this package gives, as methods."""

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from queries.bars import BarMethods
from queries.history import Moment, Symbols, time_range
from queries.lake import Macro, Overloads, Result

if TYPE_CHECKING:
    from queries.asof.find import Found
    from queries.asof.inputs import Rows
    from queries.asof.measures import Price


def _latest() -> Overloads:
    from queries.asof.latest import OVERLOADS

    return OVERLOADS


def _book() -> Overloads:
    from queries.asof.book import BOOK_OVERLOADS

    return BOOK_OVERLOADS


def _books() -> Overloads:
    from queries.asof.book import BOOKS_OVERLOADS

    return BOOKS_OVERLOADS


class AsofMethods(BarMethods):
    """What was known at a moment, by the clock of receipt: rows received at or before it, of its IST day only.

    `moment` is one or a list, and now if it is left out; a bare date is the whole day, as it ended. Rows come by
    symbol, then moment. Macros of the same names have `symbols` and `moment`, and take one moment.
    """

    macros: ClassVar[Sequence[Macro]] = (
        *BarMethods.macros,
        Macro("latest", _latest),
        Macro("book", _book),
        Macro("books", _books),
    )

    def find(self, symbols: Symbols, day: Moment | Sequence[Moment] | None = None) -> "Found":
        """What the symbols are on that day, those days or today: found, in part (on some of the days), or not found,
        and then which names of the list are near. Raises SymbolError only for what is no symbol."""
        from queries.asof.find import find

        return find(self.look(), symbols, day)

    def latest(
        self,
        symbols: Symbols | None = None,
        moment: Moment | Sequence[Moment] | None = None,
        columns: Sequence[str] | None = None,
    ) -> Result:
        """The last row of each instrument, or of all there are: `moment`, and all columns of `ticks`, or these.

        An instrument of which nothing was received on that day up to the moment has no row. The first packet after a
        subscription is what the broker had cached; its `exchange_timestamp` may be of an earlier day.
        """
        from queries.asof.latest import latest

        return latest(self.look(), symbols, moment, columns)

    def book(self, symbols: Symbols, moment: Moment | Sequence[Moment] | None = None) -> Result:
        """The book, one row a level, the best first: moment, received_at, exchange_timestamp, instrument_token,
        symbol, level, bid_orders, bid_quantity, bid_price, ask_price, ask_quantity, ask_orders.

        A level that is empty on a side is null there. There is no row where no book was received on that day up to the
        moment: an index has none, nor has what was captured in `ltp` or `quote` mode.
        """
        from queries.asof.book import book

        return book(self.look(), symbols, moment)

    def books(self, symbols: Symbols, moment: Moment | Sequence[Moment] | None = None) -> Result:
        """The same with one row a symbol and moment: all levels of both sides, by the names that they have in `ticks`
        (`bid_price_1`, …), null where they are empty."""
        from queries.asof.book import books

        return books(self.look(), symbols, moment)

    def asof(
        self,
        left: "Rows",
        right: "Rows",
        tolerance: dt.timedelta | float | None = None,
        *,
        on: str | tuple[str, str] = "received_at",
        by: str | Sequence[str] = "symbol",
    ) -> Result:
        """Each row of `left` with that row of `right` which was the last of its symbol at that instant or before.

        Both are a Result, an Arrow table, a pandas or Polars frame, a mapping of columns, SQL text, or the name of a
        table. `on` is the column of times, or a pair of them, `left`'s first; `by` what must be equal, perhaps several
        columns or none. Where there is no such row, or it is older than `tolerance` (seconds or a timedelta), the
        columns of `right` are null. Of several rows of `right` at one instant it is any one. A column of `right` whose
        name `left` has too gets `_right` behind it. Times without a zone are IST. Rows come by symbol, then time.
        """
        from queries.asof.join import asof

        return asof(self.look(), left, right, tolerance, on, by)

    def spread(self, symbols: Symbols, start: Moment | None = None, stop: Moment | None = None) -> Result:
        """One row a quote: symbol, instrument_token, received_at, bid, ask, mid, spread, spread_bps.

        A quote is a packet with a book. mid = (bid + ask) / 2, spread = ask - bid in rupees, spread_bps = 10,000 ×
        spread / mid. Where a side is empty, its price and all that needs it are null.
        """
        from queries.asof.measures import spread

        return spread(self.look(), symbols, time_range(start, stop))

    def imbalance(
        self, symbols: Symbols, start: Moment | None = None, stop: Moment | None = None, *, levels: int = 1
    ) -> Result:
        """One row a quote: symbol, instrument_token, received_at, bid_quantity, ask_quantity, imbalance.

        The quantities are sums of the best `levels` (1 to 5) levels, an empty one counting 0. imbalance = (bid_quantity
        - ask_quantity) / (bid_quantity + ask_quantity): 1 if there are only bids, -1 if only asks, null if neither.
        """
        from queries.asof.measures import imbalance

        return imbalance(self.look(), symbols, time_range(start, stop), levels)

    def returns(
        self,
        symbols: Symbols,
        width: str | dt.timedelta = "1m",
        start: Moment | None = None,
        stop: Moment | None = None,
        *,
        price: "Price" = "mid",
    ) -> Result:
        """Logarithmic returns over intervals of `width`: symbol, instrument_token, time, price, log_return.

        Intervals are counted from midnight IST and belong to their end: `time` is the end, and `price` that of the last
        packet received in (time - width, time], its mid (null where a side is empty; packets without a book are passed
        over) or its last price. log_return = ln(price / the price one width before); null where the interval before has
        no packet or either price is null, so none reaches over a gap or from one day into the next. An interval without
        a packet has no row. Nothing is annualised. Raises WidthError, too.
        """
        from queries.asof.measures import returns

        return returns(self.look(), symbols, width, time_range(start, stop), price)

    def realized_volatility(
        self,
        symbols: Symbols,
        width: str | dt.timedelta = "5m",
        start: Moment | None = None,
        stop: Moment | None = None,
        *,
        price: "Price" = "mid",
    ) -> Result:
        """Of each day: symbol, instrument_token, date, returns, realized_volatility.

        realized_volatility = sqrt(sum of log_return²) over the log returns of `returns(symbols, width)` that are not
        null, of which `returns` is the number: of the captured part of that day, without the night; null if there are
        none. It is not annualised: for whole sessions multiply by sqrt(252), say.
        """
        from queries.asof.measures import realized_volatility

        return realized_volatility(self.look(), symbols, width, time_range(start, stop), price)

    def markout(
        self,
        events: "Rows",
        horizons: float | dt.timedelta | Sequence[float | dt.timedelta] = (-5, 0, 1, 5, 30, 60),
        *,
        tolerance: float | dt.timedelta = 60,
        symbol: str = "symbol",
        time: str = "received_at",
    ) -> Result:
        """The mid some seconds before (negative) and after events; one row an event and horizon: the event's columns,
        horizon (seconds), quoted_at, mid, change.

        `events` are rows as `asof` takes them, with a column of names and one of times. The mid is that of the last
        quote received at or before the event's time + horizon, on that day; null if a side of it is empty, if there is
        none, or if it is older then than `tolerance`: in a gap, after the close, in the future. change = mid - mid at
        horizon 0, in rupees, whether 0 is asked for or not. Raises SymbolError for a name that is none.
        """
        from queries.asof.markout import markout

        return markout(self.look(), events, horizons, tolerance, symbol, time)
