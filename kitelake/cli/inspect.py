"""The commands that look and change nothing: at what would be captured, at the service, and at what a day brought."""

import datetime as dt
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from kitelake.cli.lookup import SomeSymbolsArgument, show, to_read
from kitelake.cli.options import (
    DATE_METAVAR,
    DEFAULT_CONFIG,
    ConfigOption,
    DarkOption,
    DataOption,
    EveryOption,
    Format,
    FormatOption,
    InstrumentsOption,
    JsonOption,
    OutputOption,
    PlotOption,
    WatchOption,
    data_of,
    drawing_of,
    keep_watching,
    newest_day,
    parse_date,
    reason,
    symbols_of,
)
from kitelake.errors import AskError, ConfigError, ReportError
from storage.clock import IST

if TYPE_CHECKING:
    from rich.console import RenderableType

    from kitelake.lake import Lake, Result
    from kitelake.telemetry import ServiceStatus

DayOption = Annotated[
    dt.date | None,
    typer.Option(
        "--day",
        parser=parse_date,
        metavar=DATE_METAVAR,
        help="YYYY-MM-DD, today or yesterday; by default the newest day that was captured.",
    ),
]
SilentOption = Annotated[float, typer.Option(metavar="SECONDS", help="Nothing for so long is silence.")]

GAPS: Final = "symbol start stop seconds:1 state missed volume_missed high_missed low_missed oi_missed"


def plan(
    config: ConfigOption = DEFAULT_CONFIG,
    date: Annotated[
        dt.date | None,
        typer.Option(parser=parse_date, metavar=DATE_METAVAR, help="YYYY-MM-DD, today (the default) or tomorrow."),
    ] = None,
    names: Annotated[bool, typer.Option("--list", help="Name every instrument, one a line, tab-separated.")] = False,
    instruments: InstrumentsOption = None,
) -> None:
    """Show what would be captured on a day, without connecting.

    By list and by connection: how many instruments in which mode, what is left out and why, the expected ticks a second
    and disk space. Exit status 1 if something that is wanted is left out or cannot be resolved.
    """
    from rich.console import Console

    from kitelake.config import load_config
    from kitelake.plan import instruments_of, plan_of
    from kitelake.views import lines_of_plan, render_plan

    loaded = load_config(config)
    day = date or dt.datetime.now(IST).date()
    listed = instruments_of(loaded, day, instruments)
    if listed is None:
        raise ConfigError(
            f"{loaded.data} has no instrument list of {day} or before: start `kitelake run` once, or name the "
            "broker's CSV with --instruments (curl https://api.kite.trade/instruments > instruments.csv)"
        )
    made = plan_of(loaded, day, listed)
    if names:
        for line in lines_of_plan(made):
            sys.stdout.write(f"{line}\n")
    else:
        Console().print(render_plan(made))
    raise typer.Exit(0 if made.is_whole else 1)


def check(
    config: ConfigOption = DEFAULT_CONFIG,
    online: Annotated[bool, typer.Option("--online", help="Also ask the broker about tokens, and fetch URLs.")] = False,
    instruments: InstrumentsOption = None,
) -> None:
    """Check config.yaml and everything that it refers to: files, tokens, names, calendar, room, notifications.

    Exit status 1 if something has to be mended, 2 if the file itself cannot be used.
    """
    from rich.console import Console
    from rich.text import Text

    from kitelake.cli.check import check_config
    from kitelake.config import load_config

    console = Console()
    signs = {True: ("ok  ", "green"), False: ("FAIL", "bold red"), None: ("note", "yellow")}
    loaded = load_config(config)
    console.print(Text.assemble(signs[True], f"  {config} can be read"))
    failed = False
    for finding in check_config(loaded, online=online, instruments=instruments):
        failed |= finding.good is False
        console.print(Text.assemble(signs[finding.good], f"  {finding.what}: {finding.text}"), soft_wrap=True)
    raise typer.Exit(1 if failed else 0)


def status(
    config: ConfigOption = DEFAULT_CONFIG,
    data: DataOption = None,
    as_json: JsonOption = False,
    watch: WatchOption = False,
    every: EveryOption = 1.0,
) -> None:
    """Show how the running service stands: connections, lists, tokens, journal, and every job with its next time.

    Exit status 1 if none runs or no instrument comes, as it was at last.
    """
    from rich.console import Console

    from ingest.connection import Status
    from kitelake.telemetry import is_running, read_status
    from kitelake.views import render_status
    from storage.layout import DataLayout

    folder = data_of(config, data)
    if watch and as_json:
        raise AskError("got --watch with --json, expected one of them")

    def look() -> "tuple[ServiceStatus | None, dt.datetime]":
        return read_status(DataLayout(folder)), dt.datetime.now(IST)

    def page(_: int) -> "RenderableType":
        told, now = look()
        return "it has no status any more" if told is None else render_status(told, now)

    told, now = look()
    if told is not None and watch:
        keep_watching(page, every)
        told, now = look()
    if told is None:
        typer.echo(f"no service has captured into {folder} yet: `kitelake run` starts one", err=True)
        raise typer.Exit(1)
    if as_json:
        sys.stdout.write(told.model_dump_json(indent=2) + "\n")
    elif not watch:
        Console().print(render_status(told, now))
    raise typer.Exit(0 if is_running(told, now) and told.health.status is not Status.CRITICAL else 1)


def report(
    config: ConfigOption = DEFAULT_CONFIG,
    data: DataOption = None,
    date: Annotated[
        dt.date | None,
        typer.Option(parser=parse_date, metavar=DATE_METAVAR, help="YYYY-MM-DD, today (the default) or yesterday."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Report a day, up to now: what was wanted, what ticked, what was missed. Exit status 1 if it has problems."""
    from rich.console import Console

    from kitelake.report import make_report, read_record
    from kitelake.views import render_report

    folder = data_of(config, data)
    day = date or dt.datetime.now(IST).date()
    record = read_record(folder, day)
    if record is None:
        raise ReportError(
            f"{folder} has no record of {day}: no `kitelake run` captured into it on that day; "
            f"`kitelake coverage --day {day}` goes by the ticks alone"
        )
    made = make_report(folder, record)
    if as_json:
        sys.stdout.write(made.model_dump_json(indent=2) + "\n")
    else:
        Console().print(render_report(made))
    raise typer.Exit(1 if made.problems else 0)


def coverage(
    symbols: SomeSymbolsArgument = None,
    day: DayOption = None,
    silent: SilentOption = 60.0,
    data: DataOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    output_format: FormatOption = Format.TABLE,
    output: OutputOption = None,
    plot: PlotOption = None,
    dark: DarkOption = False,
) -> None:
    """Show of each instrument how much of a day was captured: packets, and the seconds in each state.

    With --plot, a row an instrument with the state in each minute, of those that were served least.

    For example: `kitelake coverage 'NFO:NIFTY26NOV*' --day 2026-11-24`
    """

    def ask(lake: "Lake") -> "Result":
        asked = lake.coverage if plot is None else lake.intervals
        return asked(day or newest_day(lake), symbols_of(symbols) if symbols else None, silent=silent)

    def why(lake: "Lake") -> str | None:
        return reason(lake, symbols, _day_of(lake, day), None)

    drawing = drawing_of(plot, dark, output_format, output)
    show(ask, data_of(config, data), output_format, output, why, drawing)


def gaps(
    symbols: SomeSymbolsArgument = None,
    day: DayOption = None,
    silent: SilentOption = 60.0,
    data: DataOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    output_format: FormatOption = Format.TABLE,
    output: OutputOption = None,
) -> None:
    """Show when an instrument was not served on a day, why, and what was missed at least.

    For example: `kitelake gaps NSE:INFY --day 2026-11-24`
    """

    def ask(lake: "Lake") -> "Result":
        rows = lake.gaps(day or newest_day(lake), symbols_of(symbols) if symbols else None, silent=silent)
        return to_read(rows, GAPS) if output_format is Format.TABLE else rows

    show(ask, data_of(config, data), output_format, output, lambda lake: reason(lake, None, _day_of(lake, day), None))


def latency(
    day: DayOption = None,
    bucket: Annotated[int, typer.Option(min=1, metavar="SECONDS", help="A row for so long.")] = 900,
    data: DataOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    output_format: FormatOption = Format.TABLE,
    output: OutputOption = None,
    plot: PlotOption = None,
    dark: DarkOption = False,
) -> None:
    """Show how late ticks arrived on a day: from the exchange's time to receipt, by connection and time of day.

    For example: `kitelake latency --day yesterday --bucket 3600`
    """

    def ask(lake: "Lake") -> "Result":
        return lake.latency(day or newest_day(lake), bucket_seconds=bucket)

    def why(lake: "Lake") -> str | None:
        return reason(lake, None, _day_of(lake, day), None)

    drawing = drawing_of(plot, dark, output_format, output)
    show(ask, data_of(config, data), output_format, output, why, drawing)


def compare(
    symbol: Annotated[str, typer.Argument(help="The instrument: NSE:INFY.", show_default=False)],
    candles: Annotated[
        Path, typer.Argument(help="The broker's historical candles: CSV, or its JSON.", show_default=False)
    ],
    day: DayOption = None,
    data: DataOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    output_format: FormatOption = Format.TABLE,
    output: OutputOption = None,
) -> None:
    """Hold a day's bars against the broker's historical candles: what differs, and why.

    Exit status 1 if a difference has no explanation.

    For example: `kitelake compare NSE:INFY infy-minute.json --day 2026-11-24`
    """
    said: list[str] = []
    unexplained: list[int] = []

    def ask(lake: "Lake") -> "Result":
        found = lake.compare(symbols_of([symbol])[0], day or newest_day(lake), candles)
        said.append(found.summary)
        unexplained.append(found.reasons["unexplained"])
        return found.rows

    show(ask, data_of(config, data), output_format, output)
    typer.echo(said[0], err=output_format is not Format.TABLE)
    raise typer.Exit(1 if unexplained[0] else 0)


def _day_of(lake: "Lake", day: dt.date | None) -> str:
    return str(day or newest_day(lake))
