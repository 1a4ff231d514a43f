"""What is asked of a feed, as a user says it: checked, and made one."""

import datetime as dt
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, get_args

from queries.errors import FeedError
from queries.feed.days import Asked, BarsIn, OnGap, Position, Progress
from queries.feed.feed import TickFeed
from queries.feed.points import Bar
from queries.feed.tick import ALL, CACHED
from queries.history import Moment, Symbol, Symbols, TimeRange, chosen, days_of, moment_of, symbol_list, time_range
from queries.lake import LakeState
from queries.quality import Candles, all_candles, width_of_candles
from storage.clock import IST, us_of

DEFAULT: Final = (
    "received_at",
    "exchange_timestamp",
    "last_trade_time",
    "instrument_token",
    "symbol",
    "last_price",
    "volume_traded",
    "oi",
    "bid_price_1",
    "ask_price_1",
    CACHED,
)
"""The columns of ticks that strategies use."""


def feed(
    look: Callable[[], LakeState],
    bars_in: BarsIn,
    symbols: Symbols | None,
    start: Moment | None,
    stop: Moment | None,
    *,
    columns: Sequence[str] | Literal["all"] | None,
    bars: str | dt.timedelta | None,
    ticks: bool,
    on_gap: OnGap,
    warmup: Candles | Mapping[str, Candles] | None,
    follow: bool,
    position: Position | None,
    progress: Callable[[Progress], object] | None,
) -> TickFeed:
    """As `FeedMethods.feed` says it; `look` gives the state of the lake, `bars_in` bars as `Asked` needs them."""
    when = time_range(start, stop)
    if follow and stop is not None:
        raise FeedError(f"stop: got {stop!r} with follow=True, expected none: it goes on until it is closed")
    if follow:
        when = TimeRange(when.start, None)  # a bare date as the start alone is not the day alone
    if on_gap not in get_args(OnGap):
        raise FeedError(f"on_gap: got {on_gap!r}, expected one of {', '.join(get_args(OnGap))}")
    if progress is not None and not callable(progress):
        raise FeedError(f"progress: got {progress!r}, expected a function, such as print")
    if not ticks and bars is None and on_gap == "skip":
        raise FeedError("ticks: got False without bars, expected bars='1m', say: else there is nothing to give")
    state = look()
    if symbols is not None:
        symbols = symbol_list(symbols)
        chosen(state, symbols, days_of(state, when))
    asked = Asked(symbols, when, _columns(columns), ticks, bars, on_gap, bars_in)
    first = when.start or next((dt.datetime.combine(day, dt.time(), IST) for day in state.dates("ticks")), None)
    before = [] if warmup is None else list(_warmup(state, warmup, symbols, first))
    place = None if position is None else _position(position)
    return TickFeed(look, asked, follow=follow, warmup=before, position=place, progress=progress)


def _columns(columns: Any) -> tuple[str, ...]:
    """Raises FeedError for a column that there is not."""
    if columns is None:
        return DEFAULT
    if isinstance(columns, str) and columns == "all":
        return ALL
    several = [columns] if isinstance(columns, str) or not isinstance(columns, Iterable) else list(columns)
    wanted = tuple(dict.fromkeys(name if isinstance(name, str) else str(name) for name in several))
    if not wanted or set(wanted) - set(ALL):
        got = ", ".join(repr(name) for name in wanted if name not in ALL) or "none"
        raise FeedError(f"columns: got {got}, expected some of {', '.join(ALL)}; or 'all'")
    return wanted


def _position(position: Any) -> Position:
    """The same, also if it was kept as a plain tuple, as JSON does, or without what has a default. Raises FeedError,
    MomentError."""
    if isinstance(position, Sequence) and len(position) in (3, 5, len(Position._fields)):
        values: list[Any] = [*position, *(None, 0, None)[len(position) - 3 :]]
        received_at, stream, number, settled, given, streams = values
        pairs: list[Any] = [
            each if isinstance(each, Sequence) and len(each) == 2 else (None, None) for each in streams or ()
        ]
        texts, numbers = [stream, *(name for name, _ in pairs)], [number, given, *(seq for _, seq in pairs)]
        if all(isinstance(each, str) for each in texts) and all(hasattr(each, "__index__") for each in numbers):
            return Position(
                moment_of(received_at, "position"),
                stream,
                operator.index(number),
                None if settled is None else moment_of(settled, "position"),
                operator.index(given),
                None if streams is None else tuple((name, operator.index(seq)) for name, seq in pairs),
            )
    raise FeedError(f"position: got {position!r}, expected ({', '.join(Position._fields)}), the position of a feed")


def _named(state: LakeState, name: str, first: dt.datetime | None) -> str:
    """The symbol as bars have it. Raises SymbolError, FeedError."""
    if not state.dates("instruments"):
        return name
    days = days_of(state, TimeRange(first, None))
    names = {symbol for each in chosen(state, name, days).resolved for _, symbol in each.instruments}
    if len(names) != 1 or None in names:
        raise FeedError(f"warmup: got candles for {name!r}, expected the symbol of one instrument, such as NSE:INFY")
    return str(*names)


def _warmup(
    state: LakeState,
    warmup: Candles | Mapping[str, Candles],
    symbols: Sequence[Symbol] | None,
    first: dt.datetime | None,
) -> Iterator[Bar]:
    """The candles that closed until then, as bars, by time and symbol. Raises CandlesError, FeedError."""
    if isinstance(warmup, Mapping) and not {"data", "candles", "status"} & warmup.keys():
        by_symbol: Mapping[str, Candles] = warmup
    else:
        if symbols is None or len(symbols) != 1 or not isinstance(symbols[0], str):
            raise FeedError(
                f"warmup: got candles for {symbols!r}, expected {{symbol: candles}}, or a feed of one symbol"
            )
        by_symbol = {symbols[0]: warmup}
    found = []
    for name, candles in by_symbol.items():
        symbol = _named(state, name, first)
        rows = all_candles(candles)
        width = width_of_candles(rows)
        for row in rows.to_pylist():
            time = row.pop("time").astimezone(IST) + width
            if first is None or time <= first:
                found.append(Bar(symbol=symbol, time=time, **row))
    yield from sorted(found, key=lambda bar: (us_of(bar.time), str(bar.symbol)))
