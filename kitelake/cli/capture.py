"""The commands that capture, and what comes before: init, run, demo, simulate, capture, login."""

import datetime as dt
import sys
from pathlib import Path
from typing import Annotated

import typer

from kitelake.cli.options import DEFAULT_CONFIG, ConfigOption, parse_time
from kitelake.errors import ConfigError, StartError
from storage.clock import IST


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
    import importlib.resources

    packaged = importlib.resources.files("kitelake") / "config.yaml"
    checkout = Path(__file__).parents[2] / "config.yaml"
    return packaged.read_text(encoding="utf-8") if packaged.is_file() else checkout.read_text(encoding="utf-8")


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


def demo(
    config: ConfigOption = DEFAULT_CONFIG,
    seconds: Annotated[float, typer.Option(min=3, help="How long to capture.")] = 30,
) -> None:
    """Capture a simulated market, account for every tick, and query it.

    Exit status 1 if the packets that the simulator sent are not exactly the rows in the table.
    """
    from kitelake.cli.demo import run_demo

    sys.exit(run_demo(config, seconds))


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


def capture(
    config: ConfigOption = DEFAULT_CONFIG,
    until: Annotated[
        dt.time | None,
        typer.Option(parser=parse_time, metavar="HH:MM", help="Stop then (IST), whatever the lists say."),
    ] = None,
) -> None:
    """Capture one day's session, report and seal it, and exit: for cron or a systemd timer.

    It waits for the lists' hours, captures until the last one ends, reports the day, and turns its many files into few.
    Exit status: 0 if all went well or no list is captured today, 1 if the report has problems or the day could not be
    sealed, 2 if it could not start.
    """
    import structlog
    from rich.console import Console

    from kitelake.config import load_config
    from kitelake.processes import keep_up, settings_of
    from kitelake.service import OneDay
    from kitelake.service import capture as run
    from kitelake.views import render_report

    now = dt.datetime.now(IST)
    stop_at = None if until is None else dt.datetime.combine(now.date(), until, IST)
    loaded = load_config(config)
    session = OneDay(now.date())
    if (why := session.nothing_to_do(loaded, now, stop_at)) is not None:
        typer.echo(why.text, err=True)
        raise typer.Exit(why.status)
    run(loaded, config_path=config, until=stop_at, watch=session.watch)
    if session.report is None:
        reason = "it was stopped before the end of the session" if session.stopped else "see the log above for why"
        typer.echo(f"kitelake: the day has no report: {reason}", err=True)
        raise typer.Exit(1)
    Console().print(render_report(session.report))
    # Not before: now everything is in the tables. The service, which goes on, has a job for it.
    sealed = keep_up(settings_of(loaded, seal_before=now.date() + dt.timedelta(days=1)), structlog.get_logger().info)
    raise typer.Exit(0 if sealed and not session.report.problems else 1)


def login(
    account: Annotated[str | None, typer.Argument(help="The account's name; may be left out if there is one.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    paste: Annotated[
        bool, typer.Option("--paste", help="Paste the URL that the browser ends at, instead of listening for it.")
    ] = False,
    browser: Annotated[bool, typer.Option(help="Open the browser; else only print where to log in.")] = True,
) -> None:
    """Log in to an account in the browser, and store the day's access token. A running service takes it up at once.

    The app's redirect URL at the broker must be http://127.0.0.1:8710/ (the port is `login.port`), or use --paste.
    """
    from kitelake.accounts import log_in
    from kitelake.config import load_config

    loaded = load_config(config)
    names = [one.name for one in loaded.accounts]
    name = account or (names[0] if len(names) == 1 else None)
    chosen = next((one for one in loaded.accounts if one.name == name), None)
    if chosen is None:
        raise ConfigError(f"expected the name of an account: one of {', '.join(names)}")
    made = log_in(chosen, api_url=loaded.kite.api, section=loaded.login, open_browser=browser, paste=paste)
    typer.echo(f"account {chosen.name} is logged in as {made.user_id}")
