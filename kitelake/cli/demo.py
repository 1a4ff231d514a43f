"""`kitelake demo`: capture a simulated market, account for every tick, and show what can be asked of it."""

import asyncio
import os
import shutil
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

import kitelake
from kitelake.config import load_config
from kitelake.drawing import draw
from kitelake.errors import ConfigError
from kitelake.processes import Source
from kitelake.service import Progress, Service, capture
from kitelake.views import render
from queries.lake import SqlLake

_REFRESH_SECONDS = 0.25
_RATE_WINDOW_SECONDS = 5.0
_PLAIN_LINE_SECONDS = 5.0
_SEGMENT_SECONDS = 10.0  # shorter than usual, so that rows are committed while one looks

QUERIES = (
    (
        "The most active names",
        """\
select symbol, count(*) as ticks, last(last_price order by seq) as price,
       max(volume_traded) as volume
from ticks where stream = $stream and exchange = 'NSE'
group by symbol order by ticks desc, symbol limit 8""",
    ),
    (
        "One-minute bars of the most active one",
        """\
select time, open, high, low, close, volume, volume_missed as missed, vwap, ticks
from bars($symbol, width := '1 minute') order by time desc limit 5""",
    ),
    (
        "Its best bid and ask",
        """\
select received_at, bid_quantity_1 as bids, bid_price_1 as bid,
       ask_price_1 as ask, ask_quantity_1 as asks, last_price as last
from ticks where stream = $stream and symbol = $symbol
order by seq desc limit 5""",
    ),
)
PRICES = "select received_at, last_price from ticks where stream = $stream and symbol = $symbol order by seq"


@dataclass
class Outcome:
    """What a demo run ended with."""

    stream: str = ""
    sent: int = 0
    progress: Progress = field(default_factory=Progress)


class _Console(Console):
    """Where nobody reads any more, rich would end the process; the service has to be stopped first."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def run_demo(config_path: Path, seconds: float) -> int:
    """Run the whole demo. Returns the exit status: 0 if every packet that was sent is one row of the table.

    Raises `ConfigError` if config.yaml has no simulator, and whatever `capture` raises.
    """
    config = load_config(config_path)
    if config.simulator is None:
        raise ConfigError(
            "the demo needs the `simulator` section of config.yaml, and yours has none: use `kitelake run`"
        )
    console = _Console()
    console.print(
        f"\n[bold]Kitelake {kitelake.__version__}[/] captures a simulated market of {config.simulator.instruments:,} "
        f"instruments for {seconds:g} seconds, on {len(config.accounts)} accounts, into {_short(config.data)}\n",
        soft_wrap=True,
    )
    shown = config.model_copy(
        update={
            "log": config.log.model_copy(update={"level": "warning"}),
            "journal": config.journal.model_copy(update={"segment_seconds": _SEGMENT_SECONDS}),
        }
    )
    outcome = Outcome()

    async def watch(service: Service, source: Source, stop: asyncio.Event) -> None:
        await _show_progress(console, service, stop, seconds)
        outcome.stream, outcome.progress = service.stream, service.progress()
        async with httpx.AsyncClient() as client:
            outcome.sent = (await client.get(f"{source.control}/stats")).raise_for_status().json()["packets"]

    try:
        capture(shown, watch=watch)
        with kitelake.open(config.data) as lake:
            equal = report(console, lake, outcome)
            if equal:
                _show_queries(console, lake, outcome.stream)
        _say_what_next(console, config_path)
    except BrokenPipeError:  # nobody reads any more, as in `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0 if equal else 1


async def _show_progress(console: Console, service: Service, stop: asyncio.Event, seconds: float) -> None:
    """Draw the service's progress, on a pipe as a line every few seconds, and end it `seconds` after the first tick."""
    began: float | None = None
    history: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])
    next_line = 0.0
    with Live(console=console, refresh_per_second=1 / _REFRESH_SECONDS, transient=False) as live:
        while True:
            ended = service.finished.is_set()
            progress, now = service.progress(), time.monotonic()
            began = began or (now if progress.packets else None)
            if began and now - began >= seconds:
                stop.set()
            history.append((now, progress.packets))
            while now - history[0][0] > _RATE_WINDOW_SECONDS:
                history.popleft()
            rate = (progress.packets - history[0][1]) / max(now - history[0][0], _REFRESH_SECONDS)
            stage = "done" if ended else "draining" if stop.is_set() else "capturing" if began else "starting"
            elapsed = min(now - began, seconds) if began else 0.0
            if console.is_terminal:
                live.update(_panel(progress, rate, stage, elapsed, seconds))
            elif ended or now >= next_line:
                next_line = now + _PLAIN_LINE_SECONDS
                console.print(_line(progress, rate, stage), soft_wrap=True)
            if ended:
                return
            await asyncio.sleep(_REFRESH_SECONDS)


def _facts(progress: Progress, rate: float) -> dict[str, str]:
    lag = progress.committed.lag_seconds
    return {
        "connections": f"{progress.connected} of {progress.connections}",
        "instruments": f"{progress.instruments:,}",
        "ticks/s": f"{rate:,.0f}",
        "ticks received": f"{progress.packets:,}",
        "rows committed": f"{progress.committed.rows:,}",
        "lag of the table": "-" if lag is None else f"{lag:.1f} s",
        "journal": f"{progress.journal_bytes / 2**20:,.1f} MiB",
    }


def _line(progress: Progress, rate: float, stage: str) -> str:
    return f"{stage:9}  " + "  ".join(f"{name} {value}" for name, value in _facts(progress, rate).items())


def _panel(progress: Progress, rate: float, stage: str, elapsed: float, seconds: float) -> RenderableType:
    facts = Columns(
        [Text.assemble((f"{name:18}", "dim"), f"{value:>12}") for name, value in _facts(progress, rate).items()],
        padding=(0, 3),
    )
    bar = Table.grid(expand=True)
    bar.add_row(ProgressBar(total=seconds, completed=elapsed))
    return Panel(Group(bar, "", facts), title=f"{stage} · {elapsed:.0f} of {seconds:.0f} s", width=72, padding=(1, 2))


def report(console: Console, lake: SqlLake, outcome: Outcome) -> bool:
    """Print the account of the run. Returns whether sent, received and stored are equal."""
    stored = lake.sql("select count(*) as n from ticks where stream = $stream", {"stream": outcome.stream})
    rows: int = stored.arrow()["n"][0].as_py()
    progress = outcome.progress
    equal = outcome.sent == progress.packets == rows and rows > 0
    table = Table(
        title="Every tick accounted for" if equal else "Ticks are missing", title_justify="left", show_header=False
    )
    table.add_column()
    table.add_column(justify="right")
    verdict = "[green]equal[/]" if equal else "[red]NOT equal[/]"
    for name, value in (
        ("packets sent by the simulator", f"{outcome.sent:,}"),
        ("packets received", f"{progress.packets:,}"),
        ("rows in the table", f"{rows:,}"),
        ("", verdict),
        ("bytes a tick on the wire", f"{progress.received_bytes / max(progress.packets, 1):.1f}"),
        ("bytes a tick on disk", f"{progress.committed.file_bytes / max(rows, 1):.1f}"),
    ):
        table.add_row(name, value)
    console.print()
    console.print(table)
    return equal


def _show_queries(console: Console, lake: SqlLake, stream: str) -> None:
    parameters = {"stream": stream}
    for title, query in QUERIES:
        console.print()
        console.print(Rule(f"[bold]{title}", align="left"))
        console.print(Syntax(query, "sql", theme="ansi_dark", background_color="default", word_wrap=True))
        used = {name: value for name, value in parameters.items() if f"${name}" in query}
        result = lake.sql(query, used)
        console.print(render(result))
        if "symbol" not in parameters:
            parameters["symbol"] = result.head(1)["symbol"][0].as_py()
    prices = lake.sql(PRICES, parameters).arrow()
    console.print()
    console.print(Rule(f"[bold]{parameters['symbol']}", align="left"))
    console.print(
        draw(prices["received_at"].to_pylist(), prices["last_price"].to_pylist(), width=min(console.width, 90))
    )


def _say_what_next(console: Console, config_path: Path) -> None:
    command = _command()
    console.print()
    console.print(Rule("[bold]What next", align="left"))
    for step, why in (
        (f'{command} sql "from ticks limit 5"', "query what was captured"),
        (f"{command} run", "capture until Ctrl-C; query it meanwhile"),
        (_short(config_path), "the comments (1), (2), (3) say what to change for a real account"),
        ("README.md", "the first queries, and where to read on"),
    ):
        console.print(Text.assemble(step, (f"\n    {why}", "dim")), soft_wrap=True)


def _command() -> str:
    """What was typed to start this, as far as it is known."""
    started = Path(sys.argv[0]).absolute()
    if started.name != "__main__.py":
        return _short(started)
    python = Path(sys.executable)
    names = [name for name in ("python", "python3") if shutil.which(name) == str(python)]
    return f"{names[0] if names else _short(python)} -m {started.parent.name}"


def _short(path: Path) -> str:
    """The path as one would type it from here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
