"""A replay in a terminal: a day and a broker on paper, served until that is ended, with a line that says where it is,
and keys that lead it."""

import asyncio
import contextlib
import datetime as dt
import math
import os
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import pyarrow as pa
from rich.console import Console
from rich.live import Live
from rich.text import Text

from kitelake.lake import Lake
from kitelake.paper import PaperBroker, PaperSettings
from kitelake.replay.candles import LakeCandles
from kitelake.replay.control import ReplaySettings, shown_speed
from kitelake.replay.day import ReplayDay
from kitelake.replay.server import ReplayServer
from kitelake.strategy import exit_status, start_strategy
from queries.history import Symbols
from queries.quality import Candles
from storage.clock import IST, US_PER_SECOND, time_of, us_of

LOOK_SECONDS: Final = 0.25
ENDING_SECONDS: Final = 2.0
"""So long after the end of the day, and after each signal, a strategy is waited for."""
HELD_SECONDS: Final = 10.0
MINUTE_US: Final = 60 * US_PER_SECOND


class Replay:
    """A day of a lake, a server for it, and orders on paper: what `kitelake replay` is."""

    def __init__(
        self,
        lake: Lake,
        date: dt.date,
        *,
        symbols: Symbols | None = None,
        start: dt.time | None = None,
        stop: dt.time | None = None,
        now: bool = False,
        settings: ReplaySettings,
        paper: PaperSettings,
        candles: Mapping[str, Sequence[Candles]] | None = None,
    ) -> None:
        """The instruments and hours of the day are all that were captured, or these. With `now`, times in packets and
        orders are later by what lies between the first packet and this moment. `candles` of the days before are by
        symbol, each in a form that `Lake.compare` takes.

        Raises ReplayError if the day has no ticks, SymbolError, CandlesError, PaperError.
        """
        shift_us = 0
        if now:
            first_us = ReplayDay(lake, date, symbols, start, stop).first_us
            shift_us = (us_of(dt.datetime.now(IST)) - first_us) // US_PER_SECOND * US_PER_SECOND
        day = ReplayDay(lake, date, symbols, start, stop, shift_us)

        def make_broker(server: ReplayServer) -> PaperBroker:
            now_us = server.clock.now_us
            answers = LakeCandles(lake, day.listed, now_us, candles)
            return PaperBroker(
                paper, day.listed, snapshot=server.snapshot, clock=now_us, shift_us=shift_us, candles=answers
            )

        self.server = ReplayServer(settings, day, make_broker)

    def play(self, ready: Callable[[dict[str, str]], object], strategy: Sequence[str] = ()) -> int:
        """See `play`; `ready` is called with the roots, `ws`, `api` and `control`. From the main thread."""
        return asyncio.run(play(self.server, lambda: ready(self.server.urls), strategy))

    def tables(self) -> dict[str, pa.Table]:
        """`orders`, `trades`, `positions` and `equity` of all accounts. It is their end, wherever the day is: what is
        open is cancelled."""
        assert self.server.broker is not None
        self.server.broker.close()
        return self.server.broker.tables()


async def play(server: ReplayServer, ready: Callable[[], object], strategy: Sequence[str] = ()) -> int:
    """Serve until Ctrl-C, SIGTERM or `q`; or, with a `strategy`, a script and its arguments, until that has ended.

    A strategy that has not ended some seconds after the day is sent Ctrl-C, then SIGTERM, and killed at last. Returns
    the exit status: that of the strategy if it ended by itself, else 0. `ready` is called when the server listens.
    Raises `ServerError`, `GuardError`.
    """
    end = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end.set)
    async with server:
        ready()
        if strategy:
            return await _beside(server, strategy, end)
        with _keys(server, end):
            line = loop.create_task(_show(server))
            try:
                await server.serve_until(end)
            finally:
                line.cancel()
                await asyncio.wait([line])
    return 0


async def _beside(server: ReplayServer, strategy: Sequence[str], end: asyncio.Event) -> int:
    script, *arguments = strategy
    process = await asyncio.to_thread(start_strategy, script, arguments, ws=server.urls["ws"], api=server.urls["api"])
    loop = asyncio.get_running_loop()
    ended = loop.create_task(asyncio.to_thread(process.wait))
    serving = loop.create_task(server.serve_until(end))
    day = loop.create_task(server.ended.wait())
    held = loop.create_task(_tell_held(server))
    try:
        await asyncio.wait([ended, serving, day], return_when=asyncio.FIRST_COMPLETED)
        told = serving.done()
        # A terminal's Ctrl-C reaches the strategy too: a second one at once would break into its cleaning up.
        await asyncio.wait([ended], timeout=ENDING_SECONDS)
        by_itself = ended.done() and not told
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            if ended.done():
                break
            process.send_signal(number)
            await asyncio.wait([ended], timeout=ENDING_SECONDS)
        status = exit_status(await ended)
    finally:
        end.set()
        day.cancel()
        held.cancel()
        if process.poll() is None:
            process.kill()
    await serving
    return status if by_itself else 0


async def _tell_held(server: ReplayServer) -> None:
    """Say whom the clock waits for, once for each, when that takes long: the terminal is the strategy's."""
    told: set[str] = set()
    since = server.clock.now_us(), asyncio.get_running_loop().time()
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        now = server.clock.now_us(), asyncio.get_running_loop().time()
        if now[0] != since[0] or server.paused or server.ended.is_set():
            since = now
        elif now[1] - since[1] > HELD_SECONDS and (line := line_of(server)) not in told:
            told.add(line)
            Console(stderr=True, highlight=False).print(f"kitelake: the market's clock stands: {line}", soft_wrap=True)


async def _show(server: ReplayServer) -> None:
    """The line, as long as standard error is a terminal."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        return
    with Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(Text(line_of(server), no_wrap=True, overflow="ellipsis"), refresh=True)
            await asyncio.sleep(LOOK_SECONDS)


def line_of(server: ReplayServer) -> str:
    """Where the replay is."""
    status = server.status()
    now = time_of(server.clock.now_us())
    waits = status["waits_for"]
    if waits is not None:
        wanted = [f"{count} {what}" for what, count in waits.items() if count]
        state = f"waits for {' and '.join(wanted)}"
    elif status["ended"]:
        state = "at its end"
    elif status["paused"]:
        state = "paused"
    elif status["held_by"]:
        state = f"waits for {', '.join(status['held_by'])}"
    else:
        state = f"×{status['speed']:g}" if isinstance(status["speed"], float) else f"×{status['speed']}"
    clients = len(status["clients"])
    return (
        f"{now:%Y-%m-%d %H:%M:%S} IST  {state}  {clients} client{'s' * (clients != 1)}  "
        f"{status['packets']:,} packets sent"
    )


@contextlib.contextmanager
def _keys(server: ReplayServer, end: asyncio.Event) -> Iterator[None]:
    """Obey keys while the context lasts, if standard input is a terminal."""
    if not sys.stdin or not sys.stdin.isatty():
        yield
        return
    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    loop = asyncio.get_running_loop()
    tty.setcbreak(number)
    tasks: set[asyncio.Task[None]] = set()

    def pressed() -> None:
        for key in os.read(number, 16).decode("ascii", "ignore"):
            task = loop.create_task(_obey(server, key, end))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    loop.add_reader(number, pressed)
    try:
        yield
    finally:
        loop.remove_reader(number)
        termios.tcsetattr(number, termios.TCSADRAIN, before)


async def _obey(server: ReplayServer, key: str, end: asyncio.Event) -> None:
    clock = server.clock
    match key:
        case " ":
            await server.control("POST", "resume" if server.paused else "pause", {})
        case "+" | "-":
            usual = 1.0 if math.isinf(clock.speed) else clock.speed
            await server.control("POST", "speed", {"speed": usual * 2 if key == "+" else usual / 2})
        case "m":
            await server.control("POST", "speed", {"speed": shown_speed(math.inf)})
        case ">":
            await server.control("POST", "seek", {"to": min(clock.now_us() + MINUTE_US, clock.stop_us)})
        case "r":
            await server.control("POST", "reset", {})
        case "q":
            end.set()
