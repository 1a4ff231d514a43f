"""The commands that look something up in what was captured: sql, bars, book, latest, chain, find."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, TextIO, cast

import typer

from kitelake.cli.options import (
    DEFAULT_CONFIG,
    MOMENT_METAVAR,
    ConfigOption,
    DarkOption,
    DataOption,
    EveryOption,
    Format,
    FormatOption,
    OutputOption,
    PlotOption,
    StartOption,
    StopOption,
    WatchOption,
    data_of,
    drawing_of,
    keep_watching,
    moment_of,
    newest_day,
    reason,
    reason_at,
    symbols_of,
)
from kitelake.errors import AskError
from kitelake.shell import Progress, until_interrupted
from queries.errors import QueryError

if TYPE_CHECKING:
    import pyarrow as pa

    from kitelake.cli.options import Drawing
    from kitelake.lake import Lake, Result

SYMBOLS_HELP: Final = (
    "Names (NSE:INFY, or INFY for NSE), patterns ('NFO:NIFTY26NOV*'), tokens, or near:NIFTY for the nearest future of "
    "each day, near2:NIFTY for the second."
)
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
        str | None,
        typer.Argument(
            help="SQL over ticks, instruments, orders, events, quarantine. Of several statements, with `;` between "
            "them, all run and the last one's result is printed. `-` reads it from the standard input. Without, in a "
            "terminal, a shell to type in.",
            show_default=False,
        ),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="Read the SQL from this file.", show_default=False)
    ] = None,
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
    """Query the captured ticks, including what arrived a moment ago. Times are IST.

    For example: `kitelake sql` for a shell, `kitelake sql "from ticks limit 5"`, or `kitelake sql < query.sql`
    """
    from kitelake import open as open_lake
    from kitelake.views import check_output, write_result

    asked = query_of(query, file)
    if asked is None and (output is not None or output_format not in (Format.TABLE, Format.CSV, Format.JSON)):
        raise AskError("the shell shows a table, csv or json, and writes files by its .once FILE; else give a query")
    drawing = drawing_of(plot, dark, output_format, output)
    with open_lake(data_of(config, data), restricted=restricted, timeout=timeout) as lake:
        check_output(output, lake.root)
        if asked is None:
            run_shell(lake, output_format)
            return
        progress = Progress(lake)

        def work() -> None:
            with progress:
                result = lake.sql(asked)
            if drawing is None:
                write_result(result, output_format, output, progress)
            else:
                drawing(lake, result)

        until_interrupted(work, lake.interrupt)


def query_of(query: str | None, file: Path | None) -> str | None:
    """The SQL that was given, in whatever way; None if it is to be typed. Raises AskError for two ways, or no file."""
    if query is not None and file is not None:
        raise AskError(f"got a query and --file {file}, expected one of them")
    if query is not None and query != "-":
        return query
    typed, shown = cast("TextIO | None", sys.stdin), cast("TextIO | None", sys.stdout)
    try:
        if file is not None:
            return file.read_text(encoding="utf-8")
        if typed is None:
            raise AskError("the standard input is closed: give a query, or --file FILE")
        is_shell = query is None and typed.isatty() and shown is not None and shown.isatty()
        return None if is_shell else typed.read()
    except (OSError, UnicodeDecodeError) as error:
        raise AskError(f"{file or 'the standard input'}: cannot be read as SQL: {error}") from error


def run_shell(lake: "Lake", mode: str) -> None:
    """Take statements from whoever sits at the terminal, until it is ended."""
    from kitelake.shell import Shell, reader
    from kitelake.version import __version__

    shell = Shell(lake, mode)
    typer.echo(f"Kitelake {__version__}, {lake.root}. Ctrl-D ends this, .help says what else there is.")
    shell.run(reader(shell.vocabulary))


def bars(
    symbols: SymbolsArgument,
    width: Annotated[str, typer.Option("--width", "-w", help="30s, 5m, 1h, 1d, '100 ticks', '50000 volume'.")] = "1m",
    start: StartOption = None,
    stop: StopOption = None,
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
    watch: WatchOption = False,
    every: EveryOption = 1.0,
    data: DataOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    output_format: FormatOption = Format.TABLE,
    output: OutputOption = None,
    plot: PlotOption = None,
    dark: DarkOption = False,
) -> None:
    """Show the order book: five levels of bids and asks, as of a moment.

    For example: `kitelake book NSE:INFY --at '2026-11-24 10:15'`, or `kitelake book INFY near:NIFTY --watch`
    """
    seconds = _watched(watch, every, at, output_format, output)

    def ask(lake: "Lake") -> "Result":
        return lake.book(symbols_of(symbols), moment_of(lake, at or str(newest_day(lake))))

    def why(lake: "Lake") -> str | None:
        return reason_at(lake, symbols, moment_of(lake, at or str(newest_day(lake))))

    shown = "book" if output_format is Format.TABLE else output_format
    drawing = drawing_of(plot, dark, output_format, output)
    show(ask, data_of(config, data), shown, output, why, drawing, seconds)


def latest(
    symbols: SomeSymbolsArgument = None,
    at: AtOption = None,
    columns: Annotated[
        str | None,
        typer.Option(help="Columns of `ticks`, with commas between. By default a table has some, a file all."),
    ] = None,
    watch: WatchOption = False,
    every: EveryOption = 1.0,
    data: DataOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    output_format: FormatOption = Format.TABLE,
    output: OutputOption = None,
) -> None:
    """Show the last tick of each instrument, as of a moment.

    For example: `kitelake latest INFY TCS --watch`, or `kitelake latest 'NFO:NIFTY26NOV*CE' --at 10:15`
    """
    seconds = _watched(watch, every, at, output_format, output)
    names = None if columns is None else [name.strip() for name in columns.split(",")]

    def ask(lake: "Lake") -> "Result":
        which = symbols_of(symbols) if symbols else None
        rows = lake.latest(which, moment_of(lake, at or str(newest_day(lake))), names)
        return to_read(rows, LATEST) if output_format is Format.TABLE and names is None else rows

    def why(lake: "Lake") -> str | None:
        return reason_at(lake, symbols, moment_of(lake, at or str(newest_day(lake))))

    show(ask, data_of(config, data), output_format, output, why, seconds=seconds)


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
    seconds: float | None = None,
) -> None:
    """Write what is asked of the lake in that folder, or draw it. `why` may say why there is nothing, for the standard
    error.

    With `seconds` it is kept up to date in the terminal, so often. Ctrl-C ends it. Raises AskError if it cannot be
    asked.
    """
    from kitelake import open as open_lake
    from kitelake.views import check_output, page_of, write_result

    with open_lake(folder) as lake:
        check_output(output, lake.root)

        def asked() -> "Result":
            try:
                return ask(lake)
            except QueryError as error:
                raise AskError(str(error)) from error

        def work() -> None:
            result = asked()
            try:
                rows = None if drawing is None else drawing(lake, result)
            except QueryError as error:
                raise AskError(str(error)) from error
            if rows is None:
                rows = write_result(result, output_format, output)
            if not rows and (said := why(lake)) is not None:
                typer.echo(f"no rows: {said}", err=True)

        if seconds is None:
            until_interrupted(work, lake.interrupt)
        else:
            keep_watching(lambda lines: page_of(asked(), output_format, lines), seconds, lake.interrupt)


def _watched(watch: bool, every: float, at: str | None, output_format: Format, output: Path | None) -> float | None:
    """How often it is to be shown anew, if it is. Raises AskError for what no page in a terminal is."""
    if watch and (at is not None or output is not None or output_format is not Format.TABLE):
        raise AskError("got --watch with --at, --format or --output: it shows a table, in the terminal, as of now")
    return every if watch else None


def to_read(result: "Result", columns: str) -> "Result":
    """The columns that a table for people has."""
    places = {name: f"#{place}" for place, name in enumerate(result.columns, 1)}
    asked = (each.partition(":") for each in columns.split())
    return result.project(
        ", ".join(f"round({places[name]}, {digits}) AS {name}" if digits else places[name] for name, _, digits in asked)
    )
