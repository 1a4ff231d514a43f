"""`kitelake replay`: a captured day served as the broker, for a strategy to trade on, on paper."""

import datetime as dt
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from ingest.errors import ServerError
from kitelake.cli.options import (
    DATE_METAVAR,
    DEFAULT_CONFIG,
    ConfigOption,
    DataOption,
    data_of,
    newest_day,
    parse_date,
    parse_time,
    symbols_of,
)
from kitelake.errors import AskError, OutputError, StartError
from queries.errors import QueryError

if TYPE_CHECKING:
    import pyarrow as pa

    from kitelake.lake import Lake
    from queries.quality import Candles

FASTEST: Final = "max"
PAPER: Final = "Orders on paper"
STRATEGY: Final = "Strategy"
ALLOWED: Final = {"ignore_unknown_options": True, "allow_interspersed_args": False}
"""What stands behind a strategy's first argument is the strategy's, whatever it looks like."""


def parse_speed(text: str | float) -> float:
    """A number above 0, or the fastest there is. Raises typer.BadParameter."""
    try:
        speed = math.inf if text == FASTEST else float(text)
    except ValueError:
        speed = math.nan
    if not speed > 0 or (math.isinf(speed) and text != FASTEST):
        raise typer.BadParameter(f"expected a number above 0, such as 1 or 10, or {FASTEST}")
    return speed


def replay(
    arguments: Annotated[list[str] | None, typer.Argument(help="Of the strategy that --run names.")] = None,
    date: Annotated[
        dt.date | None,
        typer.Option(
            parser=parse_date, metavar=DATE_METAVAR, help="The day to serve. By default the newest that was captured."
        ),
    ] = None,
    speed: Annotated[
        float,
        typer.Option(parser=parse_speed, metavar="NUMBER", help=f"Market seconds a second; {FASTEST}: as it goes."),
    ] = 1.0,
    symbols: Annotated[
        list[str] | None, typer.Option(help="Only these, as the other commands take them. May be repeated.")
    ] = None,
    start: Annotated[
        dt.time | None, typer.Option("--from", parser=parse_time, metavar="HH:MM", help="Begin then (IST).")
    ] = None,
    stop: Annotated[
        dt.time | None, typer.Option("--to", parser=parse_time, metavar="HH:MM", help="End then (IST).")
    ] = None,
    now: Annotated[bool, typer.Option("--now", help="Shift the times in packets and orders to the present.")] = False,
    wait_for: Annotated[
        int | None,
        typer.Option(min=0, help="Begin when so many connections have subscribed; with --run 1, if it is not said."),
    ] = None,
    wait_for_instruments: Annotated[int, typer.Option(min=0, help="Begin when so many are subscribed in all.")] = 0,
    lockstep: Annotated[
        bool, typer.Option("--lockstep", help="Stop the clock until clients have acted: the same trades at any speed.")
    ] = False,
    paused: Annotated[bool, typer.Option("--paused", help="Begin with the clock standing.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="WebSocket port; 0 takes a free one.")] = 8765,
    api_port: Annotated[int, typer.Option(min=0, max=65_535, help="REST port; 0 takes a free one.")] = 8766,
    run: Annotated[
        Path | None,
        typer.Option(
            metavar="STRATEGY.PY",
            help="Start this strategy as it is, on the replay alone: nothing that it does reaches the broker.",
            rich_help_panel=STRATEGY,
        ),
    ] = None,
    capital: Annotated[
        float, typer.Option(min=0, max=1e12, help="Of each account, in rupees.", rich_help_panel=PAPER)
    ] = 1_000_000.0,
    latency: Annotated[
        float, typer.Option(min=0, max=60, help="Seconds until an order arrives.", rich_help_panel=PAPER)
    ] = 0.0,
    fill: Annotated[
        Literal["touch", "through"],
        typer.Option(help="A resting order fills at its price: touch, or through.", rich_help_panel=PAPER),
    ] = "touch",
    beyond: Annotated[
        Literal["reject", "slippage"],
        typer.Option(help="What a market order wants beyond five levels: reject, or slippage.", rich_help_panel=PAPER),
    ] = "reject",
    slippage: Annotated[float, typer.Option(min=0, max=100, help="Beyond them, percent.", rich_help_panel=PAPER)] = 0.5,
    margin: Annotated[
        float, typer.Option(min=0, max=100, help="Blocked for futures and short sales, percent.", rich_help_panel=PAPER)
    ] = 20.0,
    price_protection: Annotated[
        bool, typer.Option("--price-protection", help="The exchange's, for options.", rich_help_panel=PAPER)
    ] = False,
    limits: Annotated[
        Path | None, typer.Option(help="CSV of freeze quantities and price bands.", rich_help_panel=PAPER)
    ] = None,
    candles: Annotated[
        list[str] | None,
        typer.Option(metavar="SYMBOL=FILE", help="Of the days before, for historical data.", rich_help_panel=PAPER),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write orders, trades, positions and equity here.", rich_help_panel=PAPER),
    ] = None,
    data: DataOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Serve a captured day as the broker would, ticks and orders, until Ctrl-C.

    It speaks the broker's protocol on this machine alone, and takes any api_key and token: each key is an account with
    money on paper. POINT BOTH ROOTS OF A CLIENT AT IT: a ticker on a replay whose KiteConnect is not is one that can
    place real orders on yesterday's prices. `--run strategy.py` does that for you, and lets nothing through.

    In a terminal keys lead it: space pauses, + and - change the speed, m is as fast as it goes, > goes a minute on, r
    begins again, q ends.

    For example: `kitelake replay --date yesterday --speed 10 --run strategy.py -- --size 5`
    """
    from kitelake import open as open_lake
    from kitelake.paper import PaperSettings
    from kitelake.replay import Replay, ReplaySettings
    from kitelake.views import check_output

    if arguments and run is None:
        raise AskError(f"got {' '.join(arguments)!r}, expected it to be of a strategy: --run names one")
    if output is not None and output.exists() and not output.is_dir():
        raise OutputError(f"{output}: got a file, expected a folder, or none there yet")
    if run is not None and not run.is_file():
        raise AskError(f"--run: {run}: there is no such file")
    waited = wait_for if wait_for is not None else int(run is not None)
    served = ReplaySettings(
        speed=speed,
        paused=paused,
        wait_for_clients=waited,
        wait_for_instruments=wait_for_instruments,
        lockstep=lockstep,
        port=port,
        api_port=api_port,
    )
    paper = PaperSettings(
        capital=capital,
        latency_seconds=latency,
        fill=fill,
        beyond=beyond,
        slippage_percent=slippage,
        margin_percent=margin,
        price_protection=price_protection,
        limits=limits,
    )
    with open_lake(data_of(config, data)) as lake:
        check_output(output, lake.root)
        day = date or newest_day(lake)
        try:
            asked = Replay(
                lake,
                day,
                symbols=symbols_of(symbols) if symbols else None,
                start=start,
                stop=stop,
                now=now,
                settings=served,
                paper=paper,
                candles=_candles(candles or ()),
            )
            if output is not None:
                _make(output)
            status = asked.play(lambda urls: _say(day, urls), strategy=[str(run), *(arguments or ())] if run else ())
        except QueryError as error:
            raise AskError(str(error)) from error
        except ServerError as error:
            raise StartError(str(error)) from error
        tables = asked.tables()
        _print(lake, tables)
        if output is not None:
            _write(output, tables)
    sys.exit(status)


def _candles(texts: Sequence[str]) -> "dict[str, list[Candles]]":
    found: dict[str, list[Candles]] = {}
    for text in texts:
        symbol, is_there, path = text.partition("=")
        if not is_there or not Path(path).is_file():
            raise AskError(
                f"--candles: got {text!r}, expected SYMBOL=FILE, such as NSE:INFY=infy.csv, of a file that is there"
            )
        found.setdefault(symbol, []).append(Path(path))
    return found


def _say(day: dt.date, urls: dict[str, str]) -> None:
    """Both roots, and how a client gets them."""
    lines = (
        f"{day} is served. Orders are on paper.",
        "",
        f"  WebSocket root  {urls['ws']}",
        f"  REST root       {urls['api']}",
        f"  control         {urls['control']}",
        "",
        "Set BOTH roots, or orders go to the real broker:",
        f'  kite = KiteConnect("paper", "paper", root="{urls["api"]}")',
        f'  ticker = KiteTicker("paper", "paper", root="{urls["ws"]}")',
        "or have them from kitelake.replay.connect(), or start the strategy by --run, which lets nothing through.",
    )
    typer.echo("\n".join(lines))


def _print(lake: "Lake", tables: "dict[str, pa.Table]") -> None:
    """For people; nothing if there were no orders."""
    from kitelake.views import write_result

    if not len(tables["orders"]):
        typer.echo("No orders were placed.")
        return
    for name, table in tables.items():
        typer.echo(f"\n{name}")
        write_result(lake.look().rows(table), "table")


def _make(folder: Path) -> None:
    """Before a day is played whose outcome could not be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made: {error.strerror or error}") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: cannot be written: expected a folder that this user may write to")


def _write(folder: Path, tables: "dict[str, pa.Table]") -> None:
    import pyarrow.parquet as pq

    try:
        for name, table in tables.items():
            pq.write_table(table, folder / f"{name}.parquet")
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror or error}") from None
    typer.echo(f"{', '.join(f'{name}.parquet' for name in tables)} are written to {folder}")
