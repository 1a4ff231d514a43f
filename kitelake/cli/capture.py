"""The commands of the scheduled job: capture, plan, check, status, report, login."""

import datetime as dt
import sys
from pathlib import Path
from typing import Annotated, Final

import structlog
import typer

from kitelake.errors import ConfigError
from storage.clock import IST
from storage.market import time_of_day

DEFAULT_CONFIG: Final = Path("config.yaml")
ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="The configuration file.", envvar="KITELAKE_CONFIG")]
DATE_METAVAR: Final = "DATE"
FIRST_DATE: Final = dt.date(2000, 1, 1)
LAST_DATE: Final = dt.date(2099, 12, 31)
InstrumentsOption = Annotated[
    Path | None, typer.Option("--instruments", help="The broker's CSV to go by, instead of the newest stored list.")
]


def parse_date(text: str) -> dt.date:
    """A day by its name or its date, within FIRST_DATE and LAST_DATE. Raises typer.BadParameter."""
    days = {"today": 0, "tomorrow": 1, "yesterday": -1}
    if text in days:
        return dt.datetime.now(IST).date() + dt.timedelta(days=days[text])
    try:
        date = dt.date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("expected YYYY-MM-DD, today, tomorrow or yesterday") from None
    if not FIRST_DATE <= date <= LAST_DATE:
        raise typer.BadParameter(f"expected a date from {FIRST_DATE} to {LAST_DATE}")
    return date


def _until(text: str) -> dt.time:
    try:
        return time_of_day(text)
    except ValueError:
        raise typer.BadParameter("expected HH:MM, such as 15:35, in IST") from None


def capture(
    config: ConfigOption = DEFAULT_CONFIG,
    until: Annotated[
        dt.time | None, typer.Option(parser=_until, metavar="HH:MM", help="Stop then (IST), whatever the lists say.")
    ] = None,
) -> None:
    """Capture one day's session, report and seal it, and exit: for cron or a systemd timer.

    It waits for the lists' hours, captures until the last one ends, reports the day, and turns its many files into few.
    Exit status: 0 if all went well or no list is captured today, 1 if the report has problems or the day could not be
    sealed, 2 if it could not start.
    """
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
    data: Annotated[Path | None, typer.Option(help="The data folder; else the one that config.yaml names.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show how the running service stands: connections, lists, tokens, journal, and every job with its next time.

    Exit status 1 if none runs or no instrument comes.
    """
    from rich.console import Console

    from ingest.connection import Status
    from kitelake.config import data_folder
    from kitelake.telemetry import is_running, read_status
    from kitelake.views import render_status
    from storage.layout import DataLayout

    folder = data or data_folder(config)
    now = dt.datetime.now(IST)
    told = read_status(DataLayout(folder))
    if told is None:
        typer.echo(f"no service has captured into {folder} yet: `kitelake run` starts one", err=True)
        raise typer.Exit(1)
    if as_json:
        sys.stdout.write(told.model_dump_json(indent=2) + "\n")
    else:
        Console().print(render_status(told, now))
    raise typer.Exit(0 if is_running(told, now) and told.health.status is not Status.CRITICAL else 1)


def report(
    config: ConfigOption = DEFAULT_CONFIG,
    data: Annotated[Path | None, typer.Option(help="The data folder; else the one that config.yaml names.")] = None,
    date: Annotated[
        dt.date | None,
        typer.Option(parser=parse_date, metavar=DATE_METAVAR, help="YYYY-MM-DD, today (the default) or yesterday."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Report a day, up to now: what was wanted, what ticked, what was missed. Exit status 1 if it has problems."""
    from rich.console import Console

    from kitelake.config import data_folder
    from kitelake.errors import ReportError
    from kitelake.report import make_report, read_record
    from kitelake.views import render_report

    folder = data or data_folder(config)
    day = date or dt.datetime.now(IST).date()
    record = read_record(folder, day)
    if record is None:
        raise ReportError(f"nothing was captured into {folder} on {day}: there is no record of that day")
    made = make_report(folder, record)
    if as_json:
        sys.stdout.write(made.model_dump_json(indent=2) + "\n")
    else:
        Console().print(render_report(made))
    raise typer.Exit(1 if made.problems else 0)


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


COMMANDS: Final = (capture, plan, check, status, report, login)
