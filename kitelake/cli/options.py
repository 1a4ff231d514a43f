"""Options that several commands have, and how their texts are read.

Every command's module is loaded before the first one runs, `kitelake --version` included. So these modules import at
their head nothing but typer and what costs as little; what a command works with, it imports itself.
"""

import contextlib
import datetime as dt
import re
import threading
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperCommand

from kitelake.errors import AskError
from storage.clock import IST

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import RenderableType

    from kitelake.lake import Lake, Result
    from queries.history import Symbol

    Drawing = Callable[[Lake, Result], int]


DEFAULT_CONFIG: Final = Path("config.yaml")
DATE_METAVAR: Final = "DATE"
MOMENT_METAVAR: Final = "TIME"
FIRST_DATE: Final = dt.date(2000, 1, 1)
LAST_DATE: Final = dt.date(2099, 12, 31)
TERMINAL: Final = "-"
"""The value of --plot without a file."""
_NEAR: Final = re.compile(r"near(\d*):(.*)")
_CLOCK: Final = re.compile(r"\d{1,2}:\d{2}(:\d{2}(\.\d{1,6})?)?")
_FILE_NAME: Final = re.compile(r"-|\S+\.[A-Za-z]{2,5}|.+\.(?i:png|svg|html)")


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
StartOption = Annotated[
    str | None,
    typer.Option(
        metavar=MOMENT_METAVAR,
        help="From then on, in IST: '2026-11-24 09:15', a date for that day, or 09:15 on the newest day. By default "
        "the newest day that was captured.",
    ),
]
StopOption = Annotated[str | None, typer.Option(metavar=MOMENT_METAVAR, help="Up to then; alone, all until then.")]
FormatOption = Annotated[Format, typer.Option("--format", "-f", help="How to print the result.")]
OutputOption = Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file.")]
WatchOption = Annotated[bool, typer.Option("--watch", help="Keep it up to date in the terminal, until Ctrl-C.")]
EveryOption = Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="How often, with --watch.")]
JsonOption = Annotated[bool, typer.Option("--json", help="As JSON.")]
PlotOption = Annotated[
    str | None,
    typer.Option(
        "--plot",
        metavar="[FILE]",
        help="Draw it: in the terminal, or into a file that ends in .png, .svg or .html.",
        show_default=False,
    ),
]
DarkOption = Annotated[bool, typer.Option("--dark", help="A picture for dark pages.")]


class PlotCommand(TyperCommand):
    """A command whose `--plot` may have a file behind it, or not: what does not look like a file's name is not one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Complete the arguments before they are read as usual."""
        ends = args.index("--") if "--" in args else len(args)
        completed = [
            f"--plot={TERMINAL}" if arg == "--plot" and place < ends and not _FILE_NAME.fullmatch(following) else arg
            for place, (arg, following) in enumerate(zip(args, [*args[1:], ""], strict=True))
        ]
        return super().parse_args(ctx, completed)


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


def symbols_of(texts: Sequence[str]) -> "list[Symbol]":
    """What the arguments mean."""
    return [_symbol_of(text) for text in texts]


def _symbol_of(text: str) -> "Symbol":
    from queries.history import Near

    if text.isdecimal():
        return int(text)
    found = _NEAR.fullmatch(text)
    return text if found is None else Near(found[2], int(found[1] or 1))


def newest_day(lake: "Lake") -> dt.date:
    """The newest day of which there are ticks; today if there is none."""
    return max(lake.look().dates("ticks"), default=parse_date("today"))


def moment_of(lake: "Lake", text: str | None) -> str | None:
    """The text as the methods read it: they know no `today`, and no time without a day."""
    if text in ("today", "yesterday", "tomorrow"):
        return str(parse_date(text))
    if text is not None and _CLOCK.fullmatch(text):
        return f"{newest_day(lake)} {text:0>{len(text) + (text.index(':') == 1)}}"
    return text


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


def drawing_of(
    plot: str | None,
    dark: bool,
    output_format: Format,
    output: Path | None,
    gaps: "Callable[[Lake, pa.Table], pa.Table | None]" = lambda _lake, _rows: None,
    definition: str | None = None,
) -> "Drawing | None":
    """What --plot asks for. `gaps` are those to be shaded behind the rows. Raises AskError beside another form."""
    if plot is None:
        return None
    if output_format is not Format.TABLE or output is not None:
        raise AskError("--plot takes no --format and no --output: to write a picture, --plot FILE.png, .svg or .html")
    from queries.pictures import is_picture

    path = None if plot == TERMINAL else Path(plot)
    if path is not None and not is_picture(path):
        raise AskError(f"--plot: got {plot}, expected a name that ends in .png, .svg or .html")

    def drawing(lake: "Lake", result: "Result") -> int:
        from kitelake.drawing import write_drawing
        from kitelake.views import check_output

        check_output(path, lake.root)
        rows = result.arrow()
        return write_drawing(rows, path, dark=dark, gaps=gaps(lake, rows), definition=definition)

    return drawing


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
