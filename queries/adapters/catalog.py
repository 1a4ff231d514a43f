"""A catalog of NautilusTrader, written by its own API: its layout differs from version to version."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from queries.adapters.extras import needed
from queries.adapters.nautilus import depths_of, nautilus_instrument, quotes_of, trades_of
from queries.adapters.packets import Packets, days_between, facts_of, packets_in, some_at_once
from queries.bars import Measure, width_of
from queries.errors import AdapterError
from queries.feed import FeedMethods, Progress
from queries.history import Moment, Symbols, TimeRange, symbol_list
from storage.clock import nanoseconds
from storage.schema import DEPTH_LEVELS

_UNITS: Final = {"DAY": 86_400_000_000, "HOUR": 3_600_000_000, "MINUTE": 60_000_000, "SECOND": 1_000_000}
_BEST: Final = [f"{side}_{what}_1" for side in ("bid", "ask") for what in ("price", "quantity")]
_BOOK: Final = [
    f"{side}_{what}_{level}"
    for side in ("bid", "ask")
    for what in ("price", "quantity", "orders")
    for level in range(1, DEPTH_LEVELS + 1)
]


def write_catalog(
    lake: FeedMethods,
    path: str | Path,
    symbols: Symbols,
    start: Moment | None = None,
    stop: Moment | None = None,
    *,
    bars: str | dt.timedelta | None = None,
    depth: bool = False,
    progress: Callable[[Progress], object] | None = None,
) -> Any:
    """Write instruments, quotes and trades into a ParquetDataCatalog in a new folder. Returns the catalog.

    An instrument is in it once a day, with the facts of that day and its beginning as `ts_init`. Of everything else
    `ts_init` is when it was received, `ts_event` the exchange's time where that is earlier. Trades are estimates, see
    `Lake.trades`. `depth` adds five levels of the book, which take many times as long to write as quotes. `bars="1m"`
    adds the bars of `Lake.bars` by the clock of receipt, at their ends, as `INFY.NSE-1-MINUTE-LAST-EXTERNAL`.

    Some instruments' day is in memory at a time. `progress` is called when they are written, with the day and how many
    packets there were so far. Raises MissingLibraryError; AdapterError for an index, a folder that is not empty, or a
    width that Nautilus has not; and what `Lake.feed` does.
    """
    persistence = needed("nautilus_trader.persistence.catalog", "nautilus")
    folder = Path(path)
    if folder.exists() and any(folder.iterdir()):
        raise AdapterError(f"path: got {folder}, which is not empty, expected a new folder")
    spec = None if bars is None else _spec(bars)
    symbols = symbol_list(symbols)
    parts = days_between(lake, symbols, start, stop)
    folder.mkdir(parents=True, exist_ok=True)
    catalog = persistence.ParquetDataCatalog(str(folder))
    packets_done = 0
    for number, (day, part) in enumerate(parts, 1):
        for some in some_at_once(facts_of(lake, symbols, day)):
            found = list(packets_in(lake, some, part, _BOOK if depth else _BEST))
            rows = {} if bars is None else _bars_of(lake, found, bars, part)
            for packets in found:
                instrument = nautilus_instrument(packets.facts, day)
                made = [[instrument], quotes_of(packets, instrument), trades_of(packets, instrument)]
                if depth:
                    made.append(depths_of(packets, instrument))
                if packets.facts["symbol"] in rows:
                    made.append(_nautilus_bars(rows[packets.facts["symbol"]], instrument, spec))
                for each in filter(None, made):
                    catalog.write_data(each)
                packets_done += len(packets)
            if progress is not None:
                progress(Progress(day, number, len(parts), packets_done))
    return catalog


def _spec(width: str | dt.timedelta) -> str:
    measured = width_of(width)
    if measured.measure is not Measure.TIME:
        raise AdapterError(f"bars: got {width!r}, expected a time, such as 1m")
    unit = next(unit for unit, size in _UNITS.items() if not measured.size % size)
    spec = f"{measured.size // _UNITS[unit]}-{unit}-LAST"
    try:
        needed("nautilus_trader.model.data", "nautilus").BarSpecification.from_str(spec)
    except ValueError as error:
        raise AdapterError(f"bars: got {width!r}, which Nautilus has not: {error}") from error
    return f"{spec}-EXTERNAL"


def _bars_of(
    lake: FeedMethods, found: Sequence[Packets], width: str | dt.timedelta, part: TimeRange
) -> dict[str, list[list[Any]]]:
    """By symbol, when each bar ends, its prices and its volume."""
    if not found:
        return {}
    tokens = [packets.facts["instrument_token"] for packets in found]
    bars = lake.bars(tokens, width, part.start, part.stop, clock="received", label="close").arrow()
    rows: dict[str, list[list[Any]]] = {}
    names = ("symbol", "time", "open", "high", "low", "close", "volume")
    for symbol, *row in zip(*(bars[name].to_pylist() for name in names), strict=True):
        rows.setdefault(symbol, []).append(row)
    return rows


def _nautilus_bars(rows: Sequence[Sequence[Any]], instrument: Any, spec: str | None) -> list[Any]:
    model = needed("nautilus_trader.model", "nautilus")
    bar_type = needed("nautilus_trader.model.data", "nautilus").BarType.from_str(f"{instrument.id}-{spec}")
    return [
        model.Bar(
            bar_type,
            *(model.Price(each, instrument.price_precision) for each in prices),
            model.Quantity(volume or 0, 0),
            ended := nanoseconds(time),
            ended,
        )
        for time, *prices, volume in rows
    ]
