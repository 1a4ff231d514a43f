"""Options that several commands have, and how their texts are read.

Every command's module is loaded before the first one runs, `kitelake --version` included. So these modules import at
their head nothing but typer and what costs as little; what a command works with, it imports itself.
"""

import contextlib
import datetime as dt
import threading
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from storage.clock import IST

if TYPE_CHECKING:
    from rich.console import RenderableType

DEFAULT_CONFIG: Final = Path("config.yaml")
DATE_METAVAR: Final = "DATE"
FIRST_DATE: Final = dt.date(2000, 1, 1)
LAST_DATE: Final = dt.date(2099, 12, 31)


class Format(StrEnum):
    """How a result is printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    ARROW = "arrow"
    PARQUET = "parquet"


ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="The configuration file.", envvar="KITELAKE_CONFIG")]
DataOption = Annotated[Path | None, typer.Option(help="The data folder; else the one that config.yaml names.")]
InstrumentsOption = Annotated[
    Path | None, typer.Option("--instruments", help="The broker's CSV to go by, instead of the newest stored list.")
]
FormatOption = Annotated[Format, typer.Option("--format", "-f", help="How to print the result.")]
OutputOption = Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file.")]
WatchOption = Annotated[bool, typer.Option("--watch", help="Keep it up to date in the terminal, until Ctrl-C.")]
EveryOption = Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="How often, with --watch.")]
JsonOption = Annotated[bool, typer.Option("--json", help="As JSON.")]


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


def parse_time(text: str) -> dt.time:
    """A time of day in IST. Raises typer.BadParameter."""
    from storage.market import time_of_day

    try:
        return time_of_day(text)
    except ValueError:
        raise typer.BadParameter("expected HH:MM, such as 15:35, in IST") from None


def data_of(config: Path, data: Path | None) -> Path:
    """The data folder that an option names, or else config.yaml. Raises ConfigError."""
    if data is not None:
        return data
    from kitelake.config import data_folder

    return data_folder(config)


def keep_watching(
    page: "Callable[[int], RenderableType]", seconds: float, interrupt: Callable[[], None] = lambda: None
) -> None:
    """Keep a page up to date in the terminal, as `views.watch` does, until Ctrl-C, which leaves its last state."""
    from kitelake.shell import until_interrupted
    from kitelake.views import watch

    ended = threading.Event()

    def end() -> None:
        ended.set()
        interrupt()

    with contextlib.suppress(KeyboardInterrupt):
        until_interrupted(lambda: watch(page, seconds, ended), end)
