"""The feed of a lake, as a method. What it needs is loaded when a feed is asked for, not when a lake is opened."""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from queries.history import Moment, Symbols
from queries.quality import QualityMethods

if TYPE_CHECKING:
    from queries.feed.days import OnGap, Position, Progress
    from queries.feed.feed import TickFeed
    from queries.quality import Candles


class FeedMethods(QualityMethods):
    """What was captured, in the order in which it was received."""

    def feed(
        self,
        symbols: Symbols | None = None,
        start: Moment | None = None,
        stop: Moment | None = None,
        *,
        columns: Sequence[str] | Literal["all"] | None = None,
        bars: str | dt.timedelta | None = None,
        ticks: bool = True,
        on_gap: "OnGap" = "skip",
        warmup: "Candles | Mapping[str, Candles] | None" = None,
        follow: bool = False,
        position: "Position | None" = None,
        progress: "Callable[[Progress], object] | None" = None,
    ) -> "TickFeed":
        """The ticks of instruments, None for all, in the order (received_at, stream, seq), as one of `TickFeed`'s
        forms; each day's by that day's instrument list. A range is that of the other helpers.

        `columns` of ticks are those that strategies use (`queries.feed.arguments.DEFAULT`), "all", or these; `cached`
        marks packets that tell of before their connection asked. `bars="1m"` adds the bars of that width as they close,
        by the clock of receipt; with `ticks=False` these come alone. `on_gap` says what is done where nothing could be
        received: "skip" nothing, "mark" gives an `Outage` where it ends, "raise" raises OutageError there.

        `warmup` are candles, as `compare` reads them, of the one symbol, or by symbol: those that closed before the
        range begins come first, as bars. `follow` goes on with what is captured from now on, until `close`. `position`,
        of another feed of the same, goes on behind it. `progress` is called now and then.

        Raises SymbolError, MomentError, WidthError, CandlesError, and FeedError for what does not go together.
        """
        from queries.feed.arguments import feed

        return feed(
            self.look,
            self._bars_between,
            symbols,
            start,
            stop,
            columns=columns,
            bars=bars,
            ticks=ticks,
            on_gap=on_gap,
            warmup=warmup,
            follow=follow,
            position=position,
            progress=progress,
        )

    def _bars_between(
        self, symbols: Symbols, width: str | dt.timedelta, start: dt.datetime, stop: dt.datetime
    ) -> pa.Table:
        return self.bars(symbols, width, start, stop, clock="received", label="close").arrow()
