"""The command line. What a user may have got wrong ends with one clear message and exit status 2."""

import importlib.resources
import os
import signal
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, NoReturn, TextIO, cast

INTERRUPTED: Final = 130
"""The exit status after Ctrl-C."""

try:
    import typer

    from kitelake.cli.capture import COMMANDS, DEFAULT_CONFIG, ConfigOption
    from kitelake.cli.maintenance import MAINTENANCE, OLD_NAMES
    from kitelake.errors import ConfigError, OutputError, StartError
    from storage.errors import DataFolderError, KitelakeError
except KeyboardInterrupt:
    sys.exit(INTERRUPTED)

app = typer.Typer(
    name="kitelake",
    help="Captures every tick of your Kite Connect accounts, loses nothing, and serves it as SQL over Parquet.",
    epilog="First steps: `kitelake demo` shows everything on a simulated market in half a minute. "
    "`kitelake init` writes a config.yaml whose comments say what to change for a real account.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)


class Format(StrEnum):
    """How a result is printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    ARROW = "arrow"
    PARQUET = "parquet"


def main() -> NoReturn:
    """The `kitelake` command."""
    # In a terminal that knows fewer characters, a `?` is better than an end.
    if (output := cast("TextIO | None", sys.stdout)) is not None and hasattr(output, "reconfigure"):
        output.reconfigure(errors="replace")
    status = _run()
    # From here on Ctrl-C ends it at once: Python would say where it was.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(status)


def _run() -> int:
    try:
        app()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except KeyboardInterrupt:
        return INTERRUPTED
    except KitelakeError as error:
        typer.echo(f"kitelake: {error}", err=True)
        return 2 if isinstance(error, ConfigError | DataFolderError | OutputError | StartError) else 1
    except Exception:
        # Said here, and let go: what is kept until Python ends, DuckDB's binding complains about in many lines.
        traceback.print_exc()
        return 1
    return 0


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        from kitelake import __version__

        typer.echo(f"kitelake {__version__}")
        raise typer.Exit


@app.command()
def init(path: Annotated[Path, typer.Argument(help="Where to write it.")] = DEFAULT_CONFIG) -> None:
    """Write a commented config.yaml that runs as it is."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(shipped_config())
    except FileExistsError:
        raise ConfigError(f"{path} is there already, and stays as it is") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None
    typer.echo(f"{path} is written. `kitelake run` captures from the simulated market until you change it.")


def shipped_config() -> str:
    """The text of the config.yaml that comes with Kitelake."""
    packaged = importlib.resources.files("kitelake") / "config.yaml"
    checkout = Path(__file__).parents[2] / "config.yaml"
    return packaged.read_text(encoding="utf-8") if packaged.is_file() else checkout.read_text(encoding="utf-8")


@app.command()
def run(
    config: ConfigOption = DEFAULT_CONFIG,
    seconds: Annotated[float | None, typer.Option(min=1, help="Stop by itself after so long.")] = None,
) -> None:
    """Capture what config.yaml says until Ctrl-C or SIGTERM.

    On the first signal the sockets are closed, the journal is sealed and everything received goes into the tables.
    A second one exits at once; what the journal holds goes into the tables at the next start.
    """
    from kitelake.config import load_config
    from kitelake.service import capture

    capture(load_config(config), config_path=config, seconds=seconds)


@app.command()
def demo(
    config: ConfigOption = DEFAULT_CONFIG,
    seconds: Annotated[float, typer.Option(min=3, help="How long to capture.")] = 30,
) -> None:
    """Capture a simulated market, account for every tick, and query it.

    Exit status 1 if the packets that the simulator sent are not exactly the rows in the table.
    """
    from kitelake.cli.demo import run_demo

    sys.exit(run_demo(config, seconds))


@app.command()
def simulate(
    port: Annotated[int, typer.Option(min=0, max=65_535, help="WebSocket port; 0 takes a free one.")] = 8765,
    api_port: Annotated[int, typer.Option(min=0, max=65_535, help="REST port; 0 takes a free one.")] = 8766,
    instruments: Annotated[int, typer.Option(min=100, max=100_000, help="Size of the market.")] = 10_000,
    rate: Annotated[float, typer.Option(min=0.01, max=100, help="Activity: 2 ticks twice as often.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same market.")] = 1,
    accounts: Annotated[int, typer.Option(min=1, max=100, help="How many accounts may connect.")] = 2,
) -> None:
    """Run a simulated market that speaks Kite's streaming protocol on this machine, until Ctrl-C.

    For tests of any client: point its WebSocket and REST addresses here. A JSON file gives it more settings:
    `python -m ingest.simulator --config FILE`.
    """
    from ingest.errors import ServerError
    from ingest.simulator import SimulatorSettings
    from ingest.simulator import simulate as simulate_market

    known = [
        {"name": f"account-{n}", "api_key": f"simulated-key-{n}", "access_token": f"simulated-token-{n}"}
        for n in range(1, accounts + 1)
    ]
    settings = {"port": port, "api_port": api_port, "instruments": instruments, "rate": rate, "seed": seed}

    def ready(urls: dict[str, str]) -> None:
        typer.echo(f"WebSocket  {urls['ws']}\nREST       {urls['api']}\nfaults     {urls['control']}/faults")
        for account in known:
            typer.echo(f"api_key    {account['api_key']}  access_token {account['access_token']}")
        typer.echo(
            f'for example: KiteTicker("{known[0]["api_key"]}", "{known[0]["access_token"]}", root="{urls["ws"]}")'
        )
        typer.echo("Ctrl-C ends it.")

    try:
        stats = simulate_market(SimulatorSettings.parse({"accounts": known, **settings}), ready=ready)
    except ServerError as error:
        raise StartError(str(error)) from None
    typer.echo(f"{stats['packets']:,} packets sent")


@app.command()
def sql(
    query: Annotated[
        str,
        typer.Argument(
            help="SQL over ticks, instruments, orders, events, quarantine. Of several statements, with `;` between "
            "them, all run and the last one's result is printed."
        ),
    ],
    data: Annotated[Path | None, typer.Option(help="The data folder; else the one that config.yaml names.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    output_format: Annotated[Format, typer.Option("--format", "-f", help="How to print the result.")] = Format.TABLE,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file.")] = None,
) -> None:
    """Query the captured ticks, including what arrived a moment ago. Times are IST."""
    from kitelake import open as open_lake
    from kitelake.config import data_folder
    from kitelake.views import write_result

    with open_lake(data or data_folder(config)) as lake:
        _until_interrupted(lambda: write_result(lake.sql(query), output_format, output), lake.interrupt)


for command in COMMANDS:
    app.command()(command)
for command_name, maintain in MAINTENANCE.items():
    app.command(command_name)(maintain)
for command_name, maintain in OLD_NAMES.items():
    app.command(command_name, hidden=True)(maintain)


def _until_interrupted(work: Callable[[], None], interrupt: Callable[[], None]) -> None:
    """Do the work in another thread, because the main one does not hear Ctrl-C while DuckDB has it."""
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(work)
        try:
            done.result()
        except KeyboardInterrupt:
            for _ in range(50):  # it may not be in DuckDB at that moment, but come back to it
                interrupt()
                if wait([done], 0.1).done:
                    raise
            os._exit(INTERRUPTED)  # it waits for a reader that does not read
        finally:
            del done  # which has the error, and the error this frame: DuckDB's objects would never be let go
