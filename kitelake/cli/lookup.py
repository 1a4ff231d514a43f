"""The commands that look something up in what was captured: sql, bars, book, latest, chain, find."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from kitelake.cli.options import (
    DEFAULT_CONFIG,
    ConfigOption,
    DarkOption,
    DataOption,
    Format,
    FormatOption,
    OutputOption,
    PlotOption,
    data_of,
    drawing_of,
    moment_of,
    newest_day,
    symbols_of,
    until_interrupted,
)
from kitelake.errors import AskError
from queries.errors import QueryError

if TYPE_CHECKING:
    import pyarrow as pa

    from kitelake.cli.options import Drawing
    from kitelake.lake import Lake, Result

SYMBOLS_HELP: Final = (
    "Names (NSE:INFY, or INFY for NSE), patterns ('NFO:NIFTY26NOV*'), tokens, or near:NIFTY for the nearest future of "
    "each day, near2:NIFTY for the second."
)
MOMENT_METAVAR: Final = "TIME"
GAP_DAYS: Final = 10
"""Gaps are looked for on so many days: of more, none would be seen."""

SymbolsArgument = Annotated[list[str], typer.Argument(help=SYMBOLS_HELP, show_default=False)]
SomeSymbolsArgument = Annotated[list[str] | None, typer.Argument(help=SYMBOLS_HELP + " All there are, by default.")]
AtOption = Annotated[
    str | None,
    typer.Option(
        metavar=MOMENT_METAVAR,
        help="As of when, in IST: '2026-11-24 10:15', or 10:15 on the newest day. "
        "By default the newest day that was captured, as it ended or is now.",
    ),
]

BARS: Final = "symbol time open high low close volume volume_missed value:0 vwap:2 oi ticks clock"
"""The columns of a table for people in their order; what is calculated, to so many decimals."""
LATEST: Final = "symbol received_at last_price close volume_traded oi bid_price_1 ask_price_1"
CHAIN: Final = (
    "call_oi call_volume call_iv:4 call_delta:3 call_bid call_ask strike "
    "put_bid put_ask put_delta:3 put_iv:4 put_volume put_oi expiry forward:2 forward_from"
)
FOUND: Final = "asked outcome symbol instrument_token name instrument_type expiry strike lot_size near_matches"


def sql(
    query: Annotated[
        str,
        typer.Argument(
            help="SQL over ticks, instruments, orders, events, quarantine. Of several statements, with `;` between "
            "them, all run and the last one's result is printed."
        ),
    ],
    data: DataOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    output_format: FormatOption = Format.TABLE,
    output: OutputOption = None,
    restricted: Annotated[
        bool,
        typer.Option(
            "--restricted",
            help="Allow one SELECT, DESCRIBE or EXPLAIN over the tables and nothing else: no file, no setting. Within "
            "1 GB of memory, 2 threads and 30 seconds.",
        ),
    ] = False,
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="End the query when it takes longer than this.")
    ] = None,
    plot: PlotOption = None,
    dark: DarkOption = False,
) -> None:
    """Query the captured ticks, including what arrived a moment ago. Times are IST."""
    from kitelake import open as open_lake
    from kitelake.views import check_output, write_result

    drawing = drawing_of(plot, dark, output_format, output)
    with open_lake(data_of(config, data), restricted=restricted, timeout=timeout) as lake:
        check_output(output, lake.root)

        def work() -> None:
            result = lake.sql(query)
            if drawing is None:
                write_result(result, output_format, output)
            else:
                drawing(lake, result)

        until_interrupted(work, lake.interrupt)


def bars(
    symbols: SymbolsArgument,
    width: Annotated[str, typer.Option("--width", "-w", help="30s, 5m, 1h, 1d, '100 ticks', '50000 volume'.")] = "1m",
    start: Annotated[
        str | None,
        typer.Option(
            metavar=MOMENT_METAVAR,
            help="From then on, in IST: '2026-11-24 09:15', a date for that day, or "
            "09:15 on the newest day. By default the newest day that was captured.",
        ),
    ] = None,
    stop: Annotated[str | None, typer.Option(metavar=MOMENT_METAVAR, help="Up to then; alone, all until then.")] = None,
    clock: Annotated[
        Literal["exchange", "received"], typer.Option(help="When it traded, or when it was received.")
    ] = "exchange",
    sessions: Annotated[
        Literal["continuous", "all"], typer.Option(help="Continuous trading, or whatever was captured.")
    ] = "continuous",
    fill: Annotated[
        Literal["none", "null", "previous"], typer.Option(help="What stands where nothing traded.")
    ] = "none",
    label: Annotated[
        Literal["open", "close"], typer.Option(help="A bar's time is its beginning, or its end.")
    ] = "open",
    data: DataOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    output_format: FormatOption = Format.TABLE,
    output: OutputOption = None,
    plot: PlotOption = None,
    dark: DarkOption = False,
) -> None:
    """Make bars: open, high, low, close, volume, value, vwap, open interest.

    For example: `kitelake bars NSE:INFY near:NIFTY --width 5m --start 2026-11-24 --stop '2026-11-24 12:00'`
    """

    def times(lake: "Lake") -> tuple[str | None, str | None]:
        begin = start or (None if stop else str(newest_day(lake)))
        return moment_of(lake, begin), moment_of(lake, stop)

    def ask(lake: "Lake") -> "Result":
        rows = lake.bars(
            symbols_of(symbols),
            width,
            *times(lake),
            clock=clock,
            sessions=sessions,
            fill=fill,
            label=label,
        )
        return to_read(rows, BARS) if output_format is Format.TABLE and plot is None else rows

    def missed(lake: "Lake", rows: "pa.Table") -> "pa.Table | None":
        import pyarrow as pa

        days = sorted({time.date() for time in rows.column("time").to_pylist() if time is not None})
        found = [lake.gaps(day, symbols_of(symbols)).arrow() for day in days if len(days) <= GAP_DAYS]
        return pa.concat_tables(found) if found else None

    def why(lake: "Lake") -> str | None:
        return reason(lake, symbols, *times(lake))

    said = f"bars of {width}, clock: {clock}, sessions: {sessions}; volume below"
    drawing = drawing_of(plot, dark, output_format, output, missed, said)
    show(ask, data_of(config, data), output_format, output, why, drawing)


def book(
    symbols: SymbolsArgument,
    at: AtOption = None,
    data: DataOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    output_format: FormatOption = Format.TABLE,
    output: OutputOption = None,
    plot: PlotOption = None,
    dark: DarkOption = False,
) -> None:
    """Show the order book: five levels of bids and asks, as of a moment.

    For example: `kitelake book NSE:INFY --at '2026-11-24 10:15'`
    """

    def ask(lake: "Lake") -> "Result":
        return lake.book(symbols_of(symbols), moment_of(lake, at or str(newest_day(lake))))

    def why(lake: "Lake") -> str | None:
        return reason_at(lake, symbols, moment_of(lake, at or str(newest_day(lake))))

    drawing = drawing_of(plot, dark, output_format, output)
    show(ask, data_of(config, data), "book" if output_format is Format.TABLE else output_format, output, why, drawing)


def latest(
    symbols: SomeSymbolsArgument = None,
    at: AtOption = None,
    columns: Annotated[
        str | None,
        typer.Option(help="Columns of `ticks`, with commas between. By default a table has some, a file all."),
    ] = None,
    data: DataOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    output_format: FormatOption = Format.TABLE,
    output: OutputOption = None,
) -> None:
    """Show the last tick of each instrument, as of a moment.

    For example: `kitelake latest INFY TCS`, or `kitelake latest 'NFO:NIFTY26NOV*CE' --at 10:15`
    """
    names = None if columns is None else [name.strip() for name in columns.split(",")]

    def ask(lake: "Lake") -> "Result":
        which = symbols_of(symbols) if symbols else None
        rows = lake.latest(which, moment_of(lake, at or str(newest_day(lake))), names)
        return to_read(rows, LATEST) if output_format is Format.TABLE and names is None else rows

    def why(lake: "Lake") -> str | None:
        return reason_at(lake, symbols, moment_of(lake, at or str(newest_day(lake))))

    show(ask, data_of(config, data), output_format, output, why)


def chain(
    underlying: Annotated[str, typer.Argument(help="NIFTY, RELIANCE, MCX:CRUDEOIL, …", show_default=False)],
    expiry: Annotated[
        str | None, typer.Option(help="A date, weekly, or monthly; by default the nearest.", show_default=False)
    ] = None,
    at: AtOption = None,
    rate: Annotated[float, typer.Option(help="Interest a year, as a fraction: 0.065.")] = 0.0,
    data: DataOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    output_format: FormatOption = Format.TABLE,
    output: OutputOption = None,
    plot: PlotOption = None,
    dark: DarkOption = False,
) -> None:
    """Show an option chain: calls on the left, puts on the right, with implied volatilities and deltas.

    Every format but the table has all columns, with the other greeks.

    For example: `kitelake chain NIFTY --expiry weekly --at '2026-11-24 10:15'`
    """

    def ask(lake: "Lake") -> "Result":
        when = moment_of(lake, at or str(newest_day(lake)))
        rows = lake.chain(underlying, when, expiry, rate=rate)
        return to_read(rows, CHAIN) if output_format is Format.TABLE and plot is None else rows

    drawing = drawing_of(plot, dark, output_format, output)
    show(ask, data_of(config, data), output_format, output, drawing=drawing)


def find(
    symbols: SymbolsArgument,
    day: Annotated[
        str | None, typer.Option(metavar="DATE", help="By the instrument list of that day; by default of today.")
    ] = None,
    data: DataOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    output_format: FormatOption = Format.TABLE,
    output: OutputOption = None,
) -> None:
    """Show what symbols mean by a day's instrument list, and what is near those that mean nothing.

    Exit status 1 if something was not found.

    For example: `kitelake find infy`, or `kitelake find 'NFO:BANKNIFTY26NOV*FUT' --day 2026-11-24`
    """
    missing: list[object] = []

    def ask(lake: "Lake") -> "Result":
        found = lake.find(symbols_of(symbols), None if day is None else moment_of(lake, day))
        missing.extend(found.not_found)
        return to_read(found.rows, FOUND) if output_format is Format.TABLE else found.rows

    show(ask, data_of(config, data), output_format, output)
    if missing:
        raise typer.Exit(1)


def show(
    ask: "Callable[[Lake], Result]",
    folder: Path,
    output_format: str,
    output: Path | None,
    why: "Callable[[Lake], str | None]" = lambda _: None,
    drawing: "Drawing | None" = None,
) -> None:
    """Write what is asked of the lake in that folder, or draw it. `why` may say why there is nothing, for the standard
    error.

    Ctrl-C ends it. Raises AskError if it cannot be asked.
    """
    from kitelake import open as open_lake
    from kitelake.views import check_output, write_result

    with open_lake(folder) as lake:
        check_output(output, lake.root)

        def work() -> None:
            try:
                result = ask(lake)
                rows = None if drawing is None else drawing(lake, result)
            except QueryError as error:
                raise AskError(str(error)) from error
            if rows is None:
                rows = write_result(result, output_format, output)
            if not rows and (said := why(lake)) is not None:
                typer.echo(f"no rows: {said}", err=True)

        until_interrupted(work, lake.interrupt)


def reason(lake: "Lake", symbols: "Sequence[str] | None", start: str | None, stop: str | None) -> str | None:
    """Why there is nothing of them in that range, as far as it is known."""
    from queries.history import time_range
    from queries.quality import why_nothing

    return why_nothing(lake.look(), symbols_of(symbols) if symbols else None, time_range(start, stop))


def reason_at(lake: "Lake", symbols: "Sequence[str] | None", moment: str | None) -> str | None:
    """The same as of a moment."""
    from queries.history import moments_of

    (last,) = moments_of(moment or "", "--at")
    return reason(lake, symbols, str(last.date()), last.isoformat())


def to_read(result: "Result", columns: str) -> "Result":
    """The columns that a table for people has."""
    places = {name: f"#{place}" for place, name in enumerate(result.columns, 1)}
    asked = (each.partition(":") for each in columns.split())
    return result.project(
        ", ".join(f"round({places[name]}, {digits}) AS {name}" if digits else places[name] for name, _, digits in asked)
    )
